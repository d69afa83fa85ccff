"""Seccomp filters: from a profile in docker's or runtime-spec's JSON form to a classic BPF program. seccomp(2).

Theory: `resolve` drops the rules that this machine and the container's capabilities exclude and yields runtime-spec's
form, which runc and crun read too; `compile` turns that into a program. For each architecture of the machine the rules
become intervals of system call numbers with one outcome each, found by a binary tree of jumps (8 comparisons for 450
calls); an outcome that depends on arguments is a run of 64-bit comparisons. A jump reaches 255 instructions, so a
longer one goes through `ja`. Outside the tree: an unknown architecture kills, and an x32 number is ENOSYS, since
those would pass by rules that are written for the 64-bit table.

`program` is what a start calls: compiled programs are kept as files, named by what they depend on, so a warm start
reads 4 KB and parses no profile. INVARIANT: a file in the cache is whole: it is renamed into place.
"""

import os
import struct

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.document import Document

    # One rule of a system call: (index, operator, value, second value) of each argument, and the outcome.
    Rule = tuple[tuple[tuple[int, str, int, int], ...], int]

# linux/seccomp.h
_KILL_PROCESS, _KILL_THREAD, _TRAP, _ERRNO, _TRACE, _LOG, _ALLOW = (
    0x80000000,
    0x00000000,
    0x00030000,
    0x00050000,
    0x7FF00000,
    0x7FFC0000,
    0x7FFF0000,
)
_ACTIONS = {
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_ALLOW": _ALLOW,
}
# linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, …
_LOAD, _JEQ, _JGT, _JGE, _JA, _AND, _RET = 0x20, 0x15, 0x25, 0x35, 0x05, 0x54, 0x06
# struct seccomp_data: nr, arch, instruction_pointer, args[6]; little-endian machines.
_NR, _ARCH, _ARGS = 0, 4, 16
_X32_BIT = 0x40000000
_ENOSYS, _EPERM = 38, 1
# uname(2) machine -> (name of the table, AUDIT_ARCH_* of linux/audit.h, libseccomp's word, docker's word)
_ARCHITECTURES = {
    "x86_64": (("x86_64", 0xC000003E, "SCMP_ARCH_X86_64", "amd64"), ("x86", 0x40000003, "SCMP_ARCH_X86", "x86")),
    "aarch64": (("aarch64", 0xC00000B7, "SCMP_ARCH_AARCH64", "arm64"),),
}
_LONGEST_JUMP = 255
_LONGEST_PROGRAM = 4096  # instructions, BPF_MAXINSNS


# What changes owners and ids: with a single id there is nothing to change them to.
_OWNING = (
    "chown chown32 fchown fchown32 fchownat lchown lchown32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
    "setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid "
    "setuid32"
)


