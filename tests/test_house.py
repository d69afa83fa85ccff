"""What no linter says of the house: docstring-only rooms, names, hosts, and that the tests' own rules hold."""

import ast
import functools
import os
import re
import subprocess
import sys
import textwrap
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.first]

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src" / "sampan"
MODULES = sorted(SOURCE.rglob("*.py"))
# A function without a home has not found its noun.
NO_NOUNS = {"base", "common", "core", "helper", "helpers", "manager", "misc", "tools", "util", "utils"}
NOT_OURS = {".cache", ".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__"}


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=_name)
def test_a_room_s_front_holds_a_docstring_only(path: Path) -> None:
    """An `__init__.py` says what the room is and runs nothing."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)
    assert isinstance(body[0].value.value, str)


def test_every_module_says_what_it_is() -> None:
    """Every module opens with a docstring."""
    assert not [_name(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


def test_every_module_has_a_noun() -> None:
    """No module or package is called utils, helpers, common, base, manager, misc or core."""
    parts = {(path, part) for path in MODULES for part in path.relative_to(SOURCE).with_suffix("").parts}
    # The one base that is a noun of the field: a base image, of signed packages.
    named = {_name(path) for path, part in parts if part in NO_NOUNS} - {"src/sampan/build/debian/base.py"}
    assert not sorted(named)


def test_a_module_s_private_names_stay_in_it() -> None:
    """No module takes a private name from another: within one module classes are friends, across modules nobody is."""
    assert not [f"{_name(path)}: {what}" for path in MODULES for what in _trespasses(path)]


def _trespasses(path: Path) -> Iterator[str]:
    """Name each private name that the module at `path` imports, or reaches through an imported module of ours."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and _is_ours(node)]
    names = [alias for node in imports for alias in node.names]
    yield from (alias.name for alias in names if _is_private(alias.name))
    bound = {alias.asname or alias.name for alias in names}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound):
            continue
        if _is_private(node.attr):
            yield f"{node.value.id}.{node.attr} in line {node.lineno}"


def _is_ours(node: ast.ImportFrom) -> bool:
    return (node.module or "").split(".")[0] == "sampan"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_package_host_stands_in_the_tree() -> None:
    """The hosts of package indexes and mirrors come from the machine's settings, so none is written down here."""
    hosts = _hosts_of_this_machine()
    found = [f"{_name(path)}: {host!r}" for path in _texts() for host in hosts if host in path.read_bytes()]
    assert not found


@functools.cache
def _hosts_of_this_machine() -> frozenset[bytes]:
    """Return the hosts that this machine's pip and apt ask."""
    words = _output(sys.executable, "-m", "pip", "config", "list")
    words += _output("apt-get", "indextargets", "--format", "$(SITE)")
    words += _output(
        sys.executable, "-c",
        "from pip._internal.models.index import PyPI; print(PyPI.url, 'https://' + PyPI.file_storage_domain)",
    )  # fmt: skip
    hosts = {urllib.parse.urlsplit(url).hostname or "" for url in re.findall(r"https?://[^\s'\"]+", words)}
    return frozenset(host.encode() for host in hosts if host and not re.match(r"localhost$|127\.", host))


def _output(*argv: str) -> str:
    """Return what a program prints, nothing where there is no such program."""
    try:
        return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""


def _texts() -> Iterator[Path]:
    """Name every file of the project, less what is made in it."""
    for directory, names, files in os.walk(PROJECT):
        names[:] = [name for name in names if name not in NOT_OURS]
        yield from (Path(directory, name) for name in files)


def test_the_scripts_are_posix_shell() -> None:
    """`./dev` and `.ci/run` parse under the plain shell of a fresh Debian."""
    for script in ("dev", ".ci/run"):
        subprocess.run(["sh", "-n", PROJECT / script], check=True)


def _pytest(directory: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run our plugins, and only them, over one test file."""
    (directory / "test_it.py").write_text(textwrap.dedent(source), encoding="utf-8")
    plugins = [word for noun in ("capability", "leak", "tier") for word in ("-p", f"tests.plugin.{noun}")]
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugins, *options, "test_it.py"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(argv, cwd=directory, check=False, capture_output=True, text=True, env=environment)


def test_a_test_without_a_tier_fails_the_run(tmp_path: Path) -> None:
    """A test that names no tier stops the run with its name."""
    done = _pytest(tmp_path, "def test_lost(): pass")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_it.py::test_lost" in done.stderr


def test_the_summary_counts_each_tier(tmp_path: Path) -> None:
    """A run closes with one line for each tier that ran, and leaves out the tiers that were not asked for."""
    source = """
        import pytest
        @pytest.mark.first
        def test_one(): pass
        @pytest.mark.bulk
        def test_two(): pass
        @pytest.mark.bulk
        def test_three(): pytest.skip("no")
    """
    assert "tier first: 1 passed\n" in (first := _pytest(tmp_path, source).stdout)
    assert "tier bulk" not in first
    assert "tier bulk: 1 passed, 1 skipped\n" in _pytest(tmp_path, source, "--tier=all").stdout


def test_a_required_capability_is_no_reason_to_skip(tmp_path: Path) -> None:
    """`--require` turns a skip of a test with that marker into a failure, `all` every skip."""
    source = """
        import pytest
        @pytest.mark.first
        @pytest.mark.overlay
        def test_skips(): pytest.skip("no such thing")
    """
    assert _pytest(tmp_path, source).returncode == 0
    assert _pytest(tmp_path, source, "--require=netns").returncode == 0
    for required in ("netns,overlay", "all"):
        done = _pytest(tmp_path, source, f"--require={required}")
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert "no such thing" in done.stdout


def test_a_module_that_skips_itself_fails_where_nothing_may_be_skipped(tmp_path: Path) -> None:
    """`--require=all` sees a skip of a whole module too."""
    source = "import pytest\npytest.skip('not here', allow_module_level=True)"
    assert _pytest(tmp_path, source, "--require=all").returncode not in (0, pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_leak_fails_its_test(tmp_path: Path) -> None:
    """A test that needs the kernel and leaves a process behind fails; with `--leaks=report` it is listed."""
    source = """
        import subprocess, pytest
        left = []
        @pytest.mark.first
        @pytest.mark.userns
        def test_leaks(): left.append(subprocess.Popen(["sleep", "20"]))
        @pytest.mark.first
        def test_cleans(): left[0].kill(), left[0].wait()
    """
    for options, status in (((), pytest.ExitCode.TESTS_FAILED), (("--leaks=report",), pytest.ExitCode.OK)):
        done = _pytest(tmp_path, source, *options)
        assert done.returncode == status
        assert re.search(r"process \d+ \(sleep\)", done.stdout)
