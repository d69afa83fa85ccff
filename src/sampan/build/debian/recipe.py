"""Recipes: what stand-ins there are, and of which packages each is made. Data in `recipes/`, read here and checked.

A recipe is one TOML file, called as its repository:

    title, below            what it is, and the repository whose slim image lies below it (none for `debian`)
    any_version             a tag may name any version, and what is inside is said; else it is an error (`python:3.10`)
    flavours                suffix of a tag -> further packages; `aliases` are suffixes that mean another, and warn
    [[releases]]            suite, product, versions, packages, main (the package that people mean); in order of
                            preference: the first that has the version, and that the mirror has
    before, script          shell scripts that run in the image before and after the packages are configured
    [files]                 path in the image -> a file beside the recipe, and its mode
    [config]                the image's config, in docker's words; `{version}` and `{main_version}` are filled in
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from sampan.errors import Internal, InvalidArgument, NotFound
from sampan.oci.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

_DIRECTORY = os.path.join(os.path.dirname(__file__), "recipes")
_SUITES = ("bullseye", "bookworm", "trixie", "forky", "sid")
_PREFIX = "library/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of Debian that a recipe can be made from; `main` is the package that people mean."""

    suite: str
    product: str
    main: str
    versions: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a recipe adds to the image."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One stand-in as it was asked for: `releases` in order of preference, `packages` on top of the release's own."""

    repository: str
    title: str
    below: str
    version: str
    packages: tuple[str, ...]
    releases: tuple[Release, ...]
    files: tuple[File, ...]
    before: str
    script: str
    config: "Document"
    has_documents: bool
    warnings: tuple[str, ...]

    def is_other(self, release: Release, version: str) -> bool:
        """Tell whether a release's product and `version` are not what the name says."""
        says_version = self.version[:1].isdigit()
        is_within = f"{version}.".startswith(f"{self.version}.")
        return release.product.split()[0] != self.title or (says_version and not is_within)


def names() -> list[str]:
    """Return the repositories that there are recipes for."""
    return sorted(name.removesuffix(".toml") for name in os.listdir(_DIRECTORY) if name.endswith(".toml"))


def find(reference: Reference) -> Recipe:
    """Return the recipe that a name asks for.

    Raises NotFound where there is none, InvalidArgument for a version that no release of Debian has.
    """
    repository = reference.path.removeprefix(_PREFIX)
    if reference.domain != "docker.io" or repository not in names() or reference.digest is not None:
        raise _unknown(reference)
    return _Tag(reference, repository).recipe()


def _unknown(reference: Reference) -> NotFound:
    known = names()
    near = difflib.get_close_matches(reference.familiar_name(), known, 1)
    hints = (
        *((f"did you mean `{near[0]}`?",) if near else ()),
        f"there are {', '.join(f'`{name}`' for name in known)}",
        f"`sampan pull {reference.familiar()}` gets the real one where a registry can be reached",
    )
    return NotFound(f"there is no recipe for a stand-in of `{reference.familiar()}`", hints=hints)


class _Tag:
    """A tag taken apart: VERSION[-FLAVOUR][-SUITE]."""

    def __init__(self, reference: Reference, repository: str) -> None:
        self._reference = reference
        self._repository = repository
        with open(f"{_DIRECTORY}/{repository}.toml", "rb") as file:
            self._table = tomllib.load(file)
        self._warnings: list[str] = []

    def recipe(self) -> Recipe:
        version, flavour, suite = self._parts(self._reference.tag or "latest")
        releases = [self._release(table, version) for table in self._table["releases"]]
        fitting = [release for release in releases if suite in {"", release.suite} and self._has(release, version)]
        if not fitting:
            raise self._no_release(version, suite, releases)
        return Recipe(
            repository=self._repository,
            title=self._table["title"],
            below=self._table.get("below", ""),
            version=version,
            packages=tuple(_filled(self._table["flavours"][flavour], version)),
            releases=tuple(fitting),
            files=tuple(self._file(path, found) for path, found in self._table.get("files", {}).items()),
            before=self._text(self._table["before"]) if "before" in self._table else "",
            script=self._text(self._table["script"]) if "script" in self._table else "",
            config=self._table.get("config", {}),
            has_documents=flavour in self._table.get("documented", ()),
            warnings=tuple(self._warnings),
        )

    def _parts(self, tag: str) -> tuple[str, str, str]:
        """Return version, flavour and suite, the last two "" where the tag has none."""
        words = tag.split("-")
        suite = words.pop() if len(words) > 1 and words[-1] in _SUITES else ""
        flavour = ""
        if words[-1] in self._table["flavours"]:
            flavour = words.pop()
        elif words[-1] in self._table.get("aliases", {}):
            word = words.pop()
            flavour = self._table["aliases"][word]
            self._warnings.append(f"Debian is inside, where the tag says `{word}`")
        version = "-".join(words)
        return self._table.get("versions", {}).get(version, version), flavour, suite

    def _has(self, release: Release, version: str) -> bool:
        return bool(self._table.get("any_version")) or version in release.versions

    def _release(self, table: "Document", version: str) -> Release:
        return Release(
            suite=table["suite"],
            product=table["product"],
            main=table["main"].replace("{version}", version),
            versions=tuple(table.get("versions", ())),
            packages=tuple(_filled(table["packages"], version)),
        )

    def _no_release(self, version: str, suite: str, releases: list[Release]) -> InvalidArgument:
        wanted = self._reference.familiar()
        have = ", ".join(f"{release.versions[0]} ({release.suite})" for release in releases)
        hints = (
            f"Debian has {have}",
            f"`sampan pull {wanted}` gets the real image where a registry can be reached",
        )
        where = f"Debian's `{suite}` has" if suite else "a release of Debian has"
        return InvalidArgument(
            f"`{wanted}` needs an image from a registry: no {self._table['title']} {version} that {where}"[:300],
            hints=hints,
        )

    def _file(self, path: str, found: "Document") -> File:
        return File(path=path, content=self._text(found["source"]).encode(), mode=int(found.get("mode", "644"), 8))

    def _text(self, name: str) -> str:
        try:
            with open(f"{_DIRECTORY}/{name}", encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError as error:
            raise Internal(f"the recipe of `{self._repository}` names `{name}`, which is not there") from error


def _filled(words: list[str], version: str) -> list[str]:
    return [word.replace("{version}", version) for word in words]


def fill(config: "Document", words: Mapping[str, str]) -> "Document":
    """Return a config with `{name}` replaced in every string of its lists."""

    def text(value: str) -> str:
        for name, word in words.items():
            value = value.replace(f"{{{name}}}", word)
        return value

    return {key: [text(item) for item in value] if isinstance(value, list) else value for key, value in config.items()}
