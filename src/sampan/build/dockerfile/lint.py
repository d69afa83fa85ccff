"""What is wrong in a Dockerfile that builds all the same: findings, each with its rule, why, and how to mend it. Pure.

The rules of BuildKit's checks have BuildKit's names (`json-args-recommended`); the others are of images for Python
applications. `# check=skip=RULE,…` in the file leaves rules out. Statements that cannot be read are findings too, so
that the rest is looked at.
"""

from sampan.build.dockerfile import expand, installing, instruction, lifetime
from sampan.build.dockerfile import style as styles
from sampan.build.dockerfile.finding import Finding, Surroundings, style
from sampan.build.dockerfile.instruction import (
    Arg,
    Copy,
    Exec,
    From,
    Instruction,
    Pairs,
    Run,
    Several,
    Single,
    looks_like_json,
)
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.build.dockerfile.parser import Dockerfile

_SECRETS = ("password", "passwd", "secret", "token", "apikey", "api_key", "private_key", "credential")
_NO_SECRETS = ("_file", "_path", "_url", "_dir")
_INSTALLS = (
    "pip install",
    "pip3 install",
    "uv pip install",
    "uv sync",
    "poetry install",
    "pipenv install",
    "pdm install",
)
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_REMOTE = ("http://", "https://", "git://", "ssh://", "git@")


def lint(dockerfile: "Dockerfile", surroundings: Surroundings, today: str) -> list[Finding]:
    """Return what is wrong, by line; `today` is YYYY-MM-DD."""
    linter = _Linter(dockerfile, surroundings, today)
    found = [item for item in linter.run() if _plain(item.rule) not in _skipped(dockerfile)]
    order = {id(item): number for number, item in enumerate(found)}
    return sorted(found, key=lambda item: (item.place.path != dockerfile.path, item.place.line or 0, order[id(item)]))


def _skipped(dockerfile: "Dockerfile") -> set[str]:
    """Return the rules that the file's own `# check=` leaves out."""
    for part in dockerfile.directives.get("check", "").split(";"):
        key, _, value = part.partition("=")
        if key.strip() == "skip":
            names = {_plain(name) for name in value.split(",")}
            return names if "all" not in names else _Everything()
    return set()


class _Everything(set[str]):
    """The set that holds every rule."""

    def __contains__(self, name: object) -> bool:
        return True


def _plain(name: str) -> str:
    """Return a rule's name without case and hyphens: JSONArgsRecommended is json-args-recommended."""
    return name.strip().lower().replace("-", "")


class _Stage:
    """One FROM and its instructions, those of the stages below it first in `whole`."""

    def __init__(self, head: From, below: "_Stage | None") -> None:
        self.head = head
        self.below = below
        self.items: list[Instruction] = []

    def whole(self) -> list[Instruction]:
        found: list[Instruction] = []
        stage: _Stage | None = self
        while stage is not None:
            found = [*stage.items, *found]
            stage = stage.below
        return found

    def base(self) -> From:
        stage = self
        while stage.below is not None:
            stage = stage.below
        return stage.head


