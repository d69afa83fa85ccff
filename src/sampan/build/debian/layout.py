"""Laying out packages as one layer: which files stay, where they go, and what maintainer scripts would have made.

Pure: packages in, entries out. /usr is merged. Documentation goes, licences (`copyright`) stay; so do the records that
scanners read (var/lib/dpkg/status.d, distroless' convention). Ids are root's, set-id bits go, times are 0.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from tarfile import TarInfo

from sampan.build import entry as entries
from sampan.build.debian import deb, linker
from sampan.build.entry import Entry
from sampan.errors import Corrupt

# Changes in what a layer of the same packages holds: part of the cache key and of the lock.
VERSION = 1
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
NONROOT = 65532
_MERGED = ("bin", "sbin", "lib", "lib64")
_DROPPED = re.compile(
    r"(usr/share/doc/.*(?<!/copyright)$"
    r"|usr/share/(man|info|locale|lintian|bug|doc-base|menu|applications|pixmaps|gcc|gdb|binfmts|bash-completion|perl5|base-files"
    r"|polkit-1|common-licenses/GFDL|libc-bin|initramfs-tools|debhelper|zoneinfo/(right|posix))(/|$)"
    r"|usr/lib/python3\.\d+/(test|idlelib|turtledemo|pydoc_data|tkinter|unittest/test|ctypes/test|config-[^/]*)(/|$)"
    r"|usr/lib/python3\.\d+/(EXTERNALLY-MANAGED$|turtle\.py$)"
    r"|usr/lib/python3/|usr/lib/[^/]+/gconv/(?!gconv-modules|UTF-|UNICODE|ISO8859-1\.so|ISO8859-15)"
    r"|usr/lib/[^/]+/(libc_malloc_debug|libmemusage|libpcprofile|audit/)"
    r"|usr/bin/(?!python3\.\d+$|tini$)|usr/sbin/(?!ldconfig$)"
    r"|etc/(profile|update-motd\.d|motd|issue|cron|dpkg|init\.d|default|python3\.\d+/debian_config|ca-certificates|ld\.so\.conf\.d/fakeroot)"
    r"|usr/lib/python3\.\d+/lib-dynload/_dbm\.|usr/include|usr/src"
    r"|root/|usr/games|usr/share/tini|var/(backups|cache/man|lib/systemd)|usr/lib/systemd|usr/lib/valgrind|usr/lib/debug)"
)  # fmt: skip
_PASSWD = (
    b"root:x:0:0:root:/root:/sbin/nologin\n"
    b"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
)
_GROUP = b"root:x:0:\ntty:x:5:\nstaff:x:50:\nnogroup:x:65534:\nnonroot:x:65532:\n"
_NSSWITCH = (
    b"passwd:    files\ngroup:     files\nshadow:    files\nhosts:     files dns\n"
    b"networks:  files\nprotocols: files\nservices:  files\n"
)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One package's files, and its control stanza."""

    name: str
    files: tuple[tuple[TarInfo, bytes], ...]
    stanza: bytes


def unpack(name: str, contents: bytes) -> Unpacked:
    """Read the .deb of package `name`; raises Corrupt, naming it."""
    subject = f"the package `{name}`"
    kept = tuple(item for item in deb.data(contents, subject) if not _DROPPED.match(_placed(item[0].name)))
    return Unpacked(name, kept, deb.control(contents, subject).get("control", b"").removeprefix(b"./"))


