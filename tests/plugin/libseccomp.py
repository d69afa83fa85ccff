"""libseccomp, which every other container engine compiles its filters with: Debian 13's, unpacked from its package.

Debian 12's knows no call that is younger than 2022; the newer one needs no newer C library. Nothing is installed.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from tests.plugin import debian
from tests.plugin.ground import PROJECT

if TYPE_CHECKING:
    from sampan.document import Document

CACHE = PROJECT / ".cache" / "libseccomp"
SUITE = "trixie"
# linux/audit.h; seccomp.h has the same numbers for its architectures, but for x32's.
AUDIT = {"x86_64": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7}
WORDS = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "x86", "SCMP_ARCH_AARCH64": "aarch64"}
# seccomp.h
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_OPERATORS = ("", "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
_BAD_ARCHITECTURE, _KILL_PROCESS = 2, 0x80000000  # SCMP_FLTATR_ACT_BADARCH
_UNKNOWN = -1  # __NR_SCMP_ERROR


class _Comparison(ctypes.Structure):
    """Struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Libseccomp:
    """The library, used as runc uses it."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.seccomp_init.restype = ctypes.c_void_p

    def number(self, name: str, architecture: str) -> int:
        """Return the number of a call; negative where that architecture has none of that name, or none is known."""
        resolve = self._library.seccomp_syscall_resolve_name_arch
        return int(resolve(ctypes.c_uint32(AUDIT[architecture]), name.encode()))

    def compile(self, profile: "Document") -> bytes:
        """Compile a profile in runtime-spec's form, its first architecture being the machine's own.

        Another architecture than those kills the process, which is what Sampan's programs do.
        """
        library = self._library
        default = _outcome(profile["defaultAction"], profile.get("defaultErrnoRet"))
        context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
        native, *others = (AUDIT[WORDS[word]] for word in profile["architectures"])
        try:
            if native != library.seccomp_arch_native() & 0xFFFFFFFF:
                self._done(library.seccomp_arch_add(context, ctypes.c_uint32(native)))
                self._done(library.seccomp_arch_remove(context, ctypes.c_uint32(0)))
            for audit in others:
                self._done(library.seccomp_arch_add(context, ctypes.c_uint32(audit)))
            self._done(library.seccomp_attr_set(context, _BAD_ARCHITECTURE, ctypes.c_uint32(_KILL_PROCESS)))
            for rule in profile["syscalls"]:
                self._add(context, rule, default)
            return self._export(context)
        finally:
            library.seccomp_release(context)

    def _add(self, context: ctypes.c_void_p, rule: "Document", default: int) -> None:
        outcome = _outcome(rule["action"], rule.get("errnoRet"))
        if outcome == default:
            return  # refused by the library, and passed over by runc
        arguments = [
            _Comparison(
                entry["index"], _OPERATORS.index(entry["op"].removeprefix("SCMP_CMP_")), entry["value"],
                entry.get("valueTwo", 0),
            )
            for entry in rule.get("args") or ()
        ]  # fmt: skip
        is_twice = len({argument.arg for argument in arguments}) < len(arguments)
        for name in rule["names"]:
            number = self._library.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN:
                continue
            for several in [[argument] for argument in arguments] if is_twice else [arguments]:
                self._add_one(context, outcome, number, several)

    def _add_one(self, context: ctypes.c_void_p, outcome: int, number: int, arguments: Sequence[_Comparison]) -> None:
        array = (_Comparison * max(1, len(arguments)))(*arguments)
        add = self._library.seccomp_rule_add_array
        self._done(add(context, ctypes.c_uint32(outcome), number, len(arguments), array))

    def _export(self, context: ctypes.c_void_p) -> bytes:
        fd = os.memfd_create("filter")
        try:
            self._done(self._library.seccomp_export_bpf(context, fd))
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)

    def _done(self, result: int) -> None:
        assert result == 0, f"libseccomp: {errno.errorcode.get(-result, result)}"


def _outcome(action: str, number: int | None) -> int:
    value = _ACTIONS[action]
    return value | (1 if number is None else number) if action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} else value


@pytest.fixture(scope="session")
def libseccomp() -> Libseccomp:
    """Return the library, unpacked unless it is."""
    with debian.once(CACHE, "files") as new:
        if new is not None:
            debian.unpack(("libseccomp2",), new, root=CACHE / "root", suite=SUITE)
    (path,) = CACHE.glob("files/usr/lib/*/libseccomp.so.2")
    return Libseccomp(str(path))
