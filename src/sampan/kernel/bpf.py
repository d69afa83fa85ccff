"""The device program: which device nodes a cgroup v2 without a user namespace may open and make. bpf(2).

A program of type CGROUP_DEVICE is run at each open and mknod with the kind, access, major and minor numbers of the
device and says 1 or 0. Ours is docker's default list, the same as `devices.allow` has on cgroup v1, and what a person
allowed beside it. An access is a set of bits, and passes where one rule has all of them.
"""

import ctypes
import errno
import os
import struct

from sampan.errors import Unsupported
from sampan.kernel import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/bpf.h
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2
_MKNOD = 1
_ACCESS_BITS = {"m": _MKNOD, "r": 2, "w": 4}
_KINDS = {"b": 1, "c": 2}
_ANY_ACCESS = 7
# (major, minor): null, zero, full, random, urandom, tty, console, ptmx; any minor of 136, the terminals.
_ALLOWED = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
_KIND_CHARACTER = 2
# Classes and operations of the instruction set: LDX|MEM|W, JMP|JNE|K, ALU64|MOV|K, JMP|EXIT, ALU|RSH|K, ALU|AND|K, …
_LOAD, _JNE, _MOV, _EXIT, _SHIFT, _AND, _COPY = 0x61, 0x55, 0xB7, 0x95, 0x74, 0x54, 0xBC
_JSET = 0x45  # JMP|JSET|K: jump where a bit is set in both
_CONTEXT, _KIND, _ACCESS, _MAJOR, _MINOR = 1, 2, 3, 4, 5  # registers


def attach_device_program(cgroup_fd: int, more: "Iterable[tuple[str, int | None, int | None, str]]" = ()) -> None:
    """Attach the default list and `more` to the cgroup v2 directory `cgroup_fd`; the cgroup keeps it.

    A rule of `more` is (`c`, `b` or `a`, major, minor, access of `rwm`); a number that is None is any. Raises
    Unsupported.
    """
    instructions = _program(more)
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQII", _TYPE_CGROUP_DEVICE, len(instructions) // 8, ctypes.addressof(code),
        ctypes.addressof(license_name), 0, 0, 0, 0, 0,
    )  # fmt: skip
    try:
        program_fd = syscalls.bpf(_PROG_LOAD, attributes)
        try:
            syscalls.bpf(_PROG_ATTACH, struct.pack("=IIII", cgroup_fd, program_fd, _ATTACH_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(program_fd)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.EPERM, errno.ENOSYS}:
            raise Unsupported(
                "this kernel cannot limit the devices of a container without a user namespace",
                hints=("run without `--userns=host`",),
            ) from error
        raise


def _program(more: "Iterable[tuple[str, int | None, int | None, str]]" = ()) -> bytes:
    """Return struct bpf_insn, 8 bytes each. R1 is the context: access_type (kind, access << 16), major, minor."""
    code = [
        _instruction(_LOAD, _KIND, _CONTEXT, offset=0),
        _instruction(_COPY, _ACCESS, _KIND),
        _instruction(_AND, _KIND, value=0xFFFF),
        _instruction(_SHIFT, _ACCESS, value=16),
        _instruction(_LOAD, _MAJOR, _CONTEXT, offset=4),
        _instruction(_LOAD, _MINOR, _CONTEXT, offset=8),
        # Any node may be made; what may be opened is another matter.
        _instruction(_JNE, _ACCESS, offset=2, value=_MKNOD),
        *_answer(1),
    ]
    for major, minor in _ALLOWED:
        checks = [(_KIND, _KIND_CHARACTER), (_MAJOR, major), *([] if minor is None else [(_MINOR, minor)])]
        left = len(checks) + 1
        for at, (register, value) in enumerate(checks):
            code.append(_instruction(_JNE, register, offset=left - at, value=value))
        code += _answer(1)
    for rule in more:
        code += _rule(*rule)
        if rule == ("a", None, None, "rwm"):
            # The kernel refuses a program with instructions that nothing reaches.
            return b"".join(code)
    return b"".join([*code, *_answer(0)])


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> list[bytes]:
    """Return the instructions that say 1 to what one rule allows, and go on otherwise."""
    checks = [(_KIND, _KINDS[kind])] if kind in _KINDS else []
    checks += [(register, n) for register, n in ((_MAJOR, major), (_MINOR, minor)) if n is not None]
    bits = sum(_ACCESS_BITS[letter] for letter in set(access))
    # A forbidden bit among the wanted ones goes on to the next rule.
    left = len(checks) + 1 + (bits != _ANY_ACCESS)
    code = []
    if bits != _ANY_ACCESS:
        code.append(_instruction(_JSET, _ACCESS, offset=left, value=_ANY_ACCESS & ~bits))
        left -= 1
    for at, (register, value) in enumerate(checks):
        code.append(_instruction(_JNE, register, offset=left - at, value=value))
    return code + _answer(1)


def _answer(value: int) -> list[bytes]:
    return [_instruction(_MOV, 0, value=value), _instruction(_EXIT, 0)]


def _instruction(code: int, target: int, source: int = 0, *, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)
