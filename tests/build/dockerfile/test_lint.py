"""The linter: what it finds in the article's Dockerfile, each rule with what breaks it and what does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.build.dockerfile import lifetime, parser
from sampan.build.dockerfile.finding import Surroundings
from sampan.build.dockerfile.lint import lint
from sampan.errors import Place

pytestmark = [pytest.mark.first]

EXAMPLE = Path(__file__).parents[3] / "examples" / "hello-flask"
ARTICLE = """\
# 使用官方 Python 镜像作为基础镜像
FROM python:3.9-slim
WORKDIR /app
COPY . /app
RUN pip install -r requirements.txt
EXPOSE 5000
CMD ["python", "app.py"]
"""
# What makes no rule complain.
GOOD = """\
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt && useradd --create-home app
COPY . .
USER app
CMD ["gunicorn", "app:app"]
"""
TODAY = "2026-01-01"


def rules(
    text: str,
    *,
    has_ignore_file: bool = True,
    ignored: str = "",
    server: tuple[Place, bool] | None = None,
    today: str = TODAY,
) -> list[str]:
    """Return the rules that a Dockerfile breaks."""
    around = Surroundings(
        has_ignore_file=has_ignore_file, is_ignored=lambda path: path == ignored, server=lambda *_: server
    )
    return [finding.rule for finding in lint(parser.parse(text.encode()), around, today)]


def test_good_file() -> None:
    """A file that follows the advice has no findings."""
    assert rules(GOOD) == []


def test_article(tmp_path: Path, sampan: Callable[..., Any]) -> None:
    """The article's own file: root, an old base, no .dockerignore, the order, the debugger, pip's cache."""
    shutil.copytree(EXAMPLE, tmp_path / "p")
    (tmp_path / "p" / "Dockerfile").write_text(ARTICLE, encoding="utf-8")
    done = sampan("lint", "--format", "json", "./p", cwd=tmp_path)
    assert done.returncode == 1
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(item["rule"], item["path"], item["line"]) for item in found] == [
        ("old-base", "p/Dockerfile", 2), ("root-user", "p/Dockerfile", 2), ("copy-before-install", "p/Dockerfile", 4),
        ("no-dockerignore", "p/Dockerfile", 4), ("pip-cache", "p/Dockerfile", 5), ("debug-server", "app.py", 12),
    ]  # fmt: skip
    assert all(item["why"] and item["mend"] and item["what"] for item in found)
    assert found[-1]["text"] == '    app.run(debug=True, host="0.0.0.0", port=5000)'
    shown = sampan("lint", "./p/Dockerfile", cwd=tmp_path)
    assert "p/Dockerfile:2: root-user: the application runs as root\n    2 | FROM python:3.9-slim\n" in shown.stdout
    assert "  mend: add `RUN useradd --create-home app` and, before CMD, `USER app`\n" in shown.stdout
    assert shown.stderr == "6 findings\n"
    (tmp_path / "p" / "Dockerfile").write_text(ARTICLE.replace("COPY . ", "COPY. "), encoding="utf-8")
    slip = sampan("lint", "p", cwd=tmp_path)
    assert "p/Dockerfile:4: invalid-instruction: there is no blank after `COPY`" in slip.stdout
    assert "did you mean `COPY . /app`?" in slip.stdout
    (tmp_path / "p" / "Dockerfile").write_text(GOOD, encoding="utf-8")
    (tmp_path / "p" / ".dockerignore").write_text(".git\n", encoding="utf-8")
    good = sampan("lint", "p", cwd=tmp_path)
    assert (good.returncode, good.stdout) == (0, "")
    lost = sampan("lint", ".", cwd=tmp_path)
    assert lost.returncode == 1
    assert "error: there is no Dockerfile in" in lost.stderr


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("USER app\n", "", ["root-user"]),
        ("USER app\n", "USER app\nUSER root\n", ["root-user"]),
        ("USER app\n", "USER 0:0\n", ["root-user"]),
        ("3.13-slim", "3.8-slim", ["old-base"]),
        ("python:3.13-slim", "debian:buster", ["old-base"]),
        ("python:3.13-slim", "python:3.13-slim-buster", ["old-base"]),
        (":3.13-slim", "", ["unpinned-base"]),
        ("3.13-slim", "latest", ["unpinned-base"]),
        ("FROM python:3.13-slim", "ARG T=3.9\nFROM python:$T", ["old-base"]),
        ("python:3.13-slim", "python@sha256:" + "0" * 64, []),
        ("COPY requirements.txt .\n", "COPY . .\n", ["copy-before-install"]),
        ("--no-cache-dir ", "", ["pip-cache"]),
        ("RUN pip install --no-cache-dir", "RUN --mount=type=cache,target=/root/.cache pip install", []),
        ("WORKDIR /app\nCOPY r", "ENV PIP_NO_CACHE_DIR=1\nWORKDIR /app\nCOPY r", []),
        ("USER app", "RUN apt-get update && apt-get install -y curl\nUSER app", ["apt-lists", "apt-recommends"]),
        ("USER app", "RUN apt-get update\nUSER app", ["apt-update-alone"]),
        ('CMD ["gunicorn", "app:app"]', "CMD gunicorn app:app", ["json-args-recommended"]),
        ('CMD ["gunicorn", "app:app"]', "CMD ['gunicorn', 'app:app']", ["json-args-recommended"]),
        ('CMD ["gu', 'SHELL ["/bin/sh", "-ec"]\nCMD exec x\nCMD ["gu', ["multiple-instructions-disallowed"]),
        ("COPY . .", "ADD . .", ["add-for-copy"]),
        ("COPY . .", "ADD files.tar.gz .", []),
        ("USER app", "ENV DB_PASSWORD=x\nUSER app", ["secrets-used-in-arg-or-env"]),
        ("USER app", "ARG API_TOKEN\nUSER app", ["secrets-used-in-arg-or-env"]),
        ("USER app", "ENV DB_PASSWORD_FILE=/run/secrets/db\nUSER app", []),
        ("USER app", "MAINTAINER me\nUSER app", ["maintainer-deprecated"]),
        ("USER app", "ENV A b\nUSER app", ["legacy-key-value-format"]),
        ("USER app", "EXPOSE 80/TCP\nUSER app", ["expose-proto-casing"]),
        ("USER app", "EXPOSE 80:80\nUSER app", ["expose-invalid-format"]),
        ("USER app", "user app", ["consistent-instruction-casing"]),
        ("WORKDIR /app", "WORKDIR app", ["workdir-relative-path"]),
        ("USER app", "RUN a \\\n\n b\nUSER app", ["no-empty-continuation"]),
        ("USER app", "RUN sudo a\nUSER app", ["sudo"]),
        ("USER app", "RUN cd /x\nUSER app", ["cd-alone"]),
        ("USER app", "URSE app", ["root-user", "invalid-instruction"]),
        ("FROM p", "FROM --platform=linux/amd64 p", ["from-platform-flag-const-disallowed"]),
        ("FROM p", "FROM --platform=$TARGETPLATFORM p", ["redundant-target-platform"]),
        ("-slim\n", "-slim AS Base\n", ["stage-name-casing"]),
        ("-slim\n", "-slim as base\n", ["from-as-casing"]),
        ("-slim\n", "-slim AS scratch\n", ["reserved-stage-name"]),
        ("FROM p", "FROM python:3.13-slim AS a\nFROM python:3.13-slim AS a\nFROM p", ["duplicate-stage-name"]),
    ],
)  # fmt: skip
def test_rules(old: str, new: str, expected: list[str]) -> None:
    """One change of the good file breaks the one rule that it should, or none."""
    assert old in GOOD
    assert rules(GOOD.replace(old, new, 1)) == expected


def test_user_of_the_stage_below() -> None:
    """A USER of the stage that the target stands on counts; one of another stage does not."""
    assert rules('FROM python:3.13-slim AS a\nUSER app\nFROM a\nCMD ["x"]\n') == []
    assert rules('FROM python:3.13-slim AS a\nUSER app\nFROM python:3.13-slim\nCMD ["x"]\n') == ["root-user"]


def test_surroundings() -> None:
    """What stands beside the file: no ignore file, a source that it keeps out, a program that debugs."""
    assert rules(GOOD, has_ignore_file=False) == ["no-dockerignore"]
    assert rules(GOOD, ignored="requirements.txt") == ["copy-ignored-file"]
    assert rules(GOOD, server=(Place("app.py", 3), True)) == ["debug-server"]
    assert rules(GOOD, server=(Place(""), False)) == ["development-server"]


def test_skipped_rules() -> None:
    """`# check=skip=` leaves rules out, by our names and by BuildKit's."""
    bad = GOOD.replace("USER app\n", "").replace('CMD ["gunicorn", "app:app"]', "CMD x")
    assert rules(bad) == ["root-user", "json-args-recommended"]
    assert rules("# check=skip=root-user;error=true\n" + bad) == ["json-args-recommended"]
    assert rules("# check=skip=JSONArgsRecommended,root-user\n" + bad) == []
    assert rules("# check=skip=all\n" + bad) == []


