"""What the article's advice is worth: its image as it stands, the same with the advice, and the Python build."""

import json
import os
import shutil
import time
from pathlib import Path

from bench.measure import Result
from bench.side import PROJECT, Side

WAYS = {"article": "article", "advice": "article-better", "python": "hello-flask"}
BASES = ("python:3.9-slim", "python:3.13-slim")
GOAL = "docs/best-practices.md has these figures"


def practices(sides: list[Side], rounds: int) -> list[Result]:
    """Build each of the three, cold and after a change of app.py, and weigh it; no docker in this one."""
    side = next(side for side in sides if side.name == "sampan")
    for base in BASES:
        side.do("bootstrap", base)
    found = {way: _measure(side, example, rounds) for way, example in WAYS.items()}
    names = {
        "cold build": "ms",
        "rebuild after a change in app.py": "ms",
        "image, unpacked": "MB",
        "image, saved": "MB",
    }
    return [
        Result(name=name, unit=unit, goal=GOAL, figures={way: told[name] for way, told in found.items()})
        for name, unit in names.items()
    ]


def _measure(side: Side, example: str, rounds: int) -> dict[str, tuple[float, ...]]:
    directory = f"{side.place}/{example}"
    shutil.copytree(PROJECT / "examples" / example, directory, ignore=shutil.ignore_patterns("sampan.lock"))
    image, archive = f"bench-{example}", f"{side.place}/saved.tar"
    side.do("build", "-t", image, directory)  # what is fetched once is here
    cold = tuple(_timed(side, "build", "--no-cache", "-t", image, directory) for _ in range(rounds))
    changed = []
    for _ in range(rounds):
        with Path(directory, "app.py").open("a", encoding="utf-8") as file:
            file.write(f"# change {time.time_ns()}\n")
        changed.append(_timed(side, "build", "-t", image, directory))
    side.do("save", "-o", archive, image)
    saved = os.stat(archive).st_size
    os.unlink(archive)
    size = json.loads(side.ask("inspect", image))[0]["Size"]
    return {
        "cold build": cold,
        "rebuild after a change in app.py": tuple(changed),
        "image, unpacked": (size / 1e6,),
        "image, saved": (saved / 1e6,),
    }


def _timed(side: Side, *words: str) -> float:
    started = time.perf_counter()
    side.do(*words)
    return (time.perf_counter() - started) * 1000
