"""Rebuilding after a change in the code: `sampan build` against `docker build` of the article's own Dockerfile.

Docker's base image is a stand-in made by mmdebstrap (python3 and pip of Debian 13, this machine's CA bundle and pip
settings inside), since no registry is asked.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tools.vm import pip_settings

from bench.measure import Result, interleave
from bench.side import PROJECT, Side

BASE = PROJECT / ".cache" / "bench" / "python-base.tar"
EXAMPLE = PROJECT / "examples" / "hello-flask"
# The article's Dockerfile, with the base's name changed to the stand-in's.
DOCKERFILE = """\
FROM bench-python
WORKDIR /app
COPY . /app
RUN pip install -r requirements.txt
EXPOSE 5000
CMD ["python", "app.py"]
"""


def rebuild(sides: list[Side], rounds: int) -> Result:
    """Edit app.py, build, again and again."""
    acts = {side.name: _edit_and_build(side) for side in sides}
    return Result(
        name="a code-only rebuild, whole command", unit="ms", figures=interleave(acts, rounds),
        goal="at most a tenth of docker's time", notes=("docker's base: a stand-in of Debian 13's python3 and pip",),
    )  # fmt: skip


def prepare(side: Side) -> str:
    """Return a project directory for `side`, one that its builds have seen once."""
    directory = f"{side.place}/hello-{side.name}"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("sampan.lock"), dirs_exist_ok=True)
    if side.name == "docker":
        Path(directory, "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        side.ask(
            "import", "--change", "ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore", base(), "bench-python"
        )
    side.do(*_words(side, directory))
    return directory


def _edit_and_build(side: Side) -> Callable[[], None]:
    """Return the act: one more line in app.py, then the build."""
    directory = prepare(side)

    def act() -> None:
        with open(f"{directory}/app.py", "a", encoding="utf-8") as file:
            # Never seen before: docker's builder remembers the builds of earlier days.
            file.write(f"# change {time.time_ns()}\n")
        side.do(*_words(side, directory))

    return act


def _words(side: Side, directory: str) -> tuple[str, ...]:
    """Return the build's words; docker's RUN gets the host's network, as a build on this machine needs it."""
    return ("build", *(("--network", "host") if side.name == "docker" else ()), "-t", "bench-hello", directory)


def base() -> str:
    """Return the path of the stand-in's root file system, made unless it stands."""
    if not BASE.exists():
        os.makedirs(BASE.parent, exist_ok=True)
        settings = BASE.with_name("pip.conf")
        settings.write_text(pip_settings(), encoding="utf-8")
        hooks = [
            "--customize-hook=ln -sf python3 $1/usr/bin/python",
            "--customize-hook=cp /etc/ssl/certs/ca-certificates.crt $1/etc/ssl/certs/",
            f"--customize-hook=cp {settings} $1/etc/pip.conf",
        ]
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=check/qemu",
             "--include=python3,python3-pip,ca-certificates", *hooks, "trixie", f"{BASE}.new.tar"],
            check=True,
        )  # fmt: skip
        os.rename(f"{BASE}.new.tar", BASE)
    return str(BASE)
