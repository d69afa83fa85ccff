"""Programs out of Debian's packages, which a signed index vouches for. Nothing is installed.

Packages are Debian 12's, linked against a C library that every later Debian has, unless a newer suite is asked for.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sampan.build.debian import deb, index
from sampan.build.debian.mirror import Mirror
from sampan.events import ignore
from sampan.settings import apt as apts
from sampan.settings.configuration import Settings

SUITE = "bookworm"


@contextmanager
def once(place: Path, name: str) -> Iterator[Path | None]:
    """Yield a new directory that is `place/name` in the end, None where that is there; two at once wait."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (place / name).exists():
            yield None
            return
        new = place / f"{name}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        yield new
        new.rename(place / name)
        shutil.rmtree(place / "root", ignore_errors=True)


def unpack(names: tuple[str, ...], into: Path, *, root: Path, suite: str = SUITE) -> None:
    """Unpack packages into a directory: files, directories and links; `root` is a store for the indexes."""
    for contents, name in _fetched(names, root, suite):
        for header, content in deb.data(contents, name):
            target = into / header.name
            if header.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif header.issym():
                target.symlink_to(header.linkname)
            elif header.isreg():
                target.write_bytes(content)
                target.chmod(header.mode)


def _fetched(names: tuple[str, ...], root: Path, suite_name: str) -> Iterator[tuple[bytes, str]]:
    settings = Settings(os.environ | {"SAMPAN_ROOT": str(root)}, os.geteuid())
    apt = apts.load(settings)
    with Mirror(apt, settings) as mirror:
        suites = index.load(
            apt, mirror, suite=suite_name, architecture=_architecture(), cache=f"{settings.root}/cache/debian",
            clock=time.time, sink=ignore,
        )  # fmt: skip
        for name in names:
            suite = next(suite for suite in suites if suite.find(name))
            package = suite.find(name)
            assert package is not None
            contents = mirror.fetch(suite.root, package.file, limit=package.size_bytes)
            assert hashlib.sha256(contents).hexdigest() == package.sha256
            yield contents, name


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
