#!/usr/bin/env python3
"""Make the busybox root file system that tests and benches run, keep it under .cache/, and print its path.

The package comes from the machine's own apt and is unpacked, never installed. The tar is the same each time: sorted,
with fixed owners and times.
"""

import fcntl
import glob
import io
import os
import subprocess
import sys
import tarfile
import tempfile

CACHE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), ".cache", "busybox")
DIRECTORIES = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700, "sys": 0o555}
DIRECTORIES |= {"tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "var": 0o755, "var/tmp": 0o1777}
FILES = {
    "etc/group": "root:x:0:\ntty:x:5:\nusers:x:1000:user\nnogroup:x:65534:\n",
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    ),
}


def _run(*argv: str, cwd: str | None = None) -> str:
    """Run a program and return what it printed; its complaints are shown."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd).stdout


def _download(directory: str) -> str:
    """Fetch the package with apt, whose lists may have to be fetched first, and return the path of the .deb."""
    try:
        _run("apt-get", "-qq", "download", "busybox-static", cwd=directory)
    except subprocess.CalledProcessError:
        _run("apt-get", "-qq", "update")
        _run("apt-get", "-qq", "download", "busybox-static", cwd=directory)
    return glob.glob(f"{directory}/busybox-static_*.deb")[0]


def _entry(name: str, *, mode: int, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return one member of the tar, owned by root, of the epoch."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.linkname = mode, kind, target
    return entry


def _write(tar: tarfile.TarFile, program: str) -> None:
    """Write the whole root file system."""
    for name, mode in sorted(DIRECTORIES.items()):
        tar.addfile(_entry(name, mode=mode, kind=tarfile.DIRTYPE))
    with open(program, "rb") as file:
        contents = {"bin/busybox": (0o755, file.read())}
    contents |= {name: (0o644, text.encode()) for name, text in FILES.items()}
    for name, (mode, content) in sorted(contents.items()):
        entry = _entry(name, mode=mode, kind=tarfile.REGTYPE)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    for applet in sorted(set(_run(program, "--list").split()) - {"busybox"}):
        tar.addfile(_entry(f"bin/{applet}", mode=0o777, kind=tarfile.SYMTYPE, target="busybox"))


def make() -> str:
    """Return the path of the tar, made unless it stands; two at once wait for each other."""
    os.makedirs(CACHE, exist_ok=True)
    path = os.path.join(CACHE, "busybox.tar")
    with open(os.path.join(CACHE, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            # apt drops to its own user for a download, which must be able to enter and write here.
            with tempfile.TemporaryDirectory(prefix="sampan-busybox-", dir="/var/tmp") as scratch:
                os.chmod(scratch, 0o777)  # noqa: S103
                _run("dpkg-deb", "-x", _download(scratch), f"{scratch}/root")
                # Debian 12's package has it in /bin, later ones in /usr/bin.
                (program,) = glob.glob(f"{scratch}/root/**/bin/busybox", recursive=True)
                with tarfile.open(f"{path}.new", "w", format=tarfile.USTAR_FORMAT) as tar:
                    _write(tar, program)
            os.rename(f"{path}.new", path)
    return path


if __name__ == "__main__":
    sys.stdout.write(make() + "\n")
