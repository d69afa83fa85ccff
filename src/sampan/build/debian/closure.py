"""Which packages a base consists of: all that its roots depend on, less what only a package manager or shell needs.

Pure. What is left out is left out with its own dependencies; a dependency with an alternative that is left out counts
as met. Whoever adds a root must see that nothing in it calls what stands in EXCLUDED.
"""

from collections.abc import Sequence
from typing import Protocol

from sampan.build.debian import version
from sampan.build.debian.stanza import Package
from sampan.errors import NotFound

# No shell, no package manager, nothing that installs: libraries and Python need none of these to run.
EXCLUDED = frozenset(
    (
        "dpkg", "debconf", "debconf-2.0", "cdebconf", "libdebconfclient0", "perl-base", "perl", "bash", "dash",
        "coreutils", "sed", "grep", "tar", "gzip", "findutils", "diffutils", "hostname", "mawk", "awk", "gawk",
        "original-awk", "openssl", "openssl-provider-legacy", "install-info", "sensible-utils", "login", "passwd",
        "base-passwd", "readline-common", "gcc-10-base", "gcc-12-base", "gcc-14-base", "usrmerge", "usr-is-merged",
        "init-system-helpers", "util-linux", "python3-minimal", "tzdata-legacy", "lsb-base", "adduser", "ucf",
        "libpam0g", "debianutils",
        # Berkeley DB, 1.8 MB for `dbm.ndbm`, which has other back ends; the module is left out with it.
        "libdb5.3", "libdb5.3t64",
    ),
)  # fmt: skip


class Suite(Protocol):
    """Where packages are looked up: one suite's Packages."""

    def find(self, name: str) -> Package | None:
        """Return the newest package of this name, or None."""

    def providers(self, name: str) -> list[str]:
        """Return the names of those that provide the virtual package `name`."""


def close(
    roots: Sequence[str], suites: Sequence[Suite], excluded: frozenset[str] = EXCLUDED, have: Sequence[Package] = ()
) -> list[Package]:
    """Return the packages that `roots` need, sorted by name, each the newest of all `suites`, less those of `have`.

    Raises NotFound where a root or a dependency that is not excluded stands in no suite.
    """
    chosen = {package.name: package for package in have}
    # What the packages below provide is there as well.
    chosen |= {name: package for package in have for name in package.provides if name not in chosen}
    queue = list(roots)
    while queue:
        name = queue.pop(0)
        if name in chosen or name in excluded:
            continue
        package = _newest(name, suites) or _provider(name, suites, excluded, chosen)
        if package is None:
            raise NotFound(f"the Debian index has no package `{name}`")
        if package.name in chosen:
            continue
        chosen[package.name] = package
        queue += [group[0] for group in package.depends if not _is_met(group, chosen, excluded)]
    known = {package.name for package in have} | {name for package in have for name in package.provides}
    return [chosen[name] for name in sorted(chosen) if name not in known]


def _is_met(group: tuple[str, ...], chosen: dict[str, Package], excluded: frozenset[str]) -> bool:
    return any(name in chosen or name in excluded for name in group)


def _newest(name: str, suites: Sequence[Suite]) -> Package | None:
    found = [package for suite in suites if (package := suite.find(name))]
    return max(found, key=lambda package: version.key(package.version), default=None)


def _provider(
    name: str, suites: Sequence[Suite], excluded: frozenset[str], chosen: dict[str, Package]
) -> Package | None:
    """Return a package that provides `name`: one that is chosen already, else the first."""
    names = [provider for suite in suites for provider in suite.providers(name) if provider not in excluded]
    if not names:
        return None
    return _newest(next((provider for provider in names if provider in chosen), names[0]), suites)
