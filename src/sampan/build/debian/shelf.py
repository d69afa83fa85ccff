"""Kept downloads: files whose content is checked whenever they are read, so a torn one costs a download and no more."""

import os
import threading


def read(path: str, limit_bytes: int) -> bytes | None:
    """Return what is kept at `path`, one byte past the limit at the most; None where nothing is."""
    try:
        with open(path, "rb") as file:
            return file.read(limit_bytes + 1)
    except FileNotFoundError:
        return None


def keep(path: str, content: bytes) -> None:
    """Keep `content` at `path`; visible to others at once, whole. Several processes and threads may do so together."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
