"""The main job, once: `sampan run ./examples/hello-flask`, its page fetched and shown, then Ctrl-C.

Runs the real command in a process group of its own, so that the interrupt reaches what a terminal's Ctrl-C would reach.
The example is run where it lies: `sampan.lock`, which the build writes beside it, is ignored by git.
"""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

EXAMPLE = "./examples/hello-flask"
EXPECTED = "Hello, Docker!"
# A cold build under emulation takes minutes; on a machine of today it takes seconds.
URL_SECONDS, PAGE_SECONDS, TRY_SECONDS, STOP_SECONDS = 1500.0, 120.0, 30.0, 60.0
URL = re.compile(r"http://127\.0\.0\.1:\d+")


def main() -> int:
    """Run, fetch, show, stop; return 0 where all of it worked."""
    program = os.path.join(os.path.dirname(sys.executable), "sampan")
    print(f"$ sampan run {EXAMPLE}", flush=True)
    with subprocess.Popen(
        [program, "run", EXAMPLE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, process_group=0,
    ) as service:  # fmt: skip
        try:
            return _visit(service)
        finally:
            _end(service)


def _end(service: "subprocess.Popen[str]") -> None:
    """Stop a service that still runs, whatever went wrong: politely first, so that nothing of it stays."""
    if service.poll() is None:
        os.killpg(service.pid, signal.SIGINT)
        try:
            service.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(service.pid, signal.SIGKILL)


def _visit(service: "subprocess.Popen[str]") -> int:
    """Wait for the service's URL, fetch it, and interrupt the service."""
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(int(URL_SECONDS))
    url = _announced(service)
    signal.alarm(0)
    if url is None:
        return _failed(f"sampan ended with {service.wait()} before it named a URL")
    try:
        page = _fetch(url)
    except OSError as error:
        return _failed(f"{url} does not answer: {error}")
    print(f"\n$ curl {url}\n{page}\n", flush=True)
    started = time.monotonic()
    print("^C", flush=True)
    os.killpg(service.pid, signal.SIGINT)
    rest, _ = service.communicate(timeout=STOP_SECONDS)
    print(rest, end="")
    print(f"stopped after {time.monotonic() - started:.1f} s with exit status {service.returncode}")
    if page != EXPECTED:
        return _failed(f"the page is {page!r}, not {EXPECTED!r}")
    return 0


def _announced(service: "subprocess.Popen[str]") -> str | None:
    """Show what the service says until it names its URL; None where it ends before."""
    if service.stdout is None:
        return None
    for line in service.stdout:
        print(line, end="", flush=True)
        if found := URL.search(line):
            return found[0]
    return None


def _fetch(url: str) -> str:
    """Return the page at `url`; the server may need a moment after its address is known."""
    # A proxy of the machine's must not see loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PAGE_SECONDS
    while True:
        try:
            with opener.open(url, timeout=TRY_SECONDS) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _failed(why: str) -> int:
    print(f"demo: {why}", file=sys.stderr)
    return 1


def _out_of_time(_signum: int, _frame: object) -> None:
    raise TimeoutError(f"no URL within {URL_SECONDS:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