@pytest.mark.parametrize(
    ("repository", "tag", "today", "ended"),
    [
        ("python", "3.9-slim", "2025-10-31", None),
        ("python", "3.9-slim", "2025-11-01", ("Python 3.9", "2025-10-31")),
        ("python", "3.9.18-bookworm", "2025-11-01", ("Python 3.9", "2025-10-31")),
        ("docker.io/library/python", "3.13", "2029-10-31", None),
        ("python", "3.13-slim-bullseye", "2026-09-01", ("Debian bullseye", "2026-08-31")),
        ("debian", "11.7", "2026-09-01", ("Debian bullseye", "2026-08-31")),
        ("python", "slim", "2099-01-01", None),
        ("other", "3.9", "2099-01-01", None),
    ],
)
def test_lifetime(repository: str, tag: str, today: str, ended: tuple[str, str] | None) -> None:
    """A base is old from the day after the last one on which it got fixes."""
    assert lifetime.ended(repository, tag, today) == ended


def test_other_servers(tmp_path: Path, sampan: Callable[..., Any]) -> None:
    """`flask run --debug` and Django's runserver are found by the command itself."""
    for command, rule in (
        ('["flask", "run", "--debug"]', "debug-server"),
        ('["flask", "run"]', "development-server"),
        ('["python", "manage.py", "runserver"]', "debug-server"),
        ('["python", "-m", "http.server"]', ""),
    ):
        (tmp_path / "Dockerfile").write_text(f"FROM python:3.13\nUSER 1\nCMD {command}\n", encoding="utf-8")
        done = sampan("lint", "--format", "json", str(tmp_path))
        assert [json.loads(line)["rule"] for line in done.stdout.splitlines()] == ([rule] if rule else [])
