"""Texts to a project: long forms, merging, extends, include, profiles, and what is refused."""

import textwrap
from typing import Any

import pytest

from sampan.compose.model import resolve
from sampan.compose.model.load import Request, Text
from sampan.compose.model.project import Project
from sampan.errors import NotFound, SampanError, Unsupported

pytestmark = [pytest.mark.first]


def load(
    *texts: str,
    files: dict[str, str] | None = None,
    profiles: tuple[str, ...] = (),
    directory: str = "/p",
    name: str = "",
    environment: dict[str, str] | None = None,
) -> Project:
    """Load texts as if they were files in /p; `files` are others, by path."""
    others = files or {}

    def read(path: str) -> bytes:
        if path not in others:
            raise NotFound(f"there is no file `{path}`")
        return textwrap.dedent(others[path]).encode()

    request = Request(
        texts=tuple(Text(f"{n}.yaml", textwrap.dedent(text).encode()) for n, text in enumerate(texts)),
        directory=directory,
        environment=environment or {},
        read=read,
        name=name,
        home="/home/me",
    )
    return resolve.project(request, profiles=profiles)


def service(text: str) -> dict[str, Any]:
    """Return the values of one service with an image and these keys."""
    found = load(f"services:\n  web:\n    image: x\n    {text}\nvolumes: {{v: }}\n").services["web"].values
    return dict(found)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ('ports: ["80"]', "ports", [{"mode": "ingress", "target": 80, "protocol": "tcp"}]),
        (
            "ports: [3000-3001:4000-4001/udp]",
            "ports",
            [{"mode": "ingress", "target": 4000 + n, "published": f"{3000 + n}", "protocol": "udp"} for n in (0, 1)],
        ),
        (
            'ports: ["[::1]:80:81"]',
            "ports",
            [{"mode": "ingress", "host_ip": "::1", "target": 81, "published": "80", "protocol": "tcp"}],
        ),
        (
            "ports: ['127.0.0.1::80']",
            "ports",
            [{"mode": "ingress", "host_ip": "127.0.0.1", "target": 80, "protocol": "tcp"}],
        ),
        (
            "ports: ['8000-8009:80']",
            "ports",
            [{"mode": "ingress", "target": 80, "published": "8000-8009", "protocol": "tcp"}],
        ),
        (
            "ports: [{target: '80', published: 8080}]",
            "ports",
            [{"mode": "ingress", "protocol": "tcp", "target": 80, "published": "8080"}],
        ),
        ("environment: [A=b=c, 'D= e', N=]", "environment", {"A": "b=c", "D": " e", "N": ""}),
        (
            "environment: {A: 1, B: true, C: null, D: 1.50}",
            "environment",
            {"A": "1", "B": "true", "C": None, "D": "1.50"},
        ),
        ("labels: [a=b]", "labels", {"a": "b"}),
        ("command: sh -c 'a b' $$X", "command", ["sh", "-c", "a b", "$X"]),
        ("command: [a, b c]", "command", ["a", "b c"]),
        ('entrypoint: ""', "entrypoint", []),
        (
            "healthcheck: {test: curl x, interval: 1m30s}",
            "healthcheck",
            {"test": ["CMD-SHELL", "curl x"], "interval": "1m30s"},
        ),
        (
            "volumes: ['./d:/d:ro']",
            "volumes",
            [{"type": "bind", "source": "/p/d", "target": "/d", "read_only": True, "bind": {"create_host_path": True}}],
        ),
        (
            "volumes: ['~/d:/d']",
            "volumes",
            [{"type": "bind", "source": "/home/me/d", "target": "/d", "bind": {"create_host_path": True}}],
        ),
        (
            "volumes: ['v:/d', /anon]",
            "volumes",
            [
                {"type": "volume", "source": "v", "target": "/d", "volume": {}},
                {"type": "volume", "target": "/anon", "volume": {}},
            ],
        ),
        ("build: ./sub", "build", {"context": "/p/sub", "dockerfile": "Dockerfile"}),
        (
            "build: {context: https://x/y.git, args: [A=1]}",
            "build",
            {"context": "https://x/y.git", "dockerfile": "Dockerfile", "args": {"A": "1"}},
        ),
        ("tmpfs: /run", "tmpfs", ["/run"]),
        (
            "extra_hosts: ['a:192.0.2.1', 'a=192.0.2.2', 'b:::1']",
            "extra_hosts",
            {"a": ["192.0.2.1", "192.0.2.2"], "b": ["::1"]},
        ),
        ("mem_limit: 512m", "mem_limit", "536870912"),
        ("cpus: '0.5'", "cpus", 0.5),
        (
            "ulimits: {nofile: 1024, core: {soft: 1, hard: 2}}",
            "ulimits",
            {"nofile": 1024, "core": {"soft": 1, "hard": 2}},
        ),
        ("secrets: []", "secrets", []),
        ("x-own: {a: [1]}", "x-own", {"a": [1]}),
        ("privileged: 'true'", "privileged", True),
    ],
)
def test_long_forms(text: str, key: str, value: object) -> None:
    """Each short form is read as its long one."""
    assert service(text)[key] == value


