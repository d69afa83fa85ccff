"""A stage becomes vertices: RUN, COPY, ADD and WORKDIR each one layer, all else a change of the config. Pure, hot.

Theory. A vertex has all vertices below it as its inputs, and the chain id of its base in its options; so its digest
says what it stands on, and its executor gets every layer that it needs to see. COPY's options hold the digest of the
files that it takes, not their names alone: a change of app.py changes the vertex that copies it and those above it.
ARGs are part of a RUN's environment, and so of its key; proxies and secrets are not.

What cannot be known from the text comes from a `World`: images by name, and the content of the context's files.
"""

from sampan.build.dockerfile import expand, heredoc, mount, setting
from sampan.build.dockerfile.instruction import (
    Arg,
    Copy,
    Exec,
    Run,
    Single,
    looks_like_json,
    suggest,
)
from sampan.build.dockerfile.stage import onbuild_texts, origins, triggers
from sampan.build.dockerfile.state import PROXIES, SCRATCH, Base, State, absolute
from sampan.build.graph import Vertex
from sampan.errors import NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from sampan.build.dockerfile.instruction import Instruction
    from sampan.build.dockerfile.stage import Stage, Stages
    from sampan.document import Document
    from sampan.errors import Place
    from sampan.oci.digest import Digest

    class World(Protocol):
        """What lowering asks of the machine."""

        def image(self, name: str, at: Place) -> Base:
            """Return the image `name`; raises NotFound."""

        def files(self, sources: Sequence[str], excludes: Sequence[str], item: Instruction) -> str:
            """Return a digest of the files of the context that `item` takes; raises NotFound where there are none."""


COPY, RUN, DIRECTORY = "copy", "run", "directory"
# Where a RUN sees the script that stands in its here-document.
SCRIPTS = "/dev/pipes"
# Raised when the same options come to other bytes.
VERSION = 2
_REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "ftp://")


class Request:
    """What the command line asks of a build: `arguments` are --build-arg's, `labels` --label's."""

    __slots__ = ("architecture", "arguments", "epoch", "hosts", "labels", "network", "target")

    def __init__(
        self,
        *,
        architecture: str,
        target: str = "",
        arguments: "Mapping[str, str] | None" = None,
        labels: "Mapping[str, str] | None" = None,
        network: str = "default",
        hosts: "Sequence[str]" = (),
        epoch: int | None = None,
    ) -> None:
        self.architecture = architecture
        self.target = target
        self.arguments = dict(arguments or {})
        self.labels = dict(labels or {})
        self.network = network
        self.hosts = tuple(hosts)
        self.epoch = epoch


class Lowered:
    """The target's state, what is to be said about the file, and where each vertex stands in it."""

    __slots__ = ("places", "state", "warnings")

    def __init__(self, state: State, warnings: "list[tuple[Place, str]]", places: "dict[Digest, Place]") -> None:
        self.state = state
        self.warnings = warnings
        self.places = places


def lower(stages: "Stages", request: Request, world: "World") -> Lowered:
    """Lower the stages that the target needs; raises InvalidArgument, NotFound, Unsupported, each with a place."""
    return _Lowering(stages, request, world).run()


