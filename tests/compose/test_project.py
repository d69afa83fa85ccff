"""A project on the real engine: up, what changes and what does not, down, and everything between."""

import json
import os
import signal
import time

import pytest

from tests.compose.conftest import Shop
from tests.engine.conftest import Store

pytestmark = [
    pytest.mark.first, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns, pytest.mark.cgroup,
]  # fmt: skip

TWO = """
    services:
      web:
        image: busybox
        command: sh -c "echo web up; exec sleep 100"
        depends_on: [db]
        stop_grace_period: 0s
      db:
        image: busybox
        command: sh -c "echo once >> /data/starts; echo db up; exec sleep 100"
        volumes: ["data:/data"]
        stop_grace_period: 0s
    volumes: {data: }
    """


def test_a_life(shop: Shop, store: Store) -> None:
    """Up makes names and labels as docker compose's, up again touches nothing, down -v leaves nothing."""
    shop.write(TWO)
    told = shop.compose("up", "-d").stderr
    assert told.index("shop-db-1  Started") < told.index("shop-web-1  Started")
    before = shop.ids()
    assert set(before) == {"shop-web-1", "shop-db-1"}
    (inspected,) = json.loads(shop.sampan("inspect", "shop-web-1").stdout)
    labels = inspected["Config"]["Labels"]
    assert labels["com.docker.compose.project"] == "shop"
    assert labels["com.docker.compose.service"] == "web"
    assert labels["com.docker.compose.container-number"] == "1"
    assert labels["com.docker.compose.oneoff"] == "False"
    assert labels["com.docker.compose.depends_on"] == "db:service_started:false"
    assert labels["com.docker.compose.project.working_dir"] == str(shop.directory)
    again = shop.compose("up", "-d").stderr
    assert "shop-web-1  Running" in again
    assert "Started" not in again
    assert shop.ids() == before
    assert "shop_default" in shop.sampan("network", "ls").stdout
    shop.compose("down", "-v")
    assert shop.ids() == {}
    assert store.left(shop.raw) == []
    assert "shop" not in shop.sampan("network", "ls").stdout


def test_a_service_that_changed_is_made_anew(shop: Shop) -> None:
    """Only what changed is recreated; its anonymous volume goes on, unless that is not wanted."""
    text = TWO.replace('["data:/data"]', '["/data"]')
    shop.write(text)
    shop.compose("up", "-d")
    before = shop.ids()
    shop.write(text.replace('sleep 100"\n        volumes', 'sleep 101"\n        volumes'))
    assert "shop-db-1  Recreate" in shop.compose("up", "-d").stderr
    after = shop.ids()
    assert after["shop-web-1"] == before["shop-web-1"]
    assert after["shop-db-1"] != before["shop-db-1"]
    assert shop.compose("exec", "-T", "db", "cat", "/data/starts").stdout == "once\nonce\n"
    shop.compose("up", "-d", "--force-recreate", "-V", "db")
    assert shop.compose("exec", "-T", "db", "cat", "/data/starts").stdout == "once\n"
    shop.write(text.replace("sleep 100", "sleep 102"))
    after = shop.ids()
    shop.compose("up", "-d", "--no-recreate")
    assert shop.ids() == after
    shop.compose("down", "-v")


def test_a_named_volume_is_kept(shop: Shop, store: Store) -> None:
    """Down and up keep a named volume, down -v removes it."""
    shop.write(TWO)
    shop.compose("up", "-d")
    shop.compose("down")
    assert [name for name, *_ in store.rows("SELECT name FROM volumes")] == ["shop_data"]
    shop.compose("up", "-d")
    assert shop.compose("exec", "-T", "db", "cat", "/data/starts").stdout == "once\nonce\n"
    shop.compose("down", "-v")
    assert store.rows("SELECT name FROM volumes") == []


def test_services_talk_by_name(shop: Shop) -> None:
    """On the project's network a service is found by its name and its aliases."""
    shop.write(
        """
        services:
          web:
            image: busybox
            command: sh -c 'mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w'
            networks: {default: {aliases: [front]}}
            stop_grace_period: 0s
          probe:
            image: busybox
            command:
              - sh
              - -c
              - for name in web front shop-web-1; do until wget -q -O - http://$$name/; do sleep 0.1; done; done
            depends_on: [web]
        """
    )
    done = shop.compose("up", "--exit-code-from", "probe", "--no-log-prefix")
    assert done.stdout.count("hello\n") == 3
    shop.compose("down", "-v")


