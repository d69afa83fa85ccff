"""Keys for devices, limits and other containers' volumes: what a container gets of them, and what is refused."""

import json
import os

import pytest

from tests.compose.conftest import Shop

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip


def _inspect(shop: Shop, name: str) -> dict[str, dict[str, object]]:
    (found,) = json.loads(shop.sampan("inspect", name).stdout)
    told: dict[str, dict[str, object]] = found
    return told


def test_every_limit_and_device(shop: Shop) -> None:
    """The same as the flags, as inspect has them; config prints the long forms."""
    (shop.directory / "labels").write_text("# labels\nfrom=file\nboth=file\n", encoding="utf-8")
    shop.write("""
        services:
          web:
            image: busybox
            network_mode: none
            command: sh -c "head -c 2 /dev/nought | wc -c; grep Cpus_allowed_list /proc/self/status"
            annotations: [note=1]
            label_file: ./labels
            labels: {both: own}
            devices: ["/dev/zero:/dev/nought:rw"]
            device_cgroup_rules: ["c 1:* r"]
            cpuset: "0"
            cpu_period: 50000
            cpu_quota: 25000
            blkio_config:
              device_read_iops: [{path: /dev/null, rate: 5}]
        """)
    told = shop.compose("config").stdout
    assert "source: /dev/zero" in told
    assert "target: /dev/nought" in told
    assert "from: file" in told
    # A limit of what is no disk is refused, as the flag is: the rest is run without it.
    done = shop.compose("up", check=False)
    assert done.returncode == 1
    assert "--device-read-iops" in done.stderr
    text = (shop.directory / "compose.yaml").read_text(encoding="utf-8")
    shop.write(text.partition("blkio_config")[0])
    assert "Cpus_allowed_list:\t0" in shop.compose("up").stdout
    assert "2\n" in shop.compose("logs", "--no-log-prefix").stdout
    found = _inspect(shop, "shop-web-1")
    host, labels = found["HostConfig"], found["Config"]["Labels"]
    assert isinstance(labels, dict)
    assert (labels["from"], labels["both"]) == ("file", "own")
    assert host["Annotations"] == {"note": "1"}
    assert host["Devices"] == [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/nought", "CgroupPermissions": "rw"}]
    assert (host["CpusetCpus"], host["CpuPeriod"], host["CpuQuota"]) == ("0", 50_000, 25_000)
    assert host["DeviceCgroupRules"] == ["c 1:* r"]
    shop.compose("down")


def test_volumes_of_another_service_and_parts(shop: Shop) -> None:
    """`volumes_from` starts the other first and has its volumes; driver_opts, subpath and recursion are the flags'."""
    os.makedirs(shop.directory / "here")
    (shop.directory / "here" / "f").write_text("hi\n", encoding="utf-8")
    shop.write("""
        services:
          job:
            image: busybox
            network_mode: none
            volumes_from: ["web:ro"]
            volumes:
              - {type: volume, source: plain, target: /part, volume: {subpath: a/b}}
              - {type: bind, source: ./here, target: /bound, read_only: true, bind: {recursive: writable}}
            command: sh -c "cat /shown/f /part/g; touch /shown/x || echo read-only"
          web:
            image: busybox
            network_mode: none
            volumes: ["shown:/shown", "plain:/plain"]
            command: sh -c "mkdir -p /plain/a/b; echo part > /plain/a/b/g; touch /ready; sleep 60"
            healthcheck: {test: test -e /ready, interval: 50ms}
        volumes:
          plain: {labels: {a: b}}
          shown: {driver_opts: {type: none, o: bind, device: "${PWD}/here"}}
        """)
    shop.environment["PWD"] = str(shop.directory)
    shop.compose("up", "-d", "--wait", "web")
    done = shop.compose("up", "--attach", "job", "job")
    lines = [line.partition("| ")[2] for line in done.stdout.splitlines()]
    assert [line for line in lines if line in {"hi", "part", "read-only"}] == ["hi", "part", "read-only"]
    assert _inspect(shop, "shop-job-1")["HostConfig"]["VolumesFrom"] == ["shop-web-1:ro"]
    (volume,) = json.loads(shop.sampan("volume", "inspect", "shop_shown").stdout)
    assert volume["Options"]["device"] == str(shop.directory / "here")
    shop.compose("down", "-v", "-t", "0")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("gpus: all", "gpus"),
        ("storage_opt: {size: 1g}", "storage_opt"),
        ("use_api_socket: true", "use_api_socket"),
        ("isolation: hyperv", "isolation"),
        ('devices: ["/dev/a:/dev/b:rw:x"]', "is no device"),
        ('device_cgroup_rules: ["x"]', "is no device rule"),
        ("cpuset: 0-x", "is no list of numbers"),
        ("volumes_from: [nosuch]", "nosuch"),
        ("label_file: nosuch", "the label file"),
        ("blkio_config: {weight: 5}", "10 to 1000"),
    ],
)
def test_what_cannot_be_had(shop: Shop, key: str, told: str) -> None:
    """One error that names the key or the file's line, and no container."""
    shop.write(f"services: {{web: {{image: busybox, command: echo ran, network_mode: none, {key}}}}}")
    done = shop.compose("up", check=False)
    assert done.returncode != 0
    assert told in done.stderr
    assert "ran" not in done.stdout
    shop.compose("down", check=False)