class _Lowering:
    def __init__(self, stages: "Stages", request: Request, world: "World") -> None:
        self._stages = stages
        self._request = request
        self._world = world
        self._states: dict[int, State] = {}
        self._bases: dict[str, Base] = {}
        self._known: set[str] = set()  # every ARG that was declared
        self._warnings: list[tuple[Place, str]] = []
        self._places: dict[Digest, Place] = {}
        target = stages.target(request.target)
        self._target = target
        self._globals = self._read_globals()

    def run(self) -> Lowered:
        for index in sorted(self._needed()):
            self._states[index] = self._stage(self._stages.all[index])
        state = self._states[self._target.index]
        if self._request.labels:
            state.config["Labels"] = {**(state.config.get("Labels") or {}), **self._request.labels}
        self._warn_of_unused()
        return Lowered(state, self._warnings, self._places)

    # -------------------------------------------------------------------------------------------- arguments and bases
    def _read_globals(self) -> dict[str, str]:
        platform = f"linux/{self._request.architecture}"
        found: dict[str, str] = {}
        for side in ("BUILD", "TARGET"):
            found |= {f"{side}PLATFORM": platform, f"{side}OS": "linux", f"{side}ARCH": self._request.architecture}
            found[f"{side}VARIANT"] = ""
        found["TARGETSTAGE"] = self._target.head.name or "default"
        for item in self._stages.globals:
            for name, default in item.items:
                self._known.add(name)
                if name in self._request.arguments:
                    found[name] = self._request.arguments[name]
                elif default is not None:
                    found[name] = expand.word(default, found, item.statement.at, escape=item.statement.escape)
        return found

    def _base_name(self, stage: "Stage") -> str:
        """Return what a FROM names, its variables replaced by the ARGs before the first FROM."""
        head = stage.head
        missing: list[str] = []
        name = expand.word(
            head.image, self._globals, head.statement.at, escape=head.statement.escape, unset=missing.append
        )
        if not name or (missing and (name.startswith(":") or name.endswith((":", "@")) or ":-" in name)):
            variable = missing[0] if missing else head.image.strip("${}")
            hints = (
                f"declare it before the first FROM: `ARG {variable}=VALUE`",
                f"or give it: `--build-arg {variable}=VALUE`",
            )
            raise head.wrong(f"`{variable}` has no value, so `FROM {head.image}` names no image", *hints)
        if head.platform:
            platform = expand.word(head.platform, self._globals, head.statement.at)
            ours = f"linux/{self._request.architecture}"
            if platform not in {ours, "linux"} and not platform.startswith(f"{ours}/"):
                raise Unsupported(
                    f"an image for `{platform[:60]}` cannot be built on `{ours}` yet", at=head.statement.at
                )
        return name

    def _image(self, name: str, at: "Place") -> Base:
        if name == "scratch":
            return SCRATCH
        if name not in self._bases:
            try:
                self._bases[name] = self._world.image(name, at)
            except NotFound as error:
                names = [stage.head.name for stage in self._stages.all if stage.head.name]
                near = suggest(name.lower(), names)
                hints = tuple(f"did you mean the stage `{known}`?" for known in near) + error.hints
                raise NotFound(error.what, hints=hints, at=error.at) from error.__cause__
        return self._bases[name]

    def _needed(self) -> set[int]:
        """Return the numbers of the target and of every stage that it is made from."""
        needed: set[int] = set()
        waiting = [self._target]
        while waiting:
            stage = waiting.pop()
            if stage.index in needed:
                continue
            needed.add(stage.index)
            name = self._base_name(stage)
            base = self._stages.find(name, stage.index) if not name.isdigit() else None
            inherited: Sequence[str]
            if base is not None:
                waiting.append(base)
                inherited = onbuild_texts(base.instructions)
            else:
                config = self._image(name, stage.head.statement.at).config.get("config") or {}
                inherited = config.get("OnBuild") or ()
            for item in [*triggers(list(inherited), stage.head), *stage.instructions]:
                for word in origins(item):
                    found = self._stages.find(word, stage.index)
                    if found is not None:
                        waiting.append(found)
        return needed

    def _origin(self, word: str, stage: "Stage", item: "Instruction") -> "tuple[str, list[Vertex]]":
        """Return the base's chain id and the vertices of the stage or image that `--from=word` names."""
        if "$" in word:
            hint = "give the image a stage of its own, `FROM $NAME AS source`, and write `--from=source`"
            raise item.wrong(f"`from={word[:60]}` holds a variable, which is not replaced there", hint)
        found = self._stages.find(word, stage.index)
        if found is not None:
            state = self._states[found.index]
            return state.base.chain_id, state.chain
        if self._stages.find(word) is not None:
            hint = "a stage can take from stages before it only: move that one up"
            raise item.wrong(f"`{word[:60]}` is no stage before this line", hint)
        return self._image(word, item.statement.at).chain_id, []

    # --------------------------------------------------------------------------------------------------- the stages
    def _stage(self, stage: "Stage") -> State:
        name = self._base_name(stage)
        below = self._stages.find(name, stage.index) if not name.isdigit() else None
        state = self._states[below.index].child() if below else State(self._image(name, stage.head.statement.at))
        inherited = state.config.pop("OnBuild", None) or []
        for item in [*triggers(inherited, stage.head), *stage.instructions]:
            self._apply(item, state, stage)
        return state

    def _apply(self, item: "Instruction", state: State, stage: "Stage") -> None:
        count = len(state.chain)
        self._change(item, state, stage)
        for vertex in state.chain[count:]:
            self._places[vertex.digest] = item.statement.at

    def _change(self, item: "Instruction", state: State, stage: "Stage") -> None:
        if isinstance(item, Exec):
            self._warn_of_json(item)
        match item:
            case Run():
                self._run(item, state, stage)
            case Copy():
                self._copy(item, state, stage)
            case Arg():
                self._arg(item, state)
            case Single() if item.keyword == "WORKDIR":
                self._workdir(setting.single(item, state, self._unset(item)), state)
            case _:
                setting.apply(item, state, self._unset(item))

    def _unset(self, item: "Instruction") -> "Callable[[str], None]":
        def tell(name: str) -> None:
            if name and name[0] not in "0123456789@*#?-$!":
                self._warnings.append((item.statement.at, f"`${name}` has no value here"))

        return tell

    def _arg(self, item: Arg, state: State) -> None:
        texts = []
        for name, default in item.items:
            self._known.add(name)
            value: str | None = None
            if name in self._request.arguments:
                value = self._request.arguments[name]
            elif default is not None:
                value = state.expander(item, self._unset(item))(default)
            elif name in self._globals:
                value = self._globals[name]
            if value is not None:
                state.variables[name] = value
            state.arguments += [name] * (name not in state.arguments)
            texts.append(name if value is None else f"{name}={value}")
        state.note(f"ARG {' '.join(texts)}")

    def _workdir(self, value: str, state: State) -> None:
        path = absolute(state.workdir, value)
        state.config["WorkingDir"] = path
        vertex = None
        if path != "/":
            options = {"path": path, "user": state.user, "epoch": self._request.epoch}
            vertex = self._vertex(DIRECTORY, f"WORKDIR {path}", options, state)
        state.note(f"WORKDIR {path}", vertex)

    # --------------------------------------------------------------------------------------------------- the layers
    def _vertex(self, kind: str, subject: str, options: "Document", state: State, *more: Vertex) -> Vertex:
        chain = tuple(state.chain)
        told = {"version": VERSION, "base": state.base.chain_id, "below": len(chain), **options}
        return Vertex(kind, subject, told, (*chain, *more))

    def _copy(self, item: Copy, state: State, stage: "Stage") -> None:
        one = state.expander(item, self._unset(item))
        sources = [one(word) for word in item.sources]
        destination = one(item.destination)
        if not destination or not all(sources):
            raise item.wrong(f"a path of {item.keyword} is empty: a variable in it has no value")
        remote = next((source for source in sources if source.startswith(_REMOTE)), "")
        if remote and not item.origin:
            _refuse_remote(remote, item)
        if len(item.sources) + len(item.heredocs) > 1 and not _is_directory(destination):
            hint = f"write `{destination}/`"
            raise item.wrong(
                f"{item.keyword} of several sources needs a directory, and `{destination}` ends in no slash", hint
            )
        variables = state.variables
        bodies = [
            [body.name, expand.document(body.data, variables, item.statement.at) if body.expands else body.data]
            for body in item.heredocs
        ]
        excludes = [one(pattern) for pattern in item.excludes]
        chown, chmod = one(item.chown), one(item.chmod)
        origin, vertices = self._origin(item.origin, stage, item) if item.origin else ("", [])
        options: Document = {
            "sources": sources,
            "bodies": bodies,
            "files": self._world.files(sources, excludes, item) if sources and not item.origin else "",
            "destination": absolute(state.workdir, destination) + "/" * _is_directory(destination),
            "chown": chown,
            "chmod": chmod,
            "excludes": excludes,
            "parents": item.has_parents,
            "unpacks": item.keyword == "ADD" and item.unpacks is not False,
            "origin": origin,
            "is_context": not item.origin,
            "epoch": self._request.epoch,
        }
        words = [*item.sources, *(f"<<{body.name}" for body in item.heredocs), item.destination]
        text = " ".join([item.keyword, *item.statement.flags, *words])
        if item.is_linked:
            # On nothing: whatever lies below, the layer is the same.
            vertex = Vertex(COPY, text, {"version": VERSION, "base": "", "below": 0, **options}, tuple(vertices))
        else:
            vertex = self._vertex(COPY, text, options, state, *vertices)
        flags = [f"--chown={chown}"] * bool(chown) + [f"--chmod={chmod}"] * bool(chmod)
        names = [f"<<{body.name}" for body in item.heredocs]
        state.note(" ".join([item.keyword, *flags, *sources, *names, destination]), vertex)

    def _run(self, item: Run, state: State, stage: "Stage") -> None:
        words, script = _run_words(item)
        args = words if item.is_exec or script else [*state.shell, *words]
        one = state.expander(item)
        mounts, more = [], list[Vertex]()
        for text in item.mounts:
            found = mount.parse(text, one, state.workdir, item.statement.at)
            told = found.document()
            if found.origin:
                told["chain"], vertices = self._origin(found.origin, stage, item)
                told["inputs"] = [len(state.chain) + len(more), len(state.chain) + len(more) + len(vertices)]
                more += vertices
            elif found.type == "bind":
                told["files"] = self._world.files([found.source or "."], [], item)
            mounts.append(told)
        is_asked = self._request.network if item.network == "default" else item.network
        options: Document = {
            "args": args,
            "script": script,
            "env": [f"{key}={value}" for key, value in state.variables.items() if key not in PROXIES],
            "user": state.user,
            "cwd": state.workdir,
            "mounts": mounts,
            "network": is_asked,
            "hosts": list(self._request.hosts),
            "epoch": self._request.epoch,
        }
        shown = [f"{name}={state.variables.get(name, '')}" for name in state.arguments if name not in PROXIES]
        line = words if item.is_exec else [*state.shell, *words]
        told_words = [f"|{len(shown)}", *shown, *line] if shown else line
        subject = f"RUN {item.words[0] if not item.is_exec else ' '.join(item.words)}"
        state.note(f"RUN {' '.join(told_words)}", self._vertex(RUN, subject, options, state, *more))

    def _warn_of_json(self, item: Exec) -> None:
        if not item.is_exec and looks_like_json(item.words[0]):
            what = "is no JSON list, so it is a line for the shell: write it with plain double quotes and commas"
            self._warnings.append((item.statement.at, f"`{item.words[0][:100]}` {what}"))

    def _warn_of_unused(self) -> None:
        known = {*self._known, *PROXIES, "SOURCE_DATE_EPOCH"}
        for name in self._request.arguments:
            if name.startswith("BUILDKIT_"):
                self._warnings.append((self._stages.all[0].head.statement.at, f"`{name}` means nothing to Sampan"))
        unused = [name for name in self._request.arguments if name not in known and not name.startswith("BUILDKIT_")]
        if unused:
            place = self._stages.all[0].head.statement.at
            self._warnings.append(
                (place, f"no ARG takes the build argument{'s' * (len(unused) > 1)} {', '.join(unused)}")
            )


def _run_words(item: Run) -> "tuple[list[str], list[str]]":
    """Return the words of a RUN, and name and text of the script that it is where it is one with a `#!`."""
    bodies = item.statement.heredocs
    if not bodies:
        return item.words, []
    first = heredoc.read(item.statement.rest)
    if first is not None and len(bodies) == 1:
        data = bodies[0].data
        if data.startswith("#!"):
            return [f"{SCRIPTS}/{first.name}"], [first.name, data]
        return [data], []
    return ["\n".join([item.statement.rest, *(f"{body.content}{body.name}" for body in bodies)])], []


def _is_directory(destination: str) -> bool:
    """Tell whether a destination says by itself that it is a directory."""
    return destination.rpartition("/")[2] in {"", ".", ".."}


def _refuse_remote(source: str, item: Copy) -> None:
    shown = source.partition("?")[0][:100]
    if item.keyword == "COPY":
        raise item.wrong(f"COPY takes files of the context, not the address `{shown}`", "ADD takes addresses")
    hints = ("fetch it in a RUN, or before the build and COPY it",)
    raise Unsupported(f"ADD of an address is not there yet: `{shown}`", hints=hints, at=item.statement.at)
