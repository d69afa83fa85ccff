"""Packages as a whole root file system: every file where its package has it, and dpkg's records of it all.

Where `layout` makes a base without a shell, this makes what dpkg --unpack would have made, so that `dpkg --configure`
goes on from there, and apt after it: `status`, lists, scripts, conffiles with their hashes, triggers. Maintainer
scripts are run by the step after, not here. Pure: packages in, entries out. /usr is merged. With `slim` documentation
goes as docker's slim images leave it out, licences stay, and dpkg is told to do the same later.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from tarfile import TarInfo

from sampan.build import entry as entries
from sampan.build.debian import deb
from sampan.build.entry import Entry
from sampan.errors import Corrupt

# Changes in what a layer of the same packages holds: part of its cache key.
VERSION = 1
_INFO = "var/lib/dpkg/info"
_TRIGGERS = "var/lib/dpkg/triggers"
STATUS = "var/lib/dpkg/status"
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
_DOCUMENTS = re.compile(
    r"usr/share/(doc/.*(?<!/copyright)$|(man|info|groff|linda|lintian)/.*[^/]$|locale/(?!locale\.alias$).*/.)"
)
_SLIM = b"""# as in docker's slim images
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/linda/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/man/*/*
"""
_CLEAN = b"""# nothing is kept that a layer would carry along
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Apt::AutoRemove::SuggestsImportant "false";
"""
_MERGED = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One package's files, and its control files by name."""

    name: str
    files: tuple[tuple[TarInfo, bytes], ...]
    control: dict[str, bytes]

    @property
    def newest(self) -> int:
        """The newest time of its files."""
        return max((int(header.mtime) for header, _ in self.files), default=0)


def unpack(name: str, contents: bytes) -> Unpacked:
    """Read the .deb of package `name`; raises Corrupt, naming it."""
    subject = f"the package `{name}`"
    control = {key.removeprefix("./"): value for key, value in deb.control(contents, subject).items()}
    return Unpacked(name, tuple(deb.data(contents, subject)), control)


def lay_out(packages: Iterable[Unpacked], below: Callable[[str], bytes], *, is_slim: bool) -> list[Entry]:
    """Return the entries of a layer of `packages`, sorted by path.

    `below` returns what a file of the layers below holds, nothing where it is not there.
    """
    found: dict[str, Entry] = {}
    status, triggers = [below(STATUS).rstrip(b"\n")], _Triggers(below)
    for package in sorted(packages, key=lambda package: package.name):
        listed = [b"/."]
        for header, content in package.files:
            listed.append(b"/" + header.name.encode("utf-8", "surrogateescape"))
            if not (is_slim and _DOCUMENTS.match(header.name)):
                _add(found, package.name, header, content)
        status.append(_stanza(package))
        triggers.add(package)
        for made in _records(package, listed):
            found[made.path] = made
    text = b"\n\n".join(stanza for stanza in status if stanza) + b"\n"
    for made in (entries.file(STATUS, text), *triggers.entries()):
        found[made.path] = made
    return _complete(found)


def skeleton(sources: bytes, *, is_slim: bool) -> list[Entry]:
    """Return what a root needs before its packages are configured, besides their files."""
    made = [
        *(entries.link(name, f"usr/{name}") for name in _MERGED),
        *(entries.directory(f"usr/{name}") for name in _MERGED),
        entries.file(f"{_INFO}/format", b"1\n"),
        entries.file("var/lib/dpkg/available", b""),
        entries.directory("var/lib/dpkg/updates"),
        entries.file("etc/apt/sources.list.d/debian.sources", sources),
        entries.file("etc/apt/apt.conf.d/docker-clean", _CLEAN),
        entries.directory("proc", 0o555),
        entries.directory("sys", 0o555),
        entries.directory("dev"),
        entries.directory("run"),
        entries.directory("root", 0o700),
        entries.directory("tmp", 0o1777),
        # So that scripts find one before its alternative stands.
        entries.link("usr/bin/awk", "mawk"),
    ]
    return [*made, entries.file("etc/dpkg/dpkg.cfg.d/docker", _SLIM)] if is_slim else made


def accounts(found: list[Entry]) -> list[Entry]:
    """Return passwd and group as base-passwd has them, which its script would copy."""
    masters = {item.path: item for item in found}
    return [
        entries.file(f"etc/{name}", masters[f"usr/share/base-passwd/{name}.master"].data)
        for name in ("passwd", "group")
        if f"usr/share/base-passwd/{name}.master" in masters
    ]


def _placed(name: str) -> str:
    """Return where a package's path lies after the merge of /usr."""
    head = name.partition("/")[0]
    return f"usr/{name}" if head in _MERGED else name


def _add(found: dict[str, Entry], package: str, header: TarInfo, content: bytes) -> None:
    path = _placed(header.name)
    if path in {f"usr/{name}" for name in _MERGED} or (header.isdir() and path in found):
        # The links at the top are the skeleton's; as base-files has them `bin` would land on `usr/bin`.
        return
    kind, mode, linked = entries.FILE, header.mode & 0o7777, ""
    if header.isdir():
        kind = entries.DIRECTORY
    elif header.issym():
        kind, mode, linked = entries.LINK, 0o777, header.linkname
    elif header.islnk():
        # A link within one layer: a relative symbolic one means the same and needs no order of entries.
        kind, mode = entries.LINK, 0o777
        linked = "../" * path.count("/") + _placed(header.linkname.removeprefix("./"))
    elif not header.isreg():
        raise Corrupt(f"the package `{package}` holds a device or pipe: `{header.name[:100]}`")
    found[path] = Entry(
        path,
        kind,
        mode=mode,
        content=content,
        target=linked,
        uid=header.uid,
        gid=header.gid,
        mtime=int(header.mtime),
    )


def _complete(found: dict[str, Entry]) -> list[Entry]:
    for path in entries.parents(list(found)):
        found.setdefault(path, entries.directory(path))
    return [found[path] for path in sorted(found)]


def merge(*parts: list[Entry]) -> list[Entry]:
    """Return the entries of all parts, sorted by path; a later one goes before an earlier one."""
    return _complete({item.path: item for part in parts for item in part})


def _fields(package: Unpacked) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in package.control.get("control", b"").decode(errors="replace").split("\n"):
        if line[:1] not in {" ", "\t", ""}:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _full_name(package: Unpacked) -> str:
    """Return the name that dpkg has it under: with its architecture where several may be installed."""
    fields = _fields(package)
    is_same = fields.get("Multi-Arch") == "same"
    return f"{package.name}:{fields.get('Architecture', '')}" if is_same else package.name


def _stanza(package: Unpacked) -> bytes:
    """Return its stanza of `status`: unpacked, not configured (dpkg's lib/dpkg/fields.c)."""
    lines = package.control.get("control", b"").decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
    lines.insert(1, "Status: install ok unpacked")
    hashes = {header.name: hashlib.md5(content).hexdigest() for header, content in package.files if header.isreg()}  # noqa: S324
    names = package.control.get("conffiles", b"").decode().split("\n")
    conffiles = [f" {name} {hashes[name[1:]]}" for name in names if name.startswith("/") and name[1:] in hashes]
    if conffiles:
        lines += ["Conffiles:", *conffiles]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _records(package: Unpacked, listed: list[bytes]) -> Iterable[Entry]:
    name = f"{_INFO}/{_full_name(package)}"
    yield entries.file(f"{name}.list", b"\n".join(listed) + b"\n")
    for key, content in package.control.items():
        if key and key != "control" and "/" not in key:
            yield entries.file(f"{name}.{key}", content, 0o755 if key in _SCRIPTS else 0o644)


class _Triggers:
    """Who is interested in what: dpkg notes it when it unpacks (deb-triggers(5))."""

    def __init__(self, below: Callable[[str], bytes]) -> None:
        self._below = below
        self._lines: dict[str, list[str]] = {}

    def add(self, package: Unpacked) -> None:
        """Note the interests of a package."""
        for line in package.control.get("triggers", b"").decode(errors="replace").split("\n"):
            words = line.split()
            if len(words) != 2 or not words[0].startswith("interest"):
                continue
            name = _full_name(package) + ("/noawait" if words[0] == "interest-noawait" else "")
            if words[1].startswith("/"):
                self._line("File", f"{words[1]} {name}")
            elif "/" not in words[1] and ".." not in words[1]:
                self._line(words[1], name)

    def entries(self) -> Iterable[Entry]:
        """Return the files of the directory that change."""
        yield entries.directory(_TRIGGERS)
        for name, lines in self._lines.items():
            yield entries.file(f"{_TRIGGERS}/{name}", "".join(f"{line}\n" for line in lines).encode())

    def _line(self, file: str, line: str) -> None:
        known = self._lines.setdefault(file, self._below(f"{_TRIGGERS}/{file}").decode(errors="replace").splitlines())
        if line not in known:
            known.append(line)
