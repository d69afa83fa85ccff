"""The dynamic linker's cache, etc/ld.so.cache, as ldconfig would write it (glibc, sysdeps/generic/dl-cache.h). Pure.

The linker itself finds Debian's libraries without one, but `ctypes.util.find_library` asks `ldconfig -p`, which only
reads this file. Names are taken from the files: a versioned link is the soname of what it points to.
"""

import struct
from collections.abc import Iterable
from functools import cmp_to_key

_MAGIC = b"glibc-ld.so.cache1.1"
_LITTLE_ENDIAN = 2
# FLAG_ELF_LIBC6 with FLAG_X8664_LIB64 or FLAG_AARCH64_LIB64.
FLAGS = {"amd64": 0x0303, "arm64": 0x0A03}
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")


def cache(libraries: Iterable[tuple[str, str | None]], directory: str, architecture: str) -> bytes:
    """Return the cache for `libraries` of `directory` (absolute): (name, target where it is a link)."""
    names = dict(libraries)
    targets = {target for target in names.values() if target}
    sonames = [name for name, target in names.items() if ".so." in name and (target or name not in targets)]
    # The linker searches in halves, the greatest name first (dl-cache.c, _dl_cache_libcmp).
    ordered = sorted(sonames, key=cmp_to_key(_compare), reverse=True)
    start = _HEADER.size + _ENTRY.size * len(ordered)
    strings = b""
    entries = b""
    for name in ordered:
        key = start + len(strings)
        strings += name.encode() + b"\0"
        value = start + len(strings)
        strings += f"{directory}/{name}".encode() + b"\0"
        entries += _ENTRY.pack(FLAGS[architecture], key, value, 0, 0)
    return _HEADER.pack(_MAGIC, len(ordered), len(strings), _LITTLE_ENDIAN, 0) + entries + strings


def _compare(left: str, right: str) -> int:
    """Compare as _dl_cache_libcmp does: runs of digits as numbers, and a digit after anything else."""
    i = j = 0
    while i < len(left):
        one, other = left[i], right[j : j + 1]
        if one.isdigit():
            if not other.isdigit():
                return 1
            first, i = _number(left, i)
            second, j = _number(right, j)
            if first != second:
                return first - second
        elif other.isdigit():
            return -1
        elif one != other:
            return ord(one) - (ord(other) if other else 0)
        else:
            i, j = i + 1, j + 1
    return -1 if j < len(right) else 0


def _number(text: str, start: int) -> tuple[int, int]:
    end = start
    while end < len(text) and text[end].isdigit():
        end += 1
    return int(text[start:end]), end
