"""The seccomp compiler: what it forbids is forbidden by the kernel. Its programs are proved in test_seccomp_equal."""

import errno
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sampan.errors import InvalidArgument
from sampan.kernel import seccomp, seccomp_default, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.document import Document

pytestmark = [pytest.mark.first]

_AUDIT = {"x86_64": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7}
_DOCKER_CAPABILITIES = ("CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_MKNOD")
_KILL_PROCESS, _ALLOW, _ENOSYS = 0x80000000, 0x7FFF0000, 0x50000 | errno.ENOSYS


def _run(program: bytes, number: int, audit: int, arguments: tuple[int, ...] = ()) -> int:
    """Interpret a classic BPF program as the kernel does, on one system call; return its outcome."""
    padded = arguments + (0,) * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            at += value
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize("operator", ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
def test_each_comparison_is_made_on_64_bits(operator: str) -> None:
    """Every operator agrees with Python's integers on values that differ in either half."""
    value, second = (0x1_0000_0002, 0) if operator != "MASKED_EQ" else (0xFF_0000_00F0, 0x12_0000_0030)
    rule = {
        "names": ["getpid"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 2, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}],
    }
    program = seccomp.compile({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [rule]}, machine="x86_64")
    truths: dict[str, Callable[[int], bool]] = {
        "NE": lambda x: x != value,
        "LT": lambda x: x < value,
        "LE": lambda x: x <= value,
        "EQ": lambda x: x == value,
        "GE": lambda x: x >= value,
        "GT": lambda x: x > value,
        "MASKED_EQ": lambda x: x & value == second,
    }
    for high in (0, 1, 2, 0x12, 0xFFFFFFFF):
        for low in (0, 1, 2, 3, 0x30, 0x31, 0xFFFFFFFF):
            found = _run(program, 39, _AUDIT["x86_64"], (0, 0, high << 32 | low))
            assert (found == _ALLOW) is truths[operator](high << 32 | low), (high, low)


def test_other_tables_do_not_pass() -> None:
    """An x32 number is ENOSYS, another architecture kills; clone3 is ENOSYS so that libc falls back to clone."""
    program = seccomp.compile(seccomp.resolve(seccomp_default.DOCUMENT, (), machine="x86_64"), machine="x86_64")
    assert _run(program, 0x40000000 | 39, _AUDIT["x86_64"]) == _ENOSYS
    assert _run(program, 39, _AUDIT["aarch64"]) == _KILL_PROCESS
    assert _run(program, 435, _AUDIT["x86_64"]) == _ENOSYS
    assert _run(program, 39, _AUDIT["x86_64"]) == _ALLOW


def test_the_other_machine_compiles() -> None:
    """The default profile for aarch64: getpid passes, mount is EPERM."""
    program = seccomp.compile(seccomp.resolve(seccomp_default.DOCUMENT, (), machine="aarch64"), machine="aarch64")
    assert _run(program, 172, _AUDIT["aarch64"]) == _ALLOW
    assert _run(program, 40, _AUDIT["aarch64"]) == 0x50000 | errno.EPERM


def test_a_warm_start_reads_the_program_from_its_cache(tmp_path: Path) -> None:
    """The second call reads what the first has written; a broken file is made again."""
    cache = str(tmp_path / "seccomp")
    first = seccomp.program(cache, _DOCKER_CAPABILITIES)
    (file,) = Path(cache).iterdir()
    assert file.read_bytes() == first == seccomp.program(cache, _DOCKER_CAPABILITIES)
    file.write_bytes(first[:5])
    assert seccomp.program(cache, _DOCKER_CAPABILITIES) == first
    assert seccomp_default.VERSION == seccomp._DEFAULT_VERSION


@pytest.mark.root
def test_the_kernel_enforces_it(tmp_path: Path) -> None:
    """With the filter loaded unshare of a user namespace is EPERM although we are root; without it is not."""
    program = seccomp.program(str(tmp_path), _DOCKER_CAPABILITIES)
    assert _status_of_unshare(None) == 0
    assert _status_of_unshare(program) == errno.EPERM


def _status_of_unshare(program: bytes | None) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            if program is not None:
                syscalls.seccomp_load(program)
            syscalls.unshare(syscalls.CLONE_NEWUTS)
        except OSError as error:
            os._exit(error.errno or 99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    ("profile", "what"),
    [
        ({"defaultAction": "SCMP_ACT_NOPE"}, "SCMP_ACT_NOPE"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 3}, "not a list"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [3]}, "not an object"),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "op": "SCMP_CMP_EQ"}]}
                ],
            },
            "no argument 9",
        ),
    ],
)
def test_a_wrong_profile_is_one_clear_error(profile: "Document", what: str) -> None:
    """What a profile file has wrong is named."""
    with pytest.raises(InvalidArgument, match=what):
        seccomp.compile(seccomp.resolve(profile, (), machine="x86_64"), machine="x86_64")
