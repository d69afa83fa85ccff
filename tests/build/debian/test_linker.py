"""The linker's cache: ldconfig reads what we write."""

import os
import shutil
import subprocess

import pytest

from sampan.build.debian import linker

pytestmark = [pytest.mark.first]

LDCONFIG = shutil.which("ldconfig", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
LIBRARIES = [
    ("libc.so.6", None), ("libz.so.1", "libz.so.1.3.1"), ("libz.so.1.3.1", None), ("libz.so", "libz.so.1.3.1"),
    ("ld-linux-x86-64.so.2", None), ("libstdc++.so.6", "libstdc++.so.6.0.33"), ("libstdc++.so.6.0.33", None),
    ("libssl.so.3", None), ("libm.so.6", None), ("libm-2.so.10", None), ("libm-2.so.9", None), ("libabc.so.2", None),
]  # fmt: skip


@pytest.mark.skipif(LDCONFIG is None, reason="there is no ldconfig to read it")
def test_ldconfig_reads_it(place: str) -> None:
    """`ldconfig -p` lists every soname with its path: links by versioned names, files that none points to."""
    with open(f"{place}/ld.so.cache", "wb") as file:
        file.write(linker.cache(LIBRARIES, "/usr/lib/x86_64-linux-gnu", "amd64"))
    done = subprocess.run([str(LDCONFIG), "-C", file.name, "-p"], capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in done.stdout.splitlines()[1:] if "=>" in line]
    assert sorted(listed) == sorted(
        name for name, _ in LIBRARIES if name not in {"libz.so", "libz.so.1.3.1", "libstdc++.so.6.0.33"}
    )
    assert "libz.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libz.so.1" in done.stdout


def test_order() -> None:
    """Names go from the greatest down, runs of digits as numbers, since the linker searches in halves."""
    content = linker.cache(LIBRARIES, "/usr/lib", "amd64")
    assert content.index(b"libm-2.so.10\0") < content.index(b"libm-2.so.9\0")
    assert content.index(b"libz.so.1\0") < content.index(b"libabc.so.2\0")
