"""One registry, three clients: what each pushes the others pull, and all agree on the digests."""

import json

import pytest

from tests.peer.conftest import Peer
from tests.plugin.ground import Command
from tests.plugin.registry import Registry

_NEEDS = ("peer", "registry", "root", "userns", "overlay", "netns", "cgroup")
pytestmark = [getattr(pytest.mark, name) for name in _NEEDS]


def test_what_sampan_pushes(sampan: Command, peer: Peer, registry: Registry, busybox_tar: str) -> None:
    """Docker and skopeo take it: the same digest, the same image id, and it runs."""
    name = f"{registry.address}/peer/ours"
    ours = sampan("import", "-c", 'CMD ["echo", "aboard"]', busybox_tar, name, check=True).stdout.strip()
    digest = sampan("push", name, check=True).stdout.split()[2]
    seen = peer("skopeo", "inspect", "--tls-verify=false", f"docker://{name}")
    assert json.loads(seen.stdout)["Digest"] == digest, seen.stderr
    try:
        assert f"Digest: {digest}" in peer("docker", "pull", name).stdout
        assert peer("docker", "image", "inspect", "--format", "{{.Id}}", name).stdout.strip() in {ours, digest}
        assert peer("docker", "run", "--rm", name).stdout == "aboard\n"
    finally:
        peer("docker", "rmi", "-f", name)


def test_what_docker_pushes(both: dict[str, Command], registry: Registry) -> None:
    """Docker's schema 2 manifest is pulled and runs; a pull says the same digest as the push."""
    name = f"{registry.address}/peer/docker:1"
    assert both["docker"]("tag", "busybox", name).returncode == 0
    try:
        pushed = both["docker"]("push", name)
        assert pushed.returncode == 0, pushed.stderr
    finally:
        both["docker"]("rmi", name)
    pulled = both["sampan"]("pull", name)
    assert pulled.returncode == 0, pulled.stderr
    digest = next(line for line in pulled.stdout.splitlines() if line.startswith("Digest: ")).split()[1]
    assert digest in pushed.stdout
    assert both["sampan"]("run", "--rm", name, "echo", "aboard").stdout == "aboard\n"


def test_what_skopeo_copies(sampan: Command, peer: Peer, registry: Registry, busybox_tar: str) -> None:
    """An image that skopeo made docker's schema 2 of, with zstd layers or gzip ones, comes in and runs."""
    name = f"{registry.address}/peer/source"
    sampan("import", busybox_tar, name, check=True)
    sampan("push", name, check=True)
    sampan("rmi", "-f", name, check=True)
    zstd = ("--format=oci", "--dest-compress-format=zstd", "--dest-force-compress-format")
    for words in (("--format=v2s2",), zstd):
        copy = f"{registry.address}/peer/copy:{len(words)}"
        tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
        done = peer("skopeo", "copy", *words, *tls, f"docker://{name}", f"docker://{copy}")
        assert done.returncode == 0, done.stderr
        assert sampan("run", "--rm", "-q", copy, "echo", "aboard", check=True).stdout == "aboard\n"
        sampan("rmi", copy, check=True)
