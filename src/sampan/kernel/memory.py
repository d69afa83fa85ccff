"""Memory that a process which waits can do without: the pages of code that it has mapped. Hot path.

A page of a program's file is in the page cache; that this process maps it too counts as its memory and gains it nothing
while it sleeps. madvise(2) with MADV_DONTNEED lets go of such pages, and a touch brings them back. Only pages that
nobody has written to may go: relocated data would be lost, so a mapping with one anonymous page in it stays.

Through `_ctypes`, which the standard library's ctypes stands on: the package itself would cost as much as half of what
is let go.
"""

import _ctypes

# asm-generic/mman-common.h
_MADV_DONTNEED = 4


class _Word(_ctypes._SimpleCData):  # type: ignore[type-arg]  # not subscriptable at run time
    """A pointer or a size: a plain int would be passed as a C int."""

    _type_ = "P"


_found: list[tuple[_Word, _Word, int]] = []


def drop_code() -> None:
    """Let go of this process's pages of code and constants, as far as the kernel lets us."""
    try:
        if not _found:
            _found.extend(_mappings())
        madvise = _ctypes.dlsym(_ctypes.dlopen(None, 0), "madvise")  # type: ignore[arg-type]  # None is the process itself
        for arguments in _found:
            _ctypes.call_cdeclfunction(madvise, arguments)
    except (OSError, AttributeError):
        return  # larger, and no worse


def _mappings() -> list[tuple[_Word, _Word, int]]:
    """Return address, size and advice for each mapping of a file that is read or executed only (proc_pid_smaps(5))."""
    found = []
    address = b""
    with open("/proc/self/smaps", "rb") as file:
        for line in file:
            words = line.split()
            if words[0] == b"Anonymous:":
                if address and words[1] == b"0":
                    start, _, end = address.partition(b"-")
                    first = int(start, 16)
                    found.append((_Word(first), _Word(int(end, 16) - first), _MADV_DONTNEED))
            elif b"-" in words[0]:
                is_code = len(words) > 5 and words[1] in (b"r-xp", b"r--p") and words[5].startswith(b"/")
                address = words[0] if is_code else b""
    return found
