"""Build containers: bytes in, bytes out, and nothing of the host in between. The machine's own root is the base."""

import os

import pytest

from sampan.build.sandbox import Sandbox
from sampan.errors import Exhausted, SampanError

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns]

SHELL = ("/bin/sh", "-c")


@pytest.fixture
def sandbox() -> Sandbox:
    """Return a sandbox of the machine's own root."""
    return Sandbox("/", is_root=True)


def shell(sandbox: Sandbox, script: str, stdin: bytes = b"") -> str:
    """Return what a shell script prints in it."""
    return sandbox.run((*SHELL, script), stdin, limit_bytes=1 << 20).decode()


def test_bytes_in_bytes_out(sandbox: Sandbox) -> None:
    """More bytes than a pipe holds go through in both directions."""
    data = os.urandom(1 << 20)
    assert sandbox.run(("/bin/cat",), data, limit_bytes=1 << 21) == data


def test_what_it_may(sandbox: Sandbox) -> None:
    """It has no capability, no way to gain one, no network, one id, and cannot write."""
    assert shell(sandbox, "id -u; echo x > /tmp/x 2>/dev/null || echo read-only") == "0\nread-only\n"
    program = (
        "import os\n"
        "print(sorted(os.listdir('/proc')) == [])\n"
        "print(len(os.listdir('/sys/class/net')) if os.path.exists('/sys/class') else 0)\n"
        "try:\n    os.setuid(1)\nexcept OSError as error:\n    print(error.errno)\n"
    )
    python = next(path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(path))
    assert sandbox.run((python, "-c", program), b"", limit_bytes=999).decode().splitlines() == ["True", "0", "22"]


def test_failure(sandbox: Sandbox) -> None:
    """A status that is not 0 is an error with what the program said as its cause."""
    with pytest.raises(SampanError, match="failed in a build container") as caught:
        shell(sandbox, "echo because >&2; exit 3")
    assert str(caught.value.__cause__) == "because"


def test_bound(sandbox: Sandbox) -> None:
    """What prints without end is killed."""
    with pytest.raises(Exhausted, match="printed more than"):
        sandbox.run((*SHELL, "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"), b"", limit_bytes=1 << 16)


def test_program_that_does_not_read(sandbox: Sandbox) -> None:
    """A program that ends without reading its input is no error by itself."""
    assert shell(sandbox, "echo done", b"z" * (1 << 20)) == "done\n"