def lay_out(packages: Iterable[Unpacked], *, python: str, architecture: str) -> list[Entry]:
    """Return the entries of the base layer of `packages`, sorted by path."""
    found: dict[str, Entry] = {}
    for package in sorted(packages, key=lambda package: package.name):
        for header, content in package.files:
            _add(found, package.name, header, content)
        path = f"var/lib/dpkg/status.d/{package.name}"
        found[path] = entries.file(path, package.stanza)
    for made in (*_accounts(), *_links(python, found), _bundle(found)):
        found[made.path] = made
    triplet = TRIPLETS[architecture]
    libraries = list(_libraries(found, f"usr/lib/{triplet}"))
    found["etc/ld.so.cache"] = entries.file(
        "etc/ld.so.cache", linker.cache(libraries, f"/usr/lib/{triplet}", architecture)
    )
    for path in entries.parents(list(found)):
        found.setdefault(path, entries.directory(path))
    return [found[path] for path in sorted(found)]


def _placed(name: str) -> str:
    """Return where a package's path lies after the merge of /usr."""
    head = name.partition("/")[0]
    return f"usr/{name}" if head in _MERGED else name


def _add(found: dict[str, Entry], package: str, header: TarInfo, content: bytes) -> None:
    path = _placed(header.name)
    # The top-level links themselves are made below; as a package has them, `bin` would land on `usr/bin`.
    if header.isdir() or path in {f"usr/{name}" for name in _MERGED}:
        found.setdefault(path, entries.directory(path, (header.mode & 0o1777) if header.isdir() else 0o755))
    elif header.issym():
        found[path] = entries.link(path, header.linkname)
    elif header.islnk():
        # A link within one layer: a relative symbolic one means the same and needs no order of entries.
        target = _placed(header.linkname.removeprefix("./"))
        found[path] = entries.link(path, "../" * path.count("/") + target)
    elif header.isreg():
        found[path] = entries.file(path, content, header.mode & 0o777)
    else:
        raise Corrupt(f"the package `{package}` holds a device or pipe: `{header.name[:100]}`")


def _accounts() -> Iterator[Entry]:
    yield entries.file("etc/passwd", _PASSWD)
    yield entries.file("etc/group", _GROUP)
    yield entries.file("etc/nsswitch.conf", _NSSWITCH)
    yield entries.file("etc/timezone", b"Etc/UTC\n")
    yield entries.directory("root", 0o700)
    yield entries.directory("home/nonroot", 0o700, NONROOT)
    yield entries.directory("tmp", 0o1777)
    yield entries.directory("var/tmp", 0o1777)
    yield entries.directory("run")
    yield entries.directory("proc", 0o555)
    yield entries.directory("sys", 0o555)
    yield entries.directory("dev")


def _links(python: str, found: dict[str, Entry]) -> Iterator[Entry]:
    yield entries.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
    yield entries.link("usr/bin/python3", f"python{python}")
    yield entries.link("usr/bin/python", "python3")
    yield entries.directory(f"usr/local/lib/python{python}/dist-packages")
    yield entries.directory("usr/local/bin")
    for name in sorted({path.split("/")[1] for path in found if path.startswith("usr/") and path.count("/") > 1}):
        if name in _MERGED:
            yield entries.link(name, f"usr/{name}")
    # What OpenSSL is built to look at (OPENSSLDIR), where the excluded package openssl would have put links.
    yield entries.link("usr/lib/ssl/certs", "/etc/ssl/certs")
    yield entries.link("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt")


def _bundle(found: dict[str, Entry]) -> Entry:
    """Make of Mozilla's certificates the bundle that update-ca-certificates makes; singly nobody reads them."""
    prefix = "usr/share/ca-certificates"
    paths = sorted(path for path in found if path.startswith(prefix))
    taken = [found.pop(path) for path in paths]
    parts = [item.data.rstrip(b"\n") + b"\n" for item in taken if item.path.endswith(".crt")]
    return entries.file("etc/ssl/certs/ca-certificates.crt", b"".join(parts))


def _libraries(found: dict[str, Entry], directory: str) -> Iterator[tuple[str, str | None]]:
    for path, item in found.items():
        head, _, name = path.rpartition("/")
        if head == directory and name.startswith(("lib", "ld-")) and ".so" in name and item.kind != entries.DIRECTORY:
            yield name, item.target.rpartition("/")[2] or None
