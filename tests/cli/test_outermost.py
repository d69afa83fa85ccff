"""The environment that docker's command line reads, and what config.json gives to containers and builds."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.plugin.ground import PROGRAM, Command

pytestmark = [pytest.mark.first]


def _run(environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, *words], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "value", "warning"),
    [
        ("DOCKER_HOST", "tcp://203.0.113.7:2375", "`DOCKER_HOST=tcp://203.0.113.7:2375` is passed over"),
        ("DOCKER_HOST", "ssh://boat", "`DOCKER_HOST=ssh://boat` is passed over"),
        ("DOCKER_HOST", "unix:///var/run/docker.sock", ""),
        ("DOCKER_HOST", "", ""),
        ("DOCKER_CONTEXT", "boat", "`DOCKER_CONTEXT=boat` is passed over"),
        ("DOCKER_CONTEXT", "default", ""),
        ("DOCKER_API_VERSION", "1.40", ""),
        ("DOCKER_BUILDKIT", "0", ""),
    ],
)
def test_another_machine_s_daemon(environment: dict[str, str], name: str, value: str, warning: str) -> None:
    """One warning where a variable names another machine, and the command does its work here."""
    done = _run(environment | {name: value}, "version")
    assert done.returncode == 0
    assert done.stdout.startswith("Version")
    assert done.stderr.count("warning:") == (1 if warning else 0)
    assert warning in done.stderr


@pytest.mark.root
@pytest.mark.userns
@pytest.mark.overlay
class TestInContainers:
    """With the kernel."""

    def test_proxies(self, environment: dict[str, str], sampan: Command, busybox_tar: str, tmp_path: Path) -> None:
        """Containers and builds have them, a flag wins; --config names the directory, DOCKER_CONFIG else."""
        sampan("import", busybox_tar, "busybox", check=True)
        told = {"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "x"}}, "psFormat": "{{.Names}}!"}
        Path(tmp_path, "config.json").write_text(json.dumps(told))
        own = f"--config={tmp_path}"
        words = (
            "run",
            "--rm",
            "--network",
            "none",
            "-e",
            "no_proxy=mine",
            "busybox",
            "sh",
            "-c",
            "env | grep -i proxy",
        )
        assert sorted(sampan(own, *words, check=True).stdout.split()) == [
            "HTTP_PROXY=http://p:1",
            "NO_PROXY=x",
            "http_proxy=http://p:1",
            "no_proxy=mine",
        ]
        assert _run(environment | {"DOCKER_CONFIG": str(tmp_path)}, *words).stdout.count("http://p:1") == 2
        assert sampan(*words, check=True).stdout == "no_proxy=mine\n"
        sampan("create", "--name", "box", "busybox", "true", check=True)
        assert sampan("--config", str(tmp_path), "ps", "-a").stdout == "box!\n"
        sampan("rm", "box", check=True)
        Path(tmp_path, "Dockerfile").write_text("FROM busybox\nRUN echo proxy is $HTTP_PROXY and $no_proxy > /seen\n")
        sampan(own, "build", "-t", "built", str(tmp_path), check=True)
        assert (
            sampan("run", "--rm", "--network", "none", "built", "cat", "/seen").stdout == "proxy is http://p:1 and x\n"
        )
        assert "http://p:1" not in sampan("inspect", "built").stdout

    def test_the_default_platform(self, environment: dict[str, str], sampan: Command, busybox_tar: str) -> None:
        """DOCKER_DEFAULT_PLATFORM is --platform for those who do not say."""
        sampan("import", busybox_tar, "busybox", check=True)
        done = _run(environment | {"DOCKER_DEFAULT_PLATFORM": "linux/s390x"}, "run", "--rm", "busybox", "true")
        assert done.returncode == 125
        assert "linux/s390x" in done.stderr