def test_orphans(shop: Shop) -> None:
    """A service that has gone from the file is named, and removed where that is asked for."""
    shop.write(TWO)
    shop.compose("up", "-d")
    shop.write(TWO.replace("      web:", "      front:"))
    assert "orphan containers (shop-web-1)" in shop.compose("up", "-d").stderr
    assert "shop-web-1" in shop.ids()
    shop.compose("up", "-d", "--remove-orphans")
    assert set(shop.ids()) == {"shop-front-1", "shop-db-1"}
    shop.compose("down", "-v")


def test_scale(shop: Shop) -> None:
    """A service has as many containers as it is scaled to; the numbers that are free are used."""
    shop.write(TWO)
    shop.compose("up", "-d", "--scale", "web=3")
    assert set(shop.ids()) == {"shop-db-1", "shop-web-1", "shop-web-2", "shop-web-3"}
    shop.sampan("rm", "-f", "shop-web-2")
    before = shop.ids()
    shop.compose("up", "-d", "--scale", "web=3")
    assert {name: id for name, id in shop.ids().items() if name in before} == before
    assert "shop-web-2" in shop.ids()
    shop.compose("up", "-d")
    assert set(shop.ids()) == {"shop-db-1", "shop-web-1"}
    shop.compose("down", "-v")


def test_stop_start_restart_kill_rm(shop: Shop) -> None:
    """The words for what is there."""
    shop.write(TWO)
    shop.compose("up", "-d")
    ids = shop.ids()
    shop.compose("stop", "web")
    assert shop.compose("ps", "--services").stdout == "db\n"
    assert [json.loads(line)["State"] for line in shop.compose("ps", "-a", "--format", "json").stdout.splitlines()] == [
        "running", "exited",
    ]  # fmt: skip
    shop.compose("start")
    assert shop.compose("ps", "--services").stdout == "db\nweb\n"
    shop.compose("restart", "db")
    shop.compose("kill", "-s", "KILL")
    assert shop.compose("ps", "-q").stdout == ""
    assert shop.ids() == ids
    assert shop.compose("rm", "web", feed="n\n").returncode == 0
    assert shop.ids() == ids
    shop.compose("rm", "-f")
    assert shop.ids() == {}
    shop.compose("down", "-v")


def test_create_then_start(shop: Shop) -> None:
    """Create makes containers and starts none."""
    shop.write(TWO)
    shop.compose("create")
    assert shop.compose("ps", "-q").stdout == ""
    shop.compose("start", "db")
    assert shop.compose("ps", "--services").stdout == "db\n"
    assert shop.compose("start", "nothing", check=False).returncode == 1
    shop.compose("down", "-v")


def test_limits(shop: Shop) -> None:
    """Both spellings of a service's limits reach the kernel."""
    shop.write(
        "services:\n"
        "  a: {image: busybox, command: sleep 60, mem_limit: 64m, mem_reservation: 32m, pids_limit: 20, cpus: 0.5}\n"
        "  b:\n    image: busybox\n    command: sleep 60\n    deploy:\n      resources:\n"
        "        limits: {memory: 64m, pids: 20, cpus: '0.5'}\n        reservations: {memory: 32m}\n"
    )
    shop.compose("up", "-d")
    for identity in shop.ids().values():
        told = json.loads(shop.sampan("inspect", identity).stdout)[0]["HostConfig"]
        wanted = {"Memory": 64 << 20, "MemoryReservation": 32 << 20, "PidsLimit": 20, "NanoCpus": 500_000_000}
        assert {key: told[key] for key in wanted} == wanted
    shop.compose("down", "-t", "0")


def test_logging(shop: Shop) -> None:
    """A service's `logging` is its containers' log; one whose driver is `none` says nothing in the foreground."""
    shop.write(
        "services:\n"
        "  a:\n    image: busybox\n    command: echo from a\n    labels: {x: y}\n"
        "    logging: {driver: json-file, options: {max-size: 64k, max-file: '2', labels: x}}\n"
        "  b: {image: busybox, command: echo from b, logging: {driver: none}}\n"
    )
    done = shop.compose("up")
    assert "from a" in done.stdout
    assert "from b" not in done.stdout
    documents = {name: json.loads(shop.sampan("inspect", id).stdout)[0] for name, id in shop.ids().items()}
    told = {name: document["HostConfig"]["LogConfig"] for name, document in documents.items()}
    assert told == {
        "shop-a-1": {"Type": "json-file", "Config": {"max-size": "64k", "max-file": "2", "labels": "x"}},
        "shop-b-1": {"Type": "none", "Config": {}},
    }
    assert shop.sampan("logs", "--details", "shop-a-1").stdout == "x=y from a\n"
    shop.write("services:\n  a: {image: busybox, logging: {options: {max-sise: 1m}}}\n")
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 1
    assert "`max-sise` is no option" in done.stderr
    shop.compose("down", "-t", "0")