class _Linter:
    def __init__(self, dockerfile: "Dockerfile", surroundings: Surroundings, today: str) -> None:
        self._dockerfile = dockerfile
        self._around = surroundings
        self._today = today
        self._globals: dict[str, str] = {}
        self._stages: list[_Stage] = []

    def run(self) -> "Iterator[Finding]":
        """Yield every finding, in no order."""
        for place in self._dockerfile.gaps:
            yield Finding(
                "no-empty-continuation",
                place,
                "a blank line stands in a continued instruction",
                why="BuildKit will refuse it one day, and it is easily taken for the end",
                mend="remove the blank line, or put a comment there",
            )
        for statement in self._dockerfile.statements:
            try:
                item = instruction.parse(statement)
            except SampanError as error:
                mend = "; ".join(error.hints) or "write it as the Dockerfile reference has it"
                why = "the build stops here"
                yield Finding("invalid-instruction", error.at or statement.at, error.what, why=why, mend=mend)
                continue
            yield from self._take(item)
        yield from styles.casing(self._dockerfile)
        for stage in self._stages:
            yield from self._stage(stage)
        if self._stages:
            yield from self._target(self._stages[-1])

    # ------------------------------------------------------------------------------------------------ reading
    def _take(self, item: Instruction) -> "Iterator[Finding]":
        """Put an instruction into its stage."""
        if isinstance(item, From):
            yield from styles.stage(item, [stage.head.name for stage in self._stages])
            named = {stage.head.name: stage for stage in self._stages if stage.head.name}
            below = named.get(item.image.lower())
            self._stages.append(_Stage(item, below))
        elif self._stages:
            self._stages[-1].items.append(item)
        elif isinstance(item, Arg):
            self._globals |= {name: value.strip("\"'") for name, value in item.items if value is not None}

    def _image(self, item: From) -> tuple[str, str, bool]:
        """Return repository and tag of a FROM, and whether it has a digest."""
        try:
            name = expand.word(item.image, self._globals, item.statement.at)
        except SampanError:
            name = item.image
        name, at, _ = name.partition("@")
        colon = name.rfind(":")
        if colon < 0 or "/" in name[colon:]:
            return name, "", bool(at)
        return name[:colon], name[colon + 1 :], bool(at)

    # ---------------------------------------------------------------------------------------------------- each stage
    def _stage(self, stage: _Stage) -> "Iterator[Finding]":
        if stage.below is None:
            yield from self._base(stage.head)
        yield from self._repeated(stage)
        yield from self._order(stage)
        has_shell = any(item.keyword == "SHELL" for item in stage.whole())
        yield from self._workdir(stage)
        for item in stage.items:
            match item:
                case Run():
                    yield from installing.check(item, stage.whole())
                case Exec() if item.keyword != "SHELL":
                    yield from self._command(item, has_shell=has_shell)
                case Copy():
                    yield from self._copy(item)
                case Pairs() | Arg():
                    yield from self._names(item)
                case Several() if item.keyword == "EXPOSE":
                    yield from styles.ports(item)
                case Single() if item.keyword == "MAINTAINER":
                    mend = f'write `LABEL org.opencontainers.image.authors="{item.value}"`'
                    yield style("maintainer-deprecated", item.statement.at, "MAINTAINER is out of use", mend)
                case _:
                    pass

    def _workdir(self, stage: _Stage) -> "Iterator[Finding]":
        """The first WORKDIR of a stage, where it is relative."""
        first = next((item for item in stage.items if isinstance(item, Single) and item.keyword == "WORKDIR"), None)
        if first is not None and not first.value.startswith(("/", "$")):
            yield Finding(
                "workdir-relative-path",
                first.statement.at,
                f"`{first.value}` is relative to whatever the base's WORKDIR is",
                why="a new base moves the application elsewhere",
                mend=f"write `WORKDIR /{first.value}`",
            )

    def _base(self, head: From) -> "Iterator[Finding]":
        repository, tag, has_digest = self._image(head)
        at = head.statement.at
        if repository in {"", "scratch"}:
            return
        if "$" in head.image and not repository.strip(":/"):
            return
        version = f"{lifetime.NEWEST}-slim" if repository == "python" else "1.2"
        if not has_digest and tag in {"", "latest"}:
            yield Finding(
                "unpinned-base",
                at,
                f"`{head.image}` has no version",
                why="the next build may stand on another release, and nobody can say which it was",
                mend=f"name a version, as in `FROM {repository}:{version}`",
            )
        over = lifetime.ended(repository, tag, self._today)
        if over is not None:
            what, day = over
            name = f"{repository}:{lifetime.NEWEST}-slim" if what.startswith("Python") else "a newer release"
            yield Finding(
                "old-base",
                at,
                f"{what} has had no security fixes since {day}",
                why="holes that were found since then stay open in every container",
                mend=f"build on `{name}` and run the tests with it",
            )

    def _repeated(self, stage: _Stage) -> "Iterator[Finding]":
        last: dict[str, Instruction] = {}
        for item in stage.items:
            if item.keyword not in {"CMD", "ENTRYPOINT", "HEALTHCHECK"}:
                continue
            if item.keyword in last:
                what = f"a second {item.keyword} stands in this stage, and this one has no effect"
                at = last[item.keyword].statement.at
                why = "only the last one counts"
                yield Finding("multiple-instructions-disallowed", at, what, why=why, mend="remove it")
            last[item.keyword] = item

    def _order(self, stage: _Stage) -> "Iterator[Finding]":
        """Everything copied before the requirements are installed: each change of code installs them again."""
        whole: Copy | None = None
        for item in stage.items:
            if isinstance(item, Copy) and not item.origin and any(_is_everything(word) for word in item.sources):
                whole = whole or item
            elif (
                isinstance(item, Run) and whole is not None and any(word in installing.text(item) for word in _INSTALLS)
            ):
                if "type=bind" in " ".join(item.mounts):
                    continue
                file = "requirements.txt" if "-r " in installing.text(item) else "pyproject.toml"
                yield Finding(
                    "copy-before-install",
                    whole.statement.at,
                    "everything is copied before the requirements are installed",
                    why="where Docker builds it, each change of any file installs all of them again; Sampan sees what "
                    "the step reads",
                    mend=f"`COPY {file} .`, then `{item.statement.text[:80]}`, then `{whole.statement.text[:80]}`",
                )
                return

    def _command(self, item: Exec, *, has_shell: bool) -> "Iterator[Finding]":
        if item.is_exec or isinstance(item, Run):
            return
        if looks_like_json(item.words[0]):
            yield Finding(
                "json-args-recommended",
                item.statement.at,
                f"`{item.words[0][:80]}` is meant as a JSON list and is none",
                why="so the shell is given it as it is, and finds no such command",
                mend=f'write it with plain double quotes and commas, as in `{item.keyword} ["python", "app.py"]`',
            )
        elif not has_shell and item.words[0]:
            words = ", ".join(f'"{word}"' for word in item.words[0].split()[:8])
            yield Finding(
                "json-args-recommended",
                item.statement.at,
                f"{item.keyword} is in shell form",
                why="a shell is process 1 and passes no signal on, so that stopping takes ten seconds and a kill",
                mend=f"write `{item.keyword} [{words}]`",
            )

    def _copy(self, item: Copy) -> "Iterator[Finding]":
        at = item.statement.at
        is_plain = not any(word.endswith(_ARCHIVES) or word.startswith(_REMOTE) or "$" in word for word in item.sources)
        if item.keyword == "ADD" and is_plain and not item.heredocs and item.unpacks is None:
            yield Finding(
                "add-for-copy",
                at,
                "ADD does here what COPY does",
                why="ADD unpacks what looks like an archive, and fetches addresses: surprises that COPY does not have",
                mend=f"write `{'COPY' + item.statement.text[3:]}`",
            )
        if not item.origin:
            for word in item.sources:
                path = "/".join(part for part in word.split("/") if part not in {"", "."})
                if path and not set(path) & set("*?[$") and self._around.is_ignored(path):
                    what = f"`{word}` is kept out by .dockerignore"
                    mend = f"add `!{path}` to .dockerignore"
                    yield Finding("copy-ignored-file", at, what, why="the build stops here", mend=mend)
        if not item.origin and not self._around.has_ignore_file and any(_is_everything(word) for word in item.sources):
            yield Finding(
                "no-dockerignore",
                at,
                "everything is copied, and there is no .dockerignore",
                why="version control, virtual environments, caches and secrets of this directory come into the image",
                mend="write a .dockerignore with `.git`, `.venv`, `**/__pycache__`, `*.pyc`, `.env` and `Dockerfile`",
            )

    def _names(self, item: "Pairs | Arg") -> "Iterator[Finding]":
        at = item.statement.at
        if isinstance(item, Pairs) and item.is_old:
            key, value = item.items[0]
            mend = f'write `{item.keyword} {key}="{value}"`'
            yield style("legacy-key-value-format", at, f"`{item.keyword} KEY VALUE` is the old form", mend)
        if item.keyword == "LABEL":
            return
        for key, _ in item.items:
            name = key.lower()
            if any(word in name for word in _SECRETS) and not name.endswith(_NO_SECRETS):
                yield Finding(
                    "secrets-used-in-arg-or-env",
                    at,
                    f"{item.keyword} holds a secret: `{key}`",
                    why="whoever has the image can read it: it is in the config or the history",
                    mend=f"give it to the step that needs it, `RUN --mount=type=secret,id={name} …` with "
                    f"`--secret id={name},src=FILE`, or to the container when it runs",
                )

    # ---------------------------------------------------------------------------------------------------- the image
    def _target(self, stage: _Stage) -> "Iterator[Finding]":
        items = stage.whole()
        yield from self._user(stage, items)
        workdirs = [item.value for item in items if isinstance(item, Single) and item.keyword == "WORKDIR"]
        commands: dict[str, Exec] = {}
        for item in items:
            if isinstance(item, Exec) and item.keyword in {"CMD", "ENTRYPOINT"}:
                commands[item.keyword] = item
        words: list[str] = []
        for keyword in ("ENTRYPOINT", "CMD"):
            if keyword in commands:
                words += commands[keyword].words if commands[keyword].is_exec else commands[keyword].words[0].split()
        found = self._around.server(words, (workdirs or ["/"])[-1]) if words else None
        if found is not None:
            at, is_debug = found
            command = commands.get("CMD") or commands["ENTRYPOINT"]
            place = at if at.line else command.statement.at
            mend = 'run a server that is made for it: `CMD ["gunicorn", "--bind", "0.0.0.0:5000", "app:app"]`'
            if is_debug:
                why = "it runs code that a visitor types, restarts by itself, and serves one request at a time"
                yield Finding("debug-server", place, "the container runs the framework's debugger", why=why, mend=mend)
            else:
                why = "it serves few requests at a time and was never meant for the open"
                what = "the container runs the framework's development server"
                yield Finding("development-server", place, what, why=why, mend=mend)

    def _user(self, stage: _Stage, items: list[Instruction]) -> "Iterator[Finding]":
        users = [item for item in items if isinstance(item, Single) and item.keyword == "USER"]
        is_root = not users or users[-1].value.partition(":")[0] in {"root", "0"}
        base = stage.base()
        if not is_root or (not users and "nonroot" in base.image):
            return
        at = users[-1].statement.at if users else stage.head.statement.at
        yield Finding(
            "root-user",
            at,
            "the application runs as root",
            why="a hole in it is then a hole in all of the container, and in what is mounted into it",
            mend="add `RUN useradd --create-home app` and, before CMD, `USER app`",
        )


def _is_everything(word: str) -> bool:
    return word.strip("/") in {"", ".", "*"} or word == "./"


def _installs(item: Run) -> bool:
    return any(word in installing.text(item) for word in _INSTALLS)
