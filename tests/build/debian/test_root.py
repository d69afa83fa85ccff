"""Whole roots: files where packages have them, and dpkg's records as its own unpacking makes them."""

import gzip
import lzma
import tarfile

import pytest

from sampan.build import entry as entries
from sampan.build.debian import root
from sampan.build.entry import Entry
from sampan.errors import Corrupt
from tests.build.debian.archive import member, tar

pytestmark = [pytest.mark.first]

CONTROL = "Package: {name}\nVersion: 1-2\nArchitecture: amd64\n{more}Description: one\n two\n"


def package(name: str, files: dict[str, "bytes | tarfile.TarInfo"], more: str = "", **control: bytes) -> root.Unpacked:
    """Return an unpacked package."""
    parts = {"./control": CONTROL.format(name=name, more=more).encode()} | {f"./{k}": v for k, v in control.items()}
    members = (
        ("debian-binary", b"2.0\n"),
        ("control.tar.gz", gzip.compress(tar(parts), mtime=0)),
        ("data.tar.xz", lzma.compress(tar(files))),
    )
    return root.unpack(name, b"!<arch>\n" + b"".join(member(*part) for part in members))


def header(
    name: str, *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = "", gid: int = 0
) -> tarfile.TarInfo:
    """Return a tar header."""
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.linkname, made.gid, made.mtime = kind, mode, link, gid, 1000
    return made


def laid_out(*packages: root.Unpacked, below: dict[str, bytes] | None = None, is_slim: bool = True) -> dict[str, Entry]:
    """Return the layer of some packages, by path."""
    found = root.lay_out(packages, lambda path: (below or {}).get(path, b""), is_slim=is_slim)
    assert [item.path for item in found] == sorted(item.path for item in found)
    return {item.path: item for item in found}


def test_files() -> None:
    """Owners, set-id bits and times stay; /usr is merged; hard links are links; what is above is there."""
    found = laid_out(
        package(
            "one",
            {
                "./bin/su": header("./bin/su", mode=0o4755, gid=42),
                "./bin/same": header("./bin/same", kind=tarfile.LNKTYPE, link="./bin/su"),
                "./etc/a/b": b"b",
                "./etc/l": header("./etc/l", kind=tarfile.SYMTYPE, link="../x"),
            },
        )
    )
    assert (found["usr/bin/su"].mode, found["usr/bin/su"].gid, found["usr/bin/su"].mtime) == (0o4755, 42, 1000)
    assert (found["usr/bin/same"].kind, found["usr/bin/same"].target) == (entries.LINK, "../../usr/bin/su")
    assert found["etc/l"].target == "../x"
    assert found["etc/a"].kind == entries.DIRECTORY
    assert "bin" not in found


def test_slim() -> None:
    """A slim root has licences, and no other document, manual or translation; dpkg still lists them."""
    files: dict[str, bytes | tarfile.TarInfo] = {
        "./usr/share/doc/one/copyright": b"c",
        "./usr/share/doc/one/changelog.gz": b"g",
        "./usr/share/man/man1/one.1.gz": b"m",
        "./usr/share/locale/de/x.mo": b"d",
    }
    found = laid_out(package("one", dict(files)))
    assert "usr/share/doc/one/copyright" in found
    assert not {name.removeprefix("./") for name in list(files)[1:]} & set(found)
    assert b"/usr/share/man/man1/one.1.gz\n" in found["var/lib/dpkg/info/one.list"].data
    assert {name.removeprefix("./") for name in files} <= set(laid_out(package("one", dict(files)), is_slim=False))


def test_records() -> None:
    """`status` says unpacked, with each conffile's hash; scripts are executable, architectures told apart."""
    one = package("one", {"./etc/one": b"x"}, conffiles=b"/etc/one\n/etc/gone\n", postinst=b"#!/bin/sh\n")
    two = package(
        "two", {"./usr/lib/two": b""}, more="Multi-Arch: same\n", triggers=b"interest-noawait /usr/lib\ninterest go\n"
    )
    found = laid_out(one, two, below={root.STATUS: b"Package: zero\nStatus: install ok installed\n"})
    stanzas = found[root.STATUS].data.decode().split("\n\n")
    assert stanzas[0] == "Package: zero\nStatus: install ok installed"
    assert stanzas[1].startswith("Package: one\nStatus: install ok unpacked\nVersion: 1-2\n")
    assert stanzas[1].endswith("Description: one\n two\nConffiles:\n /etc/one 9dd4e461268c8034f5c8564e155c67a6")
    assert found["var/lib/dpkg/info/one.postinst"].mode == 0o755
    assert found["var/lib/dpkg/info/two:amd64.list"].data == b"/.\n/usr/lib/two\n"
    assert found["var/lib/dpkg/triggers/File"].data == b"/usr/lib two:amd64/noawait\n"
    assert found["var/lib/dpkg/triggers/go"].data == b"two:amd64\n"


def test_interests_below_are_kept() -> None:
    """A trigger that a lower layer has packages for gets one more, not another."""
    below = {"var/lib/dpkg/triggers/go": b"one\n"}
    found = laid_out(package("two", {}, triggers=b"interest go\n"), below=below)
    assert found["var/lib/dpkg/triggers/go"].data == b"one\ntwo\n"


def test_skeleton() -> None:
    """The lowest stage has the merged links, apt's source and dpkg's slim rules; accounts are base-passwd's."""
    made = {item.path: item for item in root.skeleton(b"Types: deb\n", is_slim=True)}
    assert (made["bin"].target, made["lib64"].target) == ("usr/bin", "usr/lib64")
    assert made["etc/apt/sources.list.d/debian.sources"].data == b"Types: deb\n"
    assert b"path-exclude=/usr/share/doc/*" in made["etc/dpkg/dpkg.cfg.d/docker"].data
    assert "etc/dpkg/dpkg.cfg.d/docker" not in {item.path for item in root.skeleton(b"", is_slim=False)}
    masters = [entries.file("usr/share/base-passwd/passwd.master", b"root:*:0:0:\n")]
    assert [(item.path, item.data) for item in root.accounts(masters)] == [("etc/passwd", b"root:*:0:0:\n")]


def test_a_device_in_a_package_is_refused() -> None:
    """Packages hold files, directories and links, and nothing else."""
    with pytest.raises(Corrupt, match="holds a device or pipe"):
        laid_out(package("one", {"./dev/x": header("./dev/x", kind=tarfile.CHRTYPE)}))
