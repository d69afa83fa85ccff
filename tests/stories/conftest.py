"""What the engine's tests stand on: a busybox image, and what a store holds."""

from tests.engine.conftest import busybox, store

__all__ = ["busybox", "store"]
