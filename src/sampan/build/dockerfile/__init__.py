"""Dockerfiles: text to statements to typed instructions to a build graph, and what is wrong with them. Pure, no I/O.

Implements the Dockerfile reference as BuildKit reads it. Imports graph, ignore patterns and pure values only.
"""
