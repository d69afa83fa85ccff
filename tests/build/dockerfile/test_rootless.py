"""A Dockerfile built by a normal user: the same layers, with the owners that the image has."""

import json
import os
from pathlib import Path

import pytest

from tests.plugin.person import Person

pytestmark = [pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay]


def test_a_normal_user_builds(subordinate: None, user: Person) -> None:
    """COPY, RUN as another user, a stage of its own and WORKDIR, as a normal user; the image runs."""
    context = Path(user.place, "context")
    context.mkdir()
    (context / "a").write_text("content\n", encoding="ascii")
    text = (
        "FROM busybox AS s\nRUN echo 1 > /one && chown 1000 /one\nFROM busybox\nWORKDIR /w\nCOPY a .\n"
        'COPY --from=s /one /one\nUSER user\nRUN id -u && test -r a\nCMD ["stat", "-c", "%u", "/one"]\n'
    )
    (context / "Dockerfile").write_text(text, encoding="ascii")
    os.chmod(context, 0o755)  # noqa: S103 - a normal user reads it
    done = user("build", "--progress", "plain", "-t", "mine", str(context), check=True)
    assert "| 1000\n" in done.stderr
    again = user("build", "-q", str(context), check=True)
    [image] = json.loads(user("inspect", "mine").stdout)
    assert again.stdout.strip() == image["Id"]
    assert user("run", "--rm", "mine", check=True).stdout == "1000\n"