def program(
    cache_directory: str,
    capabilities: tuple[str, ...],
    *,
    machine: str = "",
    profile: "Document | None" = None,
    pretends_owners: bool = False,
) -> bytes:
    """Return the compiled filter for a container with `capabilities`; `profile` None is the default one.

    Reads it from `cache_directory` where it is there, else compiles it (7 ms) and puts it there. With `pretends_owners`
    the default one answers every change of owner or id with success and does nothing, so that installers which run with
    a single id go on. Raises InvalidArgument for a profile that cannot be compiled.
    """
    machine = machine or os.uname().machine
    if profile is not None:
        return compile(resolve(profile, capabilities, machine=machine), machine=machine)
    from sampan.kernel.capability import bits

    # The default profile's version stands in the name through the module's own file, so no digest is needed.
    variant = "-pretending" if pretends_owners else ""
    path = f"{cache_directory}/default-{_DEFAULT_VERSION}-{machine}-{bits(capabilities):x}{variant}.bpf"
    try:
        with open(path, "rb") as file:
            found = file.read(_LONGEST_PROGRAM * 8 + 1)
        if found and len(found) % 8 == 0 and len(found) <= _LONGEST_PROGRAM * 8:
            return found
    except FileNotFoundError:
        pass
    from sampan.kernel import seccomp_default

    resolved = resolve(seccomp_default.DOCUMENT, capabilities, machine=machine)
    if pretends_owners:
        # The last rule without arguments counts; an error number of 0 is success. seccomp(2), SECCOMP_RET_ERRNO
        resolved["syscalls"].append({"names": _OWNING.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": 0})
    compiled = compile(resolved, machine=machine)
    _keep(path, compiled)
    return compiled


# Of seccomp_default: stands here too, so that a warm start need not import it; a test holds them equal.
_DEFAULT_VERSION = 1


def default(capabilities: tuple[str, ...], *, machine: str = "") -> "Document":
    """Return the default profile in runtime-spec's form, for a foreign runtime's config.json."""
    from sampan.kernel import seccomp_default

    return resolve(seccomp_default.DOCUMENT, capabilities, machine=machine)


def resolve(profile: "Document", capabilities: tuple[str, ...], *, machine: str = "") -> "Document":
    """Return `profile` (docker's form or runtime-spec's) in runtime-spec's form for these capabilities and machine."""
    architectures = _architectures(machine)
    words = [docker for _, _, _, docker in architectures]
    kept = []
    for rule in _list(profile, "syscalls"):
        if not isinstance(rule, dict):
            raise InvalidArgument("a rule of the seccomp profile is not an object")
        if not _applies(rule, capabilities, words):
            continue
        entry = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) is not None}
        kept.append({"names": _list(rule, "names") or [rule.get("name", "")], **entry})
    document: Document = {
        "defaultAction": profile.get("defaultAction", ""),
        "architectures": [libseccomp for _, _, libseccomp, _ in architectures],
        "syscalls": kept,
    }
    if profile.get("defaultErrnoRet") is not None:
        document["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return document


def compile(profile: "Document", *, machine: str = "") -> bytes:
    """Compile a resolved profile to a program of struct sock_filter, 8 bytes each; raises InvalidArgument."""
    from sampan.kernel import syscall_table

    default_outcome = _outcome(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    code = [_LD(_ARCH)]
    for table, audit, _, _ in _architectures(machine):
        outcomes = _outcomes(profile, syscall_table.numbers(table), default_outcome)
        body = [_LD(_NR)]
        if table == "x86_64":
            body += [_jump(_JGE, _X32_BIT, 0, 1), _ret(_ERRNO | _ENOSYS)]
        body += _tree(_intervals(outcomes, default_outcome))
        code += [_jump(_JEQ, audit, 1, 0), _instruction(_JA, len(body)), *body]
    code.append(_ret(_KILL_PROCESS))
    if len(code) > _LONGEST_PROGRAM:
        raise InvalidArgument(
            f"the seccomp profile needs {len(code)} instructions; the kernel takes {_LONGEST_PROGRAM}"
        )
    return b"".join(code)


def _architectures(machine: str) -> "tuple[tuple[str, int, str, str], ...]":
    found = _ARCHITECTURES.get(machine or os.uname().machine)
    if found is None:
        raise InvalidArgument(f"there are no system call numbers for the machine `{machine or os.uname().machine}`")
    return found


def _applies(rule: "Document", capabilities: tuple[str, ...], architectures: list[str]) -> bool:
    """Tell whether a rule's `includes` all hold and none of its `excludes` does (docker's profile format)."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if any(name not in capabilities for name in includes.get("caps") or ()):
        return False
    if any(name in capabilities for name in excludes.get("caps") or ()):
        return False
    if includes.get("arches") and not any(name in architectures for name in includes["arches"]):
        return False
    if any(name in architectures for name in excludes.get("arches") or ()):
        return False
    kernel = includes.get("minKernel")
    return kernel is None or _release(os.uname().release) >= _release(str(kernel))


def _release(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return int(major or 0), int(minor or 0)


def _outcome(action: object, errno: object = None) -> int:
    if action not in _ACTIONS:
        raise InvalidArgument(
            f"the seccomp action `{action}` does not exist", hints=(f"there are {', '.join(_ACTIONS)}",)
        )
    value = _ACTIONS[str(action)]
    if value in (_ERRNO, _TRACE):
        return value | (int(str(errno)) if errno is not None else _EPERM) & 0xFFFF
    return value


def _outcomes(
    profile: "Document", numbers: dict[str, int], default_outcome: int
) -> "dict[int, tuple[tuple[Rule, ...], int]]":
    """Return, for each call that has rules: those on arguments, in order, and the outcome when none matches."""
    conditional: dict[int, list[Rule]] = {}
    otherwise: dict[int, int] = {}
    for rule in _list(profile, "syscalls"):
        outcome = _outcome(rule.get("action"), rule.get("errnoRet"))
        arguments = tuple(_argument(entry) for entry in rule.get("args") or ())
        for name in rule["names"]:
            number = numbers.get(name)
            if number is None:
                continue  # of another architecture, or newer than our table
            if arguments:
                conditional.setdefault(number, []).append((arguments, outcome))
            else:
                otherwise[number] = outcome
    return {
        number: (
            # A rule without arguments is wider than any with: libseccomp drops those too.
            () if number in otherwise else tuple(conditional[number]),
            otherwise.get(number, default_outcome),
        )
        for number in {*conditional, *otherwise}
    }


def _argument(entry: "Document") -> tuple[int, str, int, int]:
    operator = str(entry.get("op"))
    if operator not in _COMPARE:
        raise InvalidArgument(f"the seccomp comparison `{operator}` does not exist")
    index = entry.get("index")
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise InvalidArgument(f"a system call has no argument {index}")
    return index, operator, int(entry.get("value") or 0), int(entry.get("valueTwo") or 0)


def _intervals(
    outcomes: "dict[int, tuple[tuple[Rule, ...], int]]", default_outcome: int
) -> "list[tuple[int, list[bytes]]]":
    """Return (first number, code) of each interval, the first at 0; neighbours with the same code are one."""
    plain = [_ret(default_outcome)]
    intervals = [(0, plain)]
    last = -1
    for number in sorted(outcomes):
        if number > last + 1 and intervals[-1][1] != plain:
            intervals.append((last + 1, plain))
        code = _decide(*outcomes[number])
        if intervals[-1][1] != code:
            intervals.append((number, code))
        last = number
    if intervals[-1][1] != plain:
        intervals.append((last + 1, plain))
    # Number 0 may have replaced the interval that begins there.
    return [entry for at, entry in enumerate(intervals) if at + 1 == len(intervals) or intervals[at + 1][0] != entry[0]]


def _tree(intervals: "list[tuple[int, list[bytes]]]") -> list[bytes]:
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    below, above = _tree(intervals[:middle]), _tree(intervals[middle:])
    at = intervals[middle][0]
    if len(below) <= _LONGEST_JUMP:
        return [_jump(_JGE, at, len(below), 0), *below, *above]
    return [_jump(_JGE, at, 0, 1), _instruction(_JA, len(below)), *below, *above]


def _decide(rules: "Iterable[Rule]", otherwise: int) -> list[bytes]:
    code: list[bytes] = []
    for arguments, outcome in rules:
        code += _match(arguments, outcome)
    return [*code, _ret(otherwise)]


def _match(arguments: "tuple[tuple[int, str, int, int], ...]", outcome: int) -> list[bytes]:
    """Return code that returns `outcome` where all comparisons hold, and runs on past its end where one does not."""
    code = [_ret(outcome)]
    for index, operator, value, second in reversed(arguments):
        code = [*_COMPARE[operator](_ARGS + 8 * index, value, second, len(code)), *code]
    return code


# Each comparison is code that runs on where it holds and jumps `away` instructions further where it does not. An
# argument is two words: the low one first, since the machine is little-endian.


def _equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [_LD(at + 4), _jump(_JEQ, high, 0, away + 2), _LD(at), _jump(_JEQ, low, 0, away)]


def _not_equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [_LD(at + 4), _jump(_JEQ, high, 0, 2), _LD(at), _jump(_JEQ, low, away, 0)]


def _masked_equal(at: int, mask: int, value: int, away: int) -> list[bytes]:
    value &= mask
    return [
        _LD(at + 4),
        _instruction(_AND, mask >> 32),
        _jump(_JEQ, value >> 32, 0, away + 3),
        _LD(at),
        _instruction(_AND, mask & 0xFFFFFFFF),
        _jump(_JEQ, value & 0xFFFFFFFF, 0, away),
    ]


def _greater(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _ordered(_JGT, at, value, away)


def _greater_equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _ordered(_JGE, at, value, away)


def _ordered(comparison: int, at: int, value: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [
        _LD(at + 4),
        _jump(_JGT, high, 3, 0),
        _jump(_JEQ, high, 0, away + 2),
        _LD(at),
        _jump(comparison, low, 0, away),
    ]


def _less(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _reversed(_JGE, at, value, away)


def _less_equal(at: int, value: int, _second: int, away: int) -> list[bytes]:
    return _reversed(_JGT, at, value, away)


def _reversed(comparison: int, at: int, value: int, away: int) -> list[bytes]:
    high, low = value >> 32, value & 0xFFFFFFFF
    return [
        _LD(at + 4),
        _jump(_JGT, high, away + 3, 0),
        _jump(_JEQ, high, 0, 2),
        _LD(at),
        _jump(comparison, low, away, 0),
    ]


_COMPARE = {
    "SCMP_CMP_NE": _not_equal,
    "SCMP_CMP_LT": _less,
    "SCMP_CMP_LE": _less_equal,
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_GE": _greater_equal,
    "SCMP_CMP_GT": _greater,
    "SCMP_CMP_MASKED_EQ": _masked_equal,
}


def _instruction(code: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    if max(if_true, if_false) > _LONGEST_JUMP:
        raise InvalidArgument("a rule of the seccomp profile compares too many arguments")
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _LD(offset: int) -> bytes:  # noqa: N802  # the instruction's own name
    return _instruction(_LOAD, offset)


def _ret(outcome: int) -> bytes:
    return _instruction(_RET, outcome)


def _list(document: "Document", key: str) -> list["Document"]:
    value = document.get(key) or []
    if not isinstance(value, list):
        raise InvalidArgument(f"`{key}` of the seccomp profile is not a list")
    return value


def _keep(path: str, content: bytes) -> None:
    """Put `content` at `path` at once; a cache that cannot be written costs 7 ms each time and nothing else."""
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        return