@pytest.mark.parametrize(
    ("below", "above", "key", "value"),
    [
        ("command: a", "command: [b, c]", "command", ["b", "c"]),
        ("environment: [A=1, B=1]", "environment: {B: 2}", "environment", {"A": "1", "B": "2"}),
        ("expose: [1, 2]", "expose: [2, 3]", "expose", ["1", "2", "3"]),
        ("dns: 192.0.2.1", "dns: [192.0.2.2]", "dns", ["192.0.2.1", "192.0.2.2"]),
        ("volumes: ['./a:/x', './b:/y']", "volumes: ['v:/x']", "volumes", ["v:/x", "/p/b:/y"]),
        ("ports: ['80:80']", "ports: ['80:80', '81:80']", "ports", ["80", "81"]),
        ("ports: ['80:80']", "ports: !override ['81:80']", "ports", ["81"]),
        ("ports: ['80:80']", "ports: !reset []", "ports", None),
        ("environment: {A: 1}", "environment:", "environment", {"A": "1"}),
        ("environment: {A: 1, B: 1}", "environment: {A: !reset null}", "environment", {"B": "1"}),
        (
            "healthcheck: {test: a, interval: 5s}",
            "healthcheck: {test: [CMD, b]}",
            "healthcheck",
            {"test": ["CMD", "b"], "interval": "5s"},
        ),
        ("labels: [a=1]", "labels: [a=2, b=3]", "labels", {"a": "2", "b": "3"}),
        ("logging: {driver: json-file, options: {a: 1}}", "logging: {driver: local}", "logging", {"driver": "local"}),
    ],
)
def test_merging(below: str, above: str, key: str, value: object) -> None:
    """An override file: mappings by key, lists joined with each thing once, single values replaced."""
    first = f"services: {{web: {{image: x}}}}\n---\nservices:\n  web:\n    {below}\nvolumes: {{v: }}\n"
    found = load(first, f"services:\n  web:\n    {above}\n").services["web"].values.get(key)
    if key == "volumes":
        found = [f"{item['source']}:{item['target']}" for item in found or ()]
    if key == "ports" and found is not None:
        found = [item["published"] for item in found]
    assert found == value


def test_extends() -> None:
    """A service over another: of this file, of another file with paths of its own, and of one that extends itself."""
    other = """
        services:
          base: {image: base, volumes: ['./data:/data'], environment: {A: 1, B: 1}}
          middle: {extends: base, environment: {B: 2}}
        """
    text = "services:\n  web:\n    extends: {file: sub/other.yaml, service: middle}\n    environment: {C: 3}\n"
    web = load(text, files={"/p/sub/other.yaml": other}).services["web"]
    assert web.image == "base"
    assert web.environment == {"A": "1", "B": "2", "C": "3"}
    assert web.values["volumes"][0]["source"] == "/p/sub/data"