def test_logs(shop: Shop) -> None:
    """Lines have their container's name; --tail, --no-log-prefix and a service choose."""
    shop.write(TWO)
    shop.compose("up", "-d")
    deadline = time.monotonic() + 5
    while len(lines := shop.compose("logs").stdout.splitlines()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sorted(lines) == ["db-1   | db up", "web-1  | web up"]
    assert shop.compose("logs", "--no-log-prefix", "db").stdout == "db up\n"
    assert shop.compose("logs", "--tail", "0").stdout == ""
    process = shop.begin("logs", "-f", "web")
    assert process.stdout is not None
    assert process.stdout.readline() == "web-1  | web up\n"
    shop.compose("down", "-v")
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 0


def test_exec_and_run(shop: Shop) -> None:
    """Exec goes into a service's container, run makes one of its own; both return the command's status."""
    shop.write(TWO)
    assert shop.compose("exec", "-T", "web", "true", check=False).returncode == 1
    done = shop.compose("run", "--rm", "-T", "-e", "A=b", "web", "sh", "-c", "echo $A; exit 3", check=False)
    assert (done.returncode, done.stdout) == (3, "b\n")
    assert set(shop.ids()) == {"shop-db-1"}
    name = shop.compose("run", "-d", "--no-deps", "web", "sleep", "100").stdout.strip()
    assert name.startswith("shop-web-run-")
    shop.compose("up", "-d")
    assert shop.compose("exec", "-T", "-w", "/tmp", "web", "pwd").stdout == "/tmp\n"
    shop.compose("down", "-v")
    assert shop.ids() == {}


def test_ps_ls_port_images(shop: Shop) -> None:
    """What there is, as tables and documents."""
    shop.write(TWO.replace("depends_on: [db]", 'depends_on: [db]\n        ports: ["127.0.0.1::80"]'))
    shop.compose("up", "-d")
    assert shop.compose("port", "web", "80").stdout.startswith("127.0.0.1:")
    assert shop.compose("port", "web", "81", check=False).returncode == 1
    row = json.loads(shop.compose("ps", "--format", "json", "web").stdout)
    told = shop.compose("ps", "--format", "{{.Service}} {{.State}} {{.ExitCode}}{{range .Publishers}}!{{end}}", "db")
    assert told.stdout == "db running 0\n"
    assert (row["Name"], row["Service"], row["Publishers"][0]["TargetPort"]) == ("shop-web-1", "web", 80)
    assert "shop" in shop.compose("ls").stdout
    assert "busybox" in shop.compose("images").stdout
    shop.compose("down", "-v")
    assert "shop" not in shop.compose("ls", "-a").stdout


def test_foreground(shop: Shop, store: Store) -> None:
    """Up shows everybody's lines; Ctrl-C stops all, and the status is docker's."""
    shop.write(TWO.replace("stop_grace_period: 0s", "stop_grace_period: 1s"))
    process = shop.begin("up")
    assert process.stdout is not None
    lines = {process.stdout.readline() for _ in range(2)}
    assert lines == {"db-1   | db up\n", "web-1  | web up\n"} or "db-1  | db up\n" in lines
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Gracefully stopping" in err
    assert out.count("exited with code 137") == 2
    assert shop.compose("ps", "-q").stdout == ""
    shop.compose("down", "-v")
    assert store.left(shop.raw) == []


def test_pause_unpause_top_stats(shop: Shop) -> None:
    """The words for what runs; a paused service is stopped as any other, and `up` says why it cannot be started."""
    shop.write(TWO)
    shop.compose("up", "-d")
    assert "Container shop-web-1  Paused" in shop.compose("pause", "web").stderr
    states = ["ps", "--format", "{{.Service}} {{.State}}"]
    assert shop.compose(*states).stdout == "db running\nweb paused\n"
    assert "Paused" not in shop.compose("pause", "web").stderr
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 1
    assert "`shop-web-1` is paused" in done.stderr
    names = shop.compose("stats", "--no-stream", "--format", "{{.Name}}").stdout
    assert names == "shop-db-1\nshop-web-1\n"
    title, *rows = shop.compose("top", "db").stdout.splitlines()
    assert title.split()[:4] == ["SERVICE", "#", "UID", "PID"]
    assert {tuple(row.split()[:2]) for row in rows} == {("db", "1")}
    shop.compose("unpause")
    assert shop.compose(*states).stdout == "db running\nweb running\n"
    shop.compose("pause")
    shop.compose("down", "-v")
    assert shop.ids() == {}


def test_the_second_ctrl_c_kills(shop: Shop) -> None:
    """Who does not want to wait ten seconds presses it again."""
    shop.write(
        TWO.replace("stop_grace_period: 0s", "stop_grace_period: 1h").replace("exec sleep", "trap true TERM; sleep")
    )
    process = shop.begin("up")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("Stopping" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert shop.compose("ps", "-q").stdout == ""
    shop.compose("down", "-v", "-t", "0")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--abort-on-container-exit",), 3),
        (("--exit-code-from", "job"), 3),
        (("--exit-code-from", "other"), 137),
        (("--abort-on-container-failure",), 3),
        ((), 0),
    ],
)
def test_exit_statuses(shop: Shop, words: tuple[str, ...], status: int) -> None:
    """The status of up is that of the container that was named, or that ended it."""
    sleep = "sleep 100" if words else "sleep 0"
    shop.write(
        f"""
        services:
          job: {{image: busybox, command: sh -c 'sleep 0.5; exit 3'}}
          other: {{image: busybox, command: {sleep}, stop_grace_period: 0s}}
        """
    )
    assert shop.compose("up", *words, check=False).returncode == status
    assert shop.compose("ps", "-q").stdout == ""
    shop.compose("down")


