"""Compose files that both read, and mistakes that neither takes: what `config` prints must mean the same."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """The files of a project by name, and the words between `compose` and `config`."""

    compose: str
    more: dict[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def _read(text: str) -> Iterator[tuple[str, Files]]:
    """Yield the projects of projects.txt by name."""
    for part in text.split("\n==== ")[1:]:
        name, _, rest = part.partition("\n")
        whole, *more = rest.rstrip("\n").split("\n---- ")
        found = {key: f"{body}\n" for key, _, body in (piece.partition("\n") for piece in more)}
        words = tuple(found.pop("words", "").split())
        yield name, Files(f"{whole}\n", found, words)


A = "services:\n  a:\n    image: busybox\n"
# Names of volumes have two letters at least: docker takes `x:/x` for a path of Windows.
PROJECTS = dict(_read(Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")))

# What both refuse.
MISTAKES = {
    "no services' image": "services:\n  a: {}\n",
    "unknown key": A + "    imagee: x\n",
    "unknown top key": "servces: {}\n" + A,
    "wrong type": A + "    ports: {a: b}\n",
    "wrong port": A + "    ports: ['99999:80']\n",
    "missing variable": A + "    command: ${X:?needed}\n",
    "bad template": A + "    command: ${X\n",
    "unknown dependency": A + "    depends_on: [nobody]\n",
    "circle": A + "    depends_on: [b]\n  b: {image: busybox, depends_on: [a]}\n",
    "undeclared volume": A + "    volumes: ['vv:/v']\n",
    "undeclared network": A + "    networks: [n]\n",
    "undeclared secret": A + "    secrets: [s]\n",
    "missing env_file": A + "    env_file: none.env\n",
    "missing extends": A + "    extends: nobody\n",
    "extends in a circle": A + "    extends: b\n  b: {extends: a}\n",
    "missing include": "include: [none.yaml]\n" + A,
    "tab": "services:\n\ta:\n",
    "same key twice": A + "    image: other\n",
    "network and mode": A + "    network_mode: host\n    networks: [n]\nnetworks: {n: }\n",
    "bad duration": A + "    stop_grace_period: soon\n",
    "bad size": A + "    mem_limit: much\n",
    "bad condition": A + "    depends_on: {b: {condition: ready}}\n  b: {image: busybox}\n",
    "empty": "",
    "a list": "- a\n",
}
