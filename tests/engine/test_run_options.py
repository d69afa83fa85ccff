"""What a person may write, and that it is kept as it was meant."""

import pytest

from sampan.engine import mount_words, record, words
from sampan.engine.run_options import (
    HealthCheck,
    NetworkRequest,
    RestartPolicy,
    RunOptions,
    Ulimit,
    VolumeMount,
)
from sampan.errors import InvalidArgument, NotFound, SampanError, Unsupported
from sampan.network.endpoint import PortMapping

pytestmark = [pytest.mark.first]


def test_options_survive_their_record() -> None:
    """RunOptions.parse(options.document()) is options, field by field."""
    options = RunOptions(
        "busybox",
        command=("sh", "-c", "true"),
        entrypoint=(),
        env=("A=b", "C=d=e"),
        ports=(PortMapping(80, host_port=8000, host_ip="127.0.0.1"),),
        volumes=(VolumeMount("bind", "/a", "/b", read_only=True, options=("noexec",)),),
        ulimits=(Ulimit("nofile", 1, 2),),
        labels={"x": "y"},
        memory_bytes=1 << 28,
        tty=True,
        networks=(NetworkRequest("front", aliases=("a", "b"), ip="10.5.0.7"), NetworkRequest("back")),
        health=HealthCheck(("CMD", "true"), interval_ns=1, retries=2),
        restart=RestartPolicy("on-failure", 3),
    )
    assert RunOptions.parse(options.document()).document() == options.document()
    assert RunOptions.parse(options.document()).command == ("sh", "-c", "true")
    assert RunOptions.parse(RunOptions("a").document()).entrypoint is None


def test_options_of_version_1_mean_what_they_meant() -> None:
    """A container that was made when there was one network, no health check and no restart policy."""
    old = RunOptions("busybox").document()
    for name in ("networks", "health", "restart", "dns_option", "expose"):
        del old[name]
    found = RunOptions.parse(record._options({"version": 1, "options": old | {"network": "default"}}))
    assert found.document() == RunOptions("busybox").document()
    assert found.network_mode == "bridge"


def test_networks_are_written_as_docker_s() -> None:
    """A name, or key and value; what is unknown is refused."""
    assert words.parse_network("front").name == "front"
    asked = words.parse_network("name=front,alias=a,alias=b,ip=10.5.0.7,mac-address=02-42-0A-05-00-07")
    assert (asked.name, asked.aliases, asked.ip, asked.mac) == ("front", ("a", "b"), "10.5.0.7", "02:42:0a:05:00:07")
    with pytest.raises(Unsupported):
        words.parse_network("name=front,driver-opt=x")
    with pytest.raises(InvalidArgument):
        words.parse_network("name=front,driver=x")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/host:/in", ("bind", "/host", "/in", False)),
        ("/host/:/in/:ro", ("bind", "/host", "/in", True)),
        ("data:/in", ("volume", "data", "/in", False)),
        ("/in", ("volume", "", "/in", False)),
        ("/a:/in:ro,z", ("bind", "/a", "/in", True)),
    ],
)
def test_a_volume_is_what_docker_takes_it_for(word: str, expected: tuple[str, str, str, bool]) -> None:
    """A path is a bind, a name a volume, a lone path an anonymous one."""
    mount = mount_words.parse_volume(word)
    assert (mount.kind, mount.source, mount.destination, mount.read_only) == expected


@pytest.mark.parametrize("word", ["", ":/in", "a:b", "/a:/b:/c:/d", "/a:/", "/a:/b:sideways", "-a:/b", "/a:/b\0"])
def test_what_is_no_volume_is_said_so(word: str) -> None:
    """A volume word that means nothing is InvalidArgument with a way out."""
    with pytest.raises(InvalidArgument):
        mount_words.parse_volume(word)


def test_signals_have_names_and_numbers() -> None:
    """Docker kill takes a name with or without SIG, and a number."""
    assert [words.parse_signal(word) for word in ("TERM", "sigterm", "15", "KILL", "RTMIN+1")] == [
        15,
        15,
        15,
        9,
        35,
    ]
    for word in ("", "NOPE", "0", "65", "-1"):
        with pytest.raises(InvalidArgument):
            words.parse_signal(word)


def test_the_environment_is_files_then_words(tmp_path: object) -> None:
    """A bare name takes the caller's value or vanishes; a later word wins."""
    path = f"{tmp_path}/env"
    with open(path, "w", encoding="utf-8") as file:
        file.write("# comment\n\nA=file\nB=file word\nHOME\nNOWHERE\n")
    found = words.resolve_environment(["B=word", "C"], [path], {"HOME": "/h", "C": "c"})
    assert found == ("A=file", "B=word", "HOME=/h", "C=c")


@pytest.mark.parametrize("content", [b"bad name=x\n", b"\xff=\n", b"=x\n"])
def test_an_environment_file_that_is_none_is_refused(tmp_path: object, content: bytes) -> None:
    """What docker would refuse is refused with its line."""
    path = f"{tmp_path}/env"
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(SampanError):
        words.resolve_environment([], [path], {})


def test_security_options() -> None:
    """Seccomp and no-new-privileges are there; what is not is said to be missing."""
    assert words.parse_security_options(["seccomp=unconfined", "no-new-privileges"]) == ("unconfined", True)
    assert words.parse_security_options([]) == ("", False)
    with pytest.raises(SampanError, match="apparmor"):
        words.parse_security_options(["apparmor=mine"])


def test_a_mount_s_missing_source_is_an_error() -> None:
    """`--mount` never makes what is not there, as with docker."""
    with pytest.raises(NotFound):
        mount_words.parse_mount("type=bind,source=/no/such/place,target=/in")


def test_ulimits() -> None:
    """Soft and hard, -1 is unlimited, soft is at most hard."""
    limit = words.parse_ulimit("nofile=10:20")
    assert (limit.name, limit.soft, limit.hard) == ("nofile", 10, 20)
    for word in ("nofile", "files=1", "nofile=20:10", "nofile=x"):
        with pytest.raises(InvalidArgument):
            words.parse_ulimit(word)