def test_completed_successfully(shop: Shop) -> None:
    """Who waits for an end starts after it; where the end is a failure, not at all."""
    text = """
        services:
          init: {{image: busybox, command: sh -c 'sleep 0.3; echo made > /v/x; exit {}', volumes: ['v:/v']}}
          web:
            image: busybox
            command: cat /v/x
            volumes: ['v:/v']
            depends_on: {{init: {{condition: service_completed_successfully}}}}
        volumes: {{v: }}
        """
    shop.write(text.format(0))
    assert "web-1   | made" in shop.compose("up").stdout
    shop.compose("down", "-v")
    shop.write(text.format(4))
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 1
    assert "dependency failed to start: container shop-init-1 didn't complete successfully: exit 4" in done.stderr
    assert set(shop.ids()) == {"shop-init-1"}
    shop.compose("down", "-v")


HEALTH = """
    services:
      db:
        image: busybox
        command: sh -c 'sleep 0.5; {}; exec sleep 100'
        healthcheck: {{test: test -e /tmp/ready, interval: 100ms, retries: {}}}
        stop_grace_period: 0s
      web:
        image: busybox
        command: sleep 100
        depends_on: {{db: {{condition: service_healthy}}}}
        stop_grace_period: 0s
    """


def test_healthy_before_the_next(shop: Shop) -> None:
    """Who waits for health starts after it; --wait returns when all is well, and says so when it is not."""
    shop.write(HEALTH.format("touch /tmp/ready", 600))
    told = shop.compose("up", "-d", "--wait").stderr
    assert told.index("shop-db-1  Waiting") < told.index("shop-db-1  Healthy") < told.index("shop-web-1  Started")
    assert "(healthy)" in shop.compose("ps", "db").stdout
    assert json.loads(shop.compose("ps", "--format", "json", "db").stdout)["Health"] == "healthy"
    shop.compose("down")
    shop.write(HEALTH.format("true", 2))
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 1
    assert "dependency failed to start: container shop-db-1 is unhealthy" in done.stderr
    assert set(shop.ids()) == {"shop-db-1"}
    shop.compose("down")


def test_who_has_no_health_cannot_be_waited_for(shop: Shop) -> None:
    """A condition that nobody checks is an error, not a wait for ever."""
    shop.write(TWO.replace("[db]", "{db: {condition: service_healthy}}"))
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 1
    assert "`shop-db-1` has no health check" in done.stderr
    shop.compose("down", "-v")


