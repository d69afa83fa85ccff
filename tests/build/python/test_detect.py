"""Detection: what a directory's files say, and what is said about a directory that says nothing."""

from collections.abc import Callable

import pytest

from sampan.build.python import detect, dockerfile, plan
from sampan.errors import InvalidArgument, NotFound

pytestmark = [pytest.mark.first]

APP = b"""from flask import Flask

app = Flask(__name__)

@app.route('/')
def hello_world():
    return 'Hello, Docker!'

if __name__ == '__main__':
    app.run(debug=True, host='0.0.0.0', port=5000)
"""
ARTICLE = {"app.py": APP, "requirements.txt": b"Flask\n"}
GUARD = b'if __name__ == "__main__":\n    print(1)\n'


def found(files: dict[str, bytes]) -> detect.Project:
    """Return what is found in `files`."""
    return detect.detect("./hello", files, list(files))


def choices(files: dict[str, bytes]) -> dict[str, str]:
    """Return the choices by what they are about."""
    return {choice.what: choice.text() for choice in plan.make(found(files)).choices}


def test_article(golden: Callable[[str, str], None]) -> None:
    """The article's project gives the choices that people read, each with its reason and place."""
    project = found(ARTICLE)
    made = plan.make(project)
    assert made.port == 5000
    assert made.command[-1] == "app:app"
    golden("article-choices.txt", "".join(f"{choice.what}: {choice.text()}\n" for choice in made.choices))
    golden("article.Dockerfile", dockerfile.emit(made))


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (b"import flask as f\napplication = f.Flask(__name__)\n", "app:application", 5000),
        (b"from flask import Flask as F\nweb: F = F('x')\nweb.run(port=80)\n", "app:web", 80),
        (b"from flask import Flask\ndef create_app(config=None):\n    return Flask('x')\n", "app:create_app()", 5000),
        (
            b"from flask import Flask\nclass Mine(Flask): pass\nPORT = 8123\napp = Mine('x')\napp.run('h', PORT)\n",
            "app:app",
            8123,
        ),
        (
            (
                b"import os\nfrom flask import Flask\ntry:\n    app = Flask('x')\nfinally:\n    pass\n"
                b"def main():\n    app.run(port=int(os.environ.get('PORT', 7000)))\n"
            ),
            "app:app",
            7000,
        ),
        (
            b"from flask import Flask\ndef build():\n    return Flask('x')\napp = build()\napp.run(port=port)\n",
            "app:app",
            5000,
        ),
        (b"from factory import create_app\napp = create_app()\n", "app:app", 5000),
    ],
)
def test_flask_objects(source: bytes, target: str, port: int) -> None:
    """A Flask object is found by any import, as a factory, as a subclass, with its port where it is a literal."""
    project = found({"app.py": source})
    assert (project.target, project.port) == (target, port)


def test_packages() -> None:
    """A package's object gets its dotted name, and one below src/ the path entry that finds it."""
    source = b"from flask import Flask\ndef create_app():\n    return Flask('x')\n"
    project = found({"src/shop/__init__.py": source, "src/shop/models.py": b""})
    assert (project.target, project.path_entry) == ("shop:create_app()", "src")
    assert "PYTHONPATH=/app/src" in plan.make(project).environment
    assert found({"shop/__init__.py": b"", "shop/web.py": source}).target == "shop.web:create_app()"


def test_factory_that_wants_arguments() -> None:
    """A factory that cannot be called without arguments is an error with its place and a way out."""
    with pytest.raises(InvalidArgument, match="without arguments") as caught:
        found({"app.py": b"from flask import Flask\ndef create_app(config):\n    return Flask('x')\n"})
    assert caught.value.at is not None
    assert caught.value.at.line == 2
    assert caught.value.hints


@pytest.mark.parametrize(
    ("files", "script"),
    [
        ({"main.py": b"print(1)\n", "helper.py": b""}, "main.py"),
        ({"tool.py": GUARD, "helper.py": b"X = 1\n"}, "tool.py"),
        ({"only.py": b"print(1)\n"}, "only.py"),
        ({"app.py": b"", "main.py": GUARD}, "main.py"),
        ({"job.py": GUARD, "test_job.py": GUARD, "setup.py": GUARD}, "job.py"),
    ],
)
def test_scripts(files: dict[str, bytes], script: str) -> None:
    """A plain script is found by its name, its main guard, or by being alone; tests and setup.py never are."""
    project = found(files)
    assert project.script == script
    assert plan.make(project).command == ("python", script)
    assert plan.make(project).port is None


def test_several_scripts() -> None:
    """Where several scripts could be meant, the error names them and how to say which."""
    with pytest.raises(InvalidArgument, match=r"`a.py`, `b.py`") as caught:
        found({"a.py": GUARD, "b.py": GUARD})
    assert "[tool.sampan]" in caught.value.hints[0]


@pytest.mark.parametrize("files", [{}, {"README.md": b"x"}, {"package.json": b"{}"}])
def test_no_python(files: dict[str, bytes]) -> None:
    """A directory without Python is NotFound and says what was looked for."""
    with pytest.raises(NotFound, match=r"no Python project in `./hello`") as caught:
        found(files)
    assert any("looked for" in hint for hint in caught.value.hints)


def test_nearest_directory() -> None:
    """Where the project lies one level deeper, that directory is suggested."""
    with pytest.raises(NotFound) as caught:
        detect.detect("./work", {}, ["notes.md", "shop/app.py"])
    assert caught.value.hints[0] == "did you mean `./work/shop`?"