def test_include() -> None:
    """Another project is read with paths and variables of its own; what both have must agree."""
    sub = "services: {db: {image: 'db:${TAG}', volumes: ['./d:/d']}}\n"
    files = {"/p/sub/compose.yaml": sub, "/p/sub/.env": "TAG=7"}
    text = "include: [sub/compose.yaml]\nservices: {web: {image: x, depends_on: [db]}}\n"
    db = load(text, files=files).services["db"]
    assert (db.image, db.values["volumes"][0]["source"]) == ("db:7", "/p/sub/d")
    with pytest.raises(SampanError, match=r"`services\.db` stands in an included file too"):
        load(text.replace("services: {", "services: {db: {image: other}, "), files=files)
    with pytest.raises(SampanError, match=r"include each other in a circle"):
        load(text, files=files | {"/p/sub/compose.yaml": "include: [compose.yaml]\n"})


def test_environment_files() -> None:
    """`environment` wins over files, a later file over an earlier, a bare key is the caller's or none."""
    text = """
        services:
          web:
            image: x
            env_file: [a.env, {path: b.env, required: false}, {path: no.env, required: false}]
            environment: [C=own, HOME, MISSING]
        """
    files = {"/p/a.env": "A=1\nB=1\nC=1\n", "/p/b.env": "B=${A}2\n"}
    found = load(text, files=files, environment={"HOME": "/h"}).services["web"].environment
    assert found == {"A": "1", "B": "12", "C": "own", "HOME": "/h"}
    with pytest.raises(NotFound, match=r"`/p/a\.env` does not exist"):
        load(text)


def test_names() -> None:
    """The project is called as the person says, as the file says, or as its directory; things after it."""
    text = """
        name: ${N:-filed}
        services: {web: {image: 'x:$COMPOSE_PROJECT_NAME'}}
        volumes: {a: , b: {name: own}, c: {external: true}}
        """
    found = load(text)
    assert (found.name, found.services["web"].image) == ("filed", "x:filed")
    assert {key: one.name for key, one in found.volumes.items()} == {"a": "filed_a", "b": "own", "c": "c"}
    assert found.networks["default"].name == "filed_default"
    assert load(text, name="mine").name == "mine"
    assert load(text, environment={"COMPOSE_PROJECT_NAME": "env"}).name == "env"
    assert load("services: {web: {image: x}}", directory="/tmp/My App_1").name == "myapp_1"
    assert load("services: {web: {image: x}}", directory="/tmp/我的项目").name.startswith("project-")


def test_profiles() -> None:
    """A service with profiles is there when one of them is on."""
    text = "services: {web: {image: x}, dbg: {image: x, profiles: [debug]}}"
    assert set(load(text).services) == {"web"}
    assert set(load(text, profiles=("debug",)).services) == {"web", "dbg"}
    assert set(load(text, profiles=("*",)).services) == {"web", "dbg"}


def test_warnings() -> None:
    """An obsolete version, an unset variable and what has no effect are named."""
    found = load("version: '3'\nservices: {web: {image: 'x:$TAG', cpu_count: 2}}\n")
    assert len(found.warnings) == 3
    assert "`version` is obsolete" in found.warnings[0]
    assert found.warnings[1] == 'The "TAG" variable is not set. Defaulting to a blank string.'
    assert found.warnings[2] == "`services.web.cpu_count` has no effect here"


