"""Sampan: a daemonless container engine and image builder for Python applications."""
