"""`./dev bench NAME [--rounds N] [--json]`: ratios against docker, which `./dev peers up` brings."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from bench.article import article
from bench.idle import idle
from bench.image import image
from bench.life import life
from bench.measure import Failed, Result
from bench.practices import practices
from bench.rebuild import rebuild
from bench.side import PROJECT, Side, both
from bench.start import exec_once, run_once

Benchmark = Callable[[list[Side], int], "Result | list[Result]"]
BENCHMARKS: dict[str, tuple[Benchmark, int]] = {
    "run": (run_once, 30),
    "exec": (exec_once, 40),
    "rebuild": (rebuild, 8),
    "image": (image, 1),
    "idle": (idle, 1),
    "life": (life, 9),
    "article": (article, 9),
    "practices": (practices, 3),
}


def main() -> int:
    """Parse the command line, bring docker up unless it is, measure, print, and take away what was brought."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--rounds", type=int, help="how often each side runs")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    names = list(BENCHMARKS) if options.name == "all" else [options.name]
    here = subprocess.run([PROJECT / "tools/peers", "status"], check=False, capture_output=True, text=True)
    was_up = "dockerd: up" in here.stdout
    # /tmp is what docker sees at the same path, and short enough for a unix socket's.
    place = tempfile.mkdtemp(prefix="sp-bench-", dir="/tmp")
    try:
        if not was_up:
            _peers("up")
        with both(place) as sides:
            _report([side.version() for side in sides], _measure(names, sides, options.rounds), as_json=options.json)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        if not was_up:
            _peers("down")
        shutil.rmtree(place, ignore_errors=True)
    return 0


def _peers(verb: str) -> None:
    """Bring docker up or down."""
    subprocess.run([PROJECT / "tools/peers", verb], check=True, stdout=sys.stderr, cwd=PROJECT)


def _measure(names: list[str], sides: list[Side], rounds: int | None) -> list[Result]:
    """Run the benchmarks that were asked for."""
    results: list[Result] = []
    for name in names:
        benchmark, usual = BENCHMARKS[name]
        found = benchmark(sides, rounds or usual)
        results.extend(found if isinstance(found, list) else [found])
    return results


def _report(versions: list[str], results: list[Result], *, as_json: bool) -> None:
    """Print what was found."""
    kernel = f"linux {os.uname().release}, {os.cpu_count()} cores, Python {sys.version.split()[0]}"
    if as_json:
        found = [result.document() for result in results]
        print(json.dumps({"versions": versions, "machine": kernel, "results": found}, indent=2))
        return
    print(", ".join([*versions, kernel]))
    for result in results:
        print(f"\n{result.text()}")


if __name__ == "__main__":
    sys.exit(main())