@pytest.mark.parametrize(
    ("text", "line", "words", "hint"),
    [
        ("services:\n  web:\n    imge: x\n", 3, "the key `imge` in `services.web` is unknown", "did you mean `image`?"),
        ("services:\n  web:\n    image: x\nvolume: {}\n", 4, "the key `volume` is unknown", "did you mean `volumes`?"),
        ("services:\n  web:\n    build:.\n", 3, "there is no space after the colon in `build:.`", "write `build: .`"),
        ("services:\n  web: {}\n", 2, "has neither an image nor a build context", "give it `image: NAME`"),
        (
            "services:\n  web:\n    image: x\n    ports: 80\n",
            4,
            "`services.web.ports` must be a list, not a number",
            "",
        ),
        ("services:\n  web:\n    image: x\n    ports: [x]\n", 4, "`x` is no port", "write it like"),
        ("services:\n  web:\n    image: x\n    ports: ['80:99999']\n", 4, "not within 1 to 65535", ""),
        ("services:\n  web:\n    image: x\n    ports: ['1-65535:1-65535']\n", 4, "more than 1024 ports", ""),
        ("services:\n  web:\n    image: x\n    volumes: [a]\n", 4, "`a` is no volume", "write it like"),
        (
            "services:\n  web:\n    image: x\n    volumes: ['dat:/d']\nvolumes: {data: }\n",
            4,
            "no volume `dat`",
            "`data`?",
        ),
        ("services:\n  web:\n    image: x\n    networks: [back]\n", 4, "no network `back`", "add it under `networks:`"),
        ("services:\n  web:\n    image: x\n    depends_on: [dbb]\n  db: {image: x}\n", 4, "no service `dbb`", "`db`?"),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            3,
            "circle: a -> b -> a",
            "",
        ),
        ("services:\n  a: {extends: b}\n  b: {extends: a}\n", 2, "extend each other in a circle: a -> b -> a", ""),
        ("services:\n  web:\n    image: x\n    stop_grace_period: 10\n", 4, "must be a time span", "write `10s`"),
        ("services:\n  web:\n    image: x\n    mem_limit: lots\n", 4, "`lots` is not a size", "64m"),
        ("services:\n  web:\n    image: ${A:?name it}\n", 3, "the variable `A` is not set: name it", "`.env`"),
        ("services:\n  web:\n    image: ${A\n", 3, "malformed", "write `$$`"),
        ("services:\n  web:\n    image: x\n    scale: 2\n    container_name: y\n", 5, "cannot all be called `y`", ""),
        ("services:\n  web:\n    image: x\n    tty: maybe\n", 4, "must be `true` or `false`", ""),
        ("services:\n  web:\n    image: x\n    hostname: true\n", 4, "must be a string", '`"true"` in quotes'),
        ("name: Upper\nservices: {web: {image: x}}\n", 1, "`Upper` cannot be a project's name", "lower-case"),
        (
            "services:\n  web: {image: x, depends_on: {db: {condition: healthy}}}\n",
            2,
            "cannot be `healthy`",
            "`service_healthy`?",
        ),
        ("x: 1\n", 1, "the key `x` is unknown", "`x-`"),
        ("name: a\n", 1, "has no services", "`services:`"),
    ],
)
def test_mistakes(text: str, line: int, words: str, hint: str) -> None:
    """Each mistake is one error with its line and a way out."""
    with pytest.raises(SampanError) as raised:
        load(text)
    assert words in raised.value.what
    assert raised.value.at is not None
    assert raised.value.at.line == line
    assert hint in "".join(raised.value.hints)


@pytest.mark.parametrize(
    "text",
    [
        "network_mode: other",
        "deploy: {mode: global}",
        "logging: {driver: syslog}",
        "storage_opt: {size: 1g}",
        "volumes: [{type: image, source: x, target: /y}]",
        "build: {context: ., ssh: [default]}",
        "gpus: all",
        "isolation: hyperv",
        "use_api_socket: true",
    ],
)
def test_what_is_not_there_is_refused(text: str) -> None:
    """A key that cannot be honoured is never passed over in silence."""
    with pytest.raises(SampanError, match=r"is not there") as raised:
        service(text)
    assert raised.value.at is not None
    assert isinstance(raised.value, Unsupported) or "network_mode" in text


def test_who_joins_a_service_waits_for_it() -> None:
    """A namespace of another service is a dependency; one that is not there, and a circle, are errors with a line."""
    text = "services:\n  web:\n    image: x\n    {}\n  db:\n    image: x\n"
    for key in ("network_mode", "pid", "ipc"):
        found = load(text.format(f"{key}: service:db")).services["web"]
        assert found.joined == {key: "db"}
        assert list(found.dependencies) == ["db"]
        with pytest.raises(NotFound, match="no service `dc`") as raised:
            load(text.format(f"{key}: service:dc"))
        assert raised.value.at is not None
        assert raised.value.at.line == 4
    with pytest.raises(SampanError, match="circle"):
        load(text.format("network_mode: service:db") + "    pid: service:web\n")