def test_restart_policy(shop: Shop) -> None:
    """A service that fails is started again, and its lines go on."""
    shop.write(
        """
        services:
          job:
            image: busybox
            command: sh -c 'echo begun; exit 3'
            restart: on-failure:2
        """
    )
    done = shop.compose("up")
    assert done.stdout.count("job-1  | begun\n") == 3
    assert done.stdout.count("exited with code 3") == 1
    shop.compose("down")


@pytest.mark.usefixtures("no_registry")
def test_a_missing_image_suggests_the_bootstrap(shop: Shop) -> None:
    """The error names image, line and the way out; nothing was made."""
    shop.write("services:\n  db:\n    image: mysql:8.0\n")
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 1
    assert "cannot be reached for `mysql:8.0`" in done.stderr
    assert "compose.yaml:3" in done.stderr
    assert "sampan bootstrap mysql:8.0" in done.stderr
    assert "shop" not in shop.sampan("network", "ls").stdout


def test_a_service_is_built_by_its_dockerfile(shop: Shop) -> None:
    """`build:` in its short and its long form: file, target, arguments, labels; `up` builds once, `--build` again."""
    shop.write("FROM busybox\nRUN echo one >/made\nCMD cat /made\n", "Dockerfile")
    other = """
        FROM busybox AS first
        ARG WORD
        RUN echo $WORD >/made
        CMD cat /made
        FROM first
        RUN false
    """
    shop.write(other, "Other")
    shop.write("""
        services:
          one:
            build: .
          two:
            build:
              context: .
              dockerfile: Other
              target: first
              args: {WORD: two}
              labels: {a: b}
    """)
    done = shop.compose("up")
    assert "one-1  | one\n" in done.stdout
    assert "two-1  | two\n" in done.stdout
    assert json.loads(shop.sampan("inspect", "shop-two").stdout)[0]["Config"]["Labels"]["a"] == "b"
    shop.write("FROM busybox\nRUN echo changed >/made\nCMD cat /made\n", "Dockerfile")
    assert "one-1  | one\n" in shop.compose("up").stdout
    assert "one-1  | changed\n" in shop.compose("up", "--build").stdout
    shop.compose("down")


def test_a_start_that_fails_is_one_error(shop: Shop) -> None:
    """A command that is not there, and a port that is taken: one error each, with the service's line."""
    shop.write("services:\n  web:\n    image: busybox\n    command: no-such\n")
    done = shop.compose("up", "-d", check=False)
    assert done.returncode == 127
    assert "no-such" in done.stderr
    assert "compose.yaml:2" in done.stderr
    shop.compose("down")


def test_secrets_and_configs(shop: Shop, store: Store) -> None:
    """Secrets and configs from files, variables and the text itself are found where they belong."""
    (shop.directory / "password").write_text("hidden", encoding="utf-8")
    shop.write(
        """
        services:
          web:
            image: busybox
            command: sh -c 'cat /run/secrets/password /run/secrets/own /etc/app.conf'
            secrets: [password, {source: token, target: own}]
            configs: [{source: app, target: /etc/app.conf}]
        secrets:
          password: {file: ./password}
          token: {environment: TOKEN}
        configs:
          app: {content: "debug: false"}
        """
    )
    shop.write("TOKEN=from-env\n", ".env")
    assert shop.compose("up", "--no-log-prefix").stdout.startswith("hiddenfrom-envdebug: false\n")
    first = shop.ids()
    (shop.directory / "password").write_text("changed", encoding="utf-8")
    shop.compose("up", "-d")
    assert shop.ids() != first
    shop.compose("down", "-v")
    assert not os.path.exists(f"{store.root}/compose/shop")


@pytest.mark.parametrize("delay", [0.15, 0.25, 0.35, 0.5, 0.7])
def test_killed_in_the_middle(shop: Shop, store: Store, delay: float) -> None:
    """A SIGKILL anywhere in up: the next up completes it, down leaves nothing."""
    shop.write(TWO)
    process = shop.begin("up", "-d")
    time.sleep(delay)
    process.kill()
    process.communicate()
    shop.compose("up", "-d")
    assert set(shop.ids()) == {"shop-db-1", "shop-web-1"}
    assert shop.compose("ps", "--services").stdout == "db\nweb\n"
    shop.compose("down", "-v")
    assert store.left(shop.raw) == []