def test_syntax_error() -> None:
    """A syntax error in the application is shown with file, line and text."""
    with pytest.raises(InvalidArgument, match=r"`app.py` is not valid Python") as caught:
        found({"app.py": b"from flask import Flask\napp = Flask(\n", "other.py": APP})
    assert caught.value.at is not None
    assert (caught.value.at.path, caught.value.at.line, caught.value.at.text) == ("app.py", 2, "app = Flask(")


def test_syntax_error_elsewhere() -> None:
    """A broken file by another name does not stand in the way of the application."""
    assert found({**ARTICLE, "old_script.py": b"print 'python 2'\n"}).target == "app:app"


@pytest.mark.parametrize("source", [b"\x00", b"(" * 5000, b"x = '\xff'\n", b"a" + b"+a" * 200_000])
def test_hostile_source(source: bytes) -> None:
    """Source that breaks parsers is an error or passed over, never a crash."""
    try:
        found({"app.py": source})
    except InvalidArgument:
        pass


def test_named_by_settings() -> None:
    """[tool.sampan] comes before all that is found, and then broken files do not matter."""
    pyproject = b'[tool.sampan]\napp = "shop.web:app"\nport = 8080\npython = "3.11"\n'
    project = found({"pyproject.toml": pyproject, "app.py": b"broken ("})
    assert (project.target, project.port, project.release.python) == ("shop.web:app", 8080, "3.11")


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("prot = 1", "no key `prot`"),
        ("port = 'x'", "must be a int"),
        ("port = 70000", "not a port"),
        ("port = ", "not TOML"),
    ],
)
def test_bad_settings(table: str, complaint: str) -> None:
    """Unknown keys and wrong types in [tool.sampan] are errors; a near miss is suggested."""
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        found({"pyproject.toml": f"[tool.sampan]\n{table}\n".encode(), "app.py": APP})
    if "prot" in table:
        assert caught.value.hints == ("did you mean `port`?",)


@pytest.mark.parametrize(
    ("files", "python"),
    [
        ({}, "3.13"),
        ({".python-version": b"3.11.9\n"}, "3.11"),
        ({"runtime.txt": b"python-3.9.2\n"}, "3.9"),
        ({"pyproject.toml": b'[project]\nname="x"\nrequires-python=">=3.9,<3.12"\n'}, "3.11"),
        ({"pyproject.toml": b'[project]\nname="x"\nrequires-python="==3.9.*"\n'}, "3.9"),
        ({"pyproject.toml": b'[project]\nname="x"\nrequires-python="~=3.11"\n'}, "3.13"),
        ({"pyproject.toml": b'[project]\nname="x"\nrequires-python="~=3.11.0"\n'}, "3.11"),
    ],
)
def test_python_version(files: dict[str, bytes], python: str) -> None:
    """The Python is what the project asks for, of those that Debian's releases have."""
    assert found({**ARTICLE, **files}).release.python == python


@pytest.mark.parametrize(
    "files",
    [{".python-version": b"3.12\n"}, {"pyproject.toml": b'[project]\nname="x"\nrequires-python=">=3.14"\n'}],
)
def test_python_version_without_base(files: dict[str, bytes]) -> None:
    """A Python that no base has is an error that names those there are."""
    with pytest.raises(InvalidArgument, match="no base has") as caught:
        found({**ARTICLE, **files})
    assert "3.13, 3.11, 3.9" in caught.value.hints[0]


def test_server_that_the_project_names() -> None:
    """A server among the requirements is used; otherwise gunicorn is added, and Flask where nothing names it."""
    files = {"app.py": APP, "requirements.txt": b"flask\nwaitress==3.0\n"}
    made = plan.make(found(files))
    assert made.command[0] == "waitress-serve"
    assert made.requirements.names() == {"flask", "waitress"}
    assert plan.make(found({"app.py": APP})).requirements.names() == {"flask", "gunicorn"}
    assert "no requirement names it" in choices({"app.py": APP})["requirement"]


@pytest.mark.parametrize(
    ("line", "words", "port"),
    [
        (b"gunicorn app:app -b 0.0.0.0:$PORT", ("gunicorn", "app:app", "-b", "0.0.0.0:8000"), 8000),
        (b"gunicorn app:app --bind=:${PORT:-9000}", None, 9000),
        (b"python worker.py", ("python", "worker.py"), None),
    ],
)
def test_procfile(line: bytes, words: tuple[str, ...] | None, port: int | None) -> None:
    """A Procfile's web process is the command, its port the one that it binds."""
    project = found({**ARTICLE, "Procfile": b"worker: x\nweb: " + line + b"\n"})
    assert project.port == port
    if words is not None:
        assert project.command == words


def test_development_server_never_runs() -> None:
    """Neither `app.run(debug=True)` nor `flask run` is ever what the image runs."""
    made = plan.make(found({**ARTICLE, "Procfile": b"web: flask run --debug\n"}))
    assert made.command[0] == "gunicorn"
    assert not any("FLASK_DEBUG" in variable for variable in made.environment)


def test_procfile_that_needs_a_shell() -> None:
    """A Procfile that needs a shell is an error, since the image has none."""
    with pytest.raises(InvalidArgument, match="needs a shell"):
        found({**ARTICLE, "Procfile": b"web: python a.py && gunicorn app:app\n"})


def test_entry_point() -> None:
    """The only script of [project.scripts] is run by its entry point."""
    pyproject = b'[project]\nname = "x"\ndependencies = ["requests>=2"]\n[project.scripts]\ngo = "shop.cli:main"\n'
    project = found({"pyproject.toml": pyproject, "src/shop/__init__.py": b"", "src/shop/cli.py": b"def main(): ...\n"})
    assert project.command == ("python", "-c", "import sys; from shop.cli import main; sys.exit(main())")
    assert project.path_entry == "src"
    assert project.requirements.names() == {"requests"}
