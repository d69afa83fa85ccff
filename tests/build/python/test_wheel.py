"""Wheels: scripts get the image's interpreter, records say what is there, pylocks give names and hashes alone."""

import os

import pytest

from sampan.build.lock import Wheel
from sampan.build.python import resolve, wheel
from sampan.build.python.version import RELEASES
from sampan.errors import Corrupt

pytestmark = [pytest.mark.first]

HASH = "a" * 64


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"#!/home/me/.venv/bin/python3\nimport x\n", b"#!/usr/bin/python3.13\nimport x\n"),
        (
            b"#!/bin/sh\n'''exec' '/very long/python' \"$0\" \"$@\"\n' '''\nimport x\n",
            b"#!/usr/bin/python3.13\nimport x\n",
        ),
        (b"#!/usr/bin/env python\nx\n", b"#!/usr/bin/python3.13\nx\n"),
        (b"#!/bin/bash\necho python\n", b"#!/bin/bash\necho python\n"),
        (b"\x7fELF", b"\x7fELF"),
    ],
)
def test_interpreter(before: bytes, after: bytes) -> None:
    """Only Python scripts change, and only their first line, or the shell's trick before it."""
    assert wheel._with_interpreter(before, "3.13") == after


def prefix(place: str, record: str, files: dict[str, bytes]) -> wheel._Prefix:
    """Return an installed prefix with one wheel."""
    site = f"{place}/p/lib/python3.11/site-packages"
    for path, content in {**files, "demo-1.0.dist-info/RECORD": record.encode()}.items():
        os.makedirs(os.path.dirname(f"{site}/{path}"), exist_ok=True)
        with open(f"{site}/{path}", "wb") as file:
            file.write(content)
    return wheel._Prefix(f"{place}/p")


def test_files_go_to_their_places(place: str) -> None:
    """Modules, scripts and data go below /usr/local; what one run leaves goes away; RECORD has what is there."""
    files = {
        "demo/__init__.py": b"x",
        "../../../bin/demo": b"#!/host/python\n",
        "../../../share/demo/data": b"d",
        "demo-1.0.dist-info/METADATA": b"m",
        "demo-1.0.dist-info/REQUESTED": b"",
        "demo-1.0.dist-info/direct_url.json": b"{}",
    }
    record = "".join(f"{path},,\n" for path in files) + "demo-1.0.dist-info/RECORD,,\ndemo/__pycache__/x.pyc,,\n"
    found = {
        item.path: item.data
        for item in prefix(place, record, files).entries(Wheel("demo", "1.0", "demo.whl", (HASH,)), "3.13")
    }
    site = "usr/local/lib/python3.13/dist-packages"
    assert found["usr/local/bin/demo"] == b"#!/usr/bin/python3.13\n"
    assert found["usr/local/share/demo/data"] == b"d"
    assert f"{site}/demo-1.0.dist-info/direct_url.json" not in found
    lines = found[f"{site}/demo-1.0.dist-info/RECORD"].decode().splitlines()
    assert lines == sorted(lines)
    assert "demo-1.0.dist-info/RECORD,," in lines
    assert any(line.startswith("../../../bin/demo,sha256=") and line.endswith(",22") for line in lines)


@pytest.mark.parametrize("path", ["../../../../../etc/passwd", "/etc/passwd", "demo/missing.py"])
def test_hostile_record(place: str, path: str) -> None:
    """A RECORD that names files outside of the prefix, or that are not there, is Corrupt."""
    with pytest.raises(Corrupt):
        list(prefix(place, f"{path},,\n", {}).entries(Wheel("demo", "1.0", "demo.whl", (HASH,)), "3.13"))


def test_pylock() -> None:
    """Of a pylock names, versions, file names and hashes are kept, and no address."""
    text = f"""lock-version = "1.0"
[[packages]]
name = "demo"
version = "1.0"
wheels = [{{ url = "https://files.example.org/x/demo-1.0%2Bcpu-py3-none-any.whl", hashes = {{ sha256 = "{HASH}" }} }}]
[[packages]]
name = "also"
version = "2"
wheels = [{{ path = "../w/also-2-py3-none-any.whl", hashes = {{ sha256 = "{HASH}" }} }}]
"""
    also, demo = resolve.parse_pylock(text.encode(), RELEASES[0], "amd64")
    assert demo.document() == {
        "name": "demo",
        "version": "1.0",
        "file": "demo-1.0+cpu-py3-none-any.whl",
        "sha256": [HASH],
    }
    assert also.file == "also-2-py3-none-any.whl"


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp313-cp313-manylinux2014_x86_64.manylinux_2_17_x86_64", True),
        ("cp39-abi3-manylinux_2_28_x86_64", True),
        ("py3-none-manylinux_2_17_x86_64", True),
        ("cp312-cp312-manylinux_2_17_x86_64", False),
        ("cp313-cp313t-manylinux_2_17_x86_64", False),
        ("cp313-cp313-manylinux_2_17_aarch64", False),
        ("cp313-cp313-musllinux_1_2_x86_64", False),
        ("cp313-cp313-win_amd64", False),
    ],
)
def test_tags(tags: str, fits: bool) -> None:  # noqa: FBT001 -- a column of the table above
    """A wheel is taken for this Python and platform by the tags in its name."""
    assert resolve.is_for(f"demo-1.0-{tags}.whl", RELEASES[0], "amd64") == fits


@pytest.mark.parametrize("text", [b"", b"\xff", b"[[packages]]\nname='x'\nversion='1'\n", b"[[packages]]\nwheels=[]\n"])
def test_pylock_without_wheels(text: bytes) -> None:
    """A package that has no wheel, and what is no pylock, is Corrupt; an empty one has no packages."""
    if text == b"":
        assert resolve.parse_pylock(text, RELEASES[0], "amd64") == ()
        return
    with pytest.raises(Corrupt):
        resolve.parse_pylock(text, RELEASES[0], "amd64")


def test_wheels_with_a_file_in_common(place: str) -> None:
    """Wheels that both have one file are told apart: each must be installed by itself."""
    installed = prefix(
        place, "demo/__init__.py,,\ntests/__init__.py,,\n", {"demo/__init__.py": b"", "tests/__init__.py": b""}
    )
    assert installed.shared() == set()
    site = f"{place}/p/lib/python3.11/site-packages"
    os.mkdir(f"{site}/Other_Demo-2.dist-info")
    with open(f"{site}/Other_Demo-2.dist-info/RECORD", "w", encoding="utf-8") as file:
        file.write("tests/__init__.py,,\n")
    assert wheel._Prefix(f"{place}/p").shared() == {"demo", "other-demo"}