def test_the_other_name(shop: Shop) -> None:
    """A link called docker-compose is `sampan compose`, one called docker is `sampan`."""
    shop.write(TWO)
    assert shop.through("docker-compose", "config", "--services") == "db\nweb\n"
    assert shop.through("docker", "compose", "config", "--services") == "db\nweb\n"
    assert shop.through("docker-compose", "--version").startswith("Sampan Compose version")


CHAIN = """
    services:
      web: {image: busybox, command: sleep 60, depends_on: [shelf]}
      shelf: {image: busybox, command: sleep 60, depends_on: [db]}
      db: {image: busybox, command: DB}
"""


@pytest.mark.parametrize("limit", ["1", "-1"])
def test_what_depends_starts_after(shop: Shop, limit: str) -> None:
    """A service is made ready while what it depends on is being started, and starts after it."""
    shop.write(CHAIN.replace("DB", "sleep 60"))
    shop.compose("--parallel", limit, "up", "-d")
    form = "{{.State.StartedAt}} {{.Name}}"
    lines = shop.sampan("inspect", "-f", form, "shop-web-1", "shop-shelf-1", "shop-db-1").stdout.splitlines()
    assert [line.split()[1] for line in sorted(lines)] == ["/shop-db-1", "/shop-shelf-1", "/shop-web-1"]
    shop.compose("down", "-t", "0")


def test_what_depends_on_a_failure_does_not_start(shop: Shop) -> None:
    """Where a service cannot start, those that depend on it have not run; the next `up` goes on from there."""
    shop.write(CHAIN.replace("DB", "/nothing"))
    done = shop.compose("up", "-d", check=False)
    assert done.returncode != 0
    assert "/nothing" in done.stderr
    assert shop.sampan("ps", "-q").stdout == ""
    assert not {name for name, id in shop.ids().items() if "0001" not in _started(shop, id)}
    shop.write(CHAIN.replace("DB", "sleep 60"))
    shop.compose("up", "-d")
    assert len(shop.sampan("ps", "-q").stdout.split()) == 3
    shop.compose("down", "-t", "0")


def _started(shop: Shop, id: str) -> str:
    return shop.sampan("inspect", "-f", "{{.State.StartedAt}}", id).stdout


JOINED = """
    services:
      web:
        image: busybox
        command: sleep 100
        network_mode: service:vpn
        pid: service:vpn
        ipc: service:vpn
        stop_grace_period: 0s
      vpn:
        image: busybox
        command: sleep 101
        ipc: shareable
        domainname: example.test
        mac_address: 02:42:0a:05:00:07
        networks:
          front:
            ipv4_address: 10.99.5.9
        stop_grace_period: 0s
      friend:
        image: busybox
        command: sleep 102
        links: ["vpn:tunnel"]
        uts: host
        cgroup: host
        networks: [front]
        stop_grace_period: 0s
    networks:
      front:
        attachable: true
        driver_opts:
          com.docker.network.driver.mtu: 1400
        ipam:
          config:
            - subnet: 10.99.0.0/16
              ip_range: 10.99.5.0/24
              aux_addresses: {taken: 10.99.5.1}
    """


def test_services_that_share_namespaces(shop: Shop, store: Store) -> None:
    """They start after the one that they join, and are made anew with it; a link is a name, and addresses are kept."""
    shop.write(JOINED)
    told = shop.compose("up", "-d").stderr
    assert told.index("shop-vpn-1  Started") < told.index("shop-web-1  Started")

    def inside(service: str, *words: str) -> str:
        return shop.compose("exec", "-T", service, *words).stdout

    assert "sleep 101" in inside("web", "ps")
    address = inside("web", "ip", "addr", "show", "eth0")
    assert "10.99.5.9/16" in address
    assert "02:42:0a:05:00:07" in address
    assert "mtu 1400" in address
    assert "1 packets received" in inside("friend", "ping", "-c", "1", "-W", "2", "tunnel")
    assert inside("friend", "hostname").strip() == os.uname().nodename
    assert shop.compose("up", "-d").stderr.count("Running") == 3
    before = shop.ids()
    shop.write(JOINED.replace("sleep 101", "sleep 103"))
    shop.compose("up", "-d")
    after = shop.ids()
    assert [before[name] == after[name] for name in sorted(before)] == [True, False, False]
    assert "sleep 103" in inside("web", "ps")
    shop.compose("stop", "vpn")
    shop.compose("up", "-d")
    assert "sleep 103" in inside("web", "ps")
    shop.compose("down")
    assert store.left(shop.raw) == []
