"""The executor of RUN: a step on top of the layers below it, its output told line by line."""

from sampan.build import copier, layer, step, trace
from sampan.build.cache import Result
from sampan.build.mirror import Lost
from sampan.build.step_parent import Parent
from sampan.errors import CommandNotExecutable, CommandNotFound, InvalidArgument, NotFound, SampanError
from sampan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.build.graph import Vertex
    from sampan.build.stock import Stock
    from sampan.document import Document
    from sampan.errors import Place
    from sampan.events import Sink

    Work = Sequence[tuple[Vertex, tuple[Result, ...]]]

# docker's word for the network that a container gets where nothing is said.
_DEFAULT = "default"
_MAX_LINE = 16 << 10


class Runs:
    """Runs steps. `secrets` are their values by id, `proxies` variables (`NAME=value`) that no key depends on.

    With `no_cache` every step runs, whatever an earlier one has seen.
    """

    def __init__(
        self, stock: "Stock", secrets: "Mapping[str, bytes]", proxies: "Sequence[str]", *, no_cache: bool = False
    ) -> None:
        self._stock = stock
        self._no_cache = no_cache
        self._secrets = secrets
        self._proxies = tuple(proxies)
        self._parent: Parent | None = None  # one that is getting ready

    def expect(self) -> None:
        """Have a step's parent get ready, while what comes before the first RUN is made."""
        self._parent = self._parent or Parent(self._stock.workshop.settings)

    def close(self) -> None:
        """End what got ready and was not needed."""
        if self._parent is not None:
            self._parent.end()
            self._parent = None

    def make(self, work: "Work") -> "list[Result]":
        """Make each (`solver.Executor`); raises what failed, with the line that asked for it."""
        return [self._one(vertex, results) for vertex, results in work]

    def _one(self, vertex: "Vertex", results: "tuple[Result, ...]") -> Result:
        is_wanted = self._stock.workshop.settings.build_cache == trace.SETTING
        traced = trace.layers(vertex, results) if is_wanted else []
        return self._reused(vertex, results, traced) or self._run(vertex, results, traced)

    def _reused(self, vertex: "Vertex", results: "tuple[Result, ...]", traced: "list[int]") -> Result | None:
        """Return what an earlier run came to that saw of the context what this one would see; see `trace`."""
        if not traced or self._no_cache:
            return None
        cache, sink = self._stock.workshop.cache, self._stock.workshop.sink
        changed = None
        for key, facts in cache.traced(trace.key(vertex, results, traced)):
            found = cache.find(key)
            if found is None:
                continue
            changed = self._change(vertex, results, traced, facts)
            if changed is None:
                cache.touch_trace(key)
                read = sorted(f"/{path}" for layer in facts for path, fact in layer.items() if fact[1])
                sink(Event("done", vertex.subject, _told(read)))
                return found
        if changed is not None:
            sink(Event("output", vertex.subject, f"runs again: /{changed} has changed"))
        return None

    def _change(
        self, vertex: "Vertex", results: "tuple[Result, ...]", traced: "list[int]", facts: "list[trace.Facts]"
    ) -> str | None:
        """Return the first path of which something else is true now."""
        stock = self._stock
        for position, told in zip(traced, facts, strict=True):
            layers = stock.slice(vertex.options["base"], results[: position + 1])
            changed = trace.change(stock.workshop.lowers(layers)[0], told)
            if changed is not None:
                return changed
        return None

    def _run(self, vertex: "Vertex", results: "tuple[Result, ...]", traced: "list[int]") -> Result:
        # What an older run of the same saw says nothing of this one's layer.
        self._stock.workshop.cache.forget_trace(vertex.digest)
        try:
            return self._run_traced(vertex, results, traced)
        except Lost as error:
            self._stock.workshop.warn(vertex.subject, f"{error.what}; it runs once more, without")
            return self._run_traced(vertex, results, [])

    def _run_traced(self, vertex: "Vertex", results: "tuple[Result, ...]", traced: "list[int]") -> Result:
        stock, options, at = self._stock, vertex.options, self._stock.place(vertex)
        lines = _Lines(vertex.subject, stock.workshop.sink)

        def keep(facts: "list[trace.Facts]") -> None:
            stock.workshop.cache.store_trace(vertex.digest, trace.key(vertex, results, traced), facts)

        try:
            what = self._step(options, results, at)
            below = stock.below(vertex, results)
            parent, self._parent = self._parent, None
            made = step.run(
                stock.workshop,
                below,
                what,
                parent=parent,
                output=lines.take,
                epoch=options["epoch"],
                traced=stock.positions(vertex, results, traced),
                on_facts=keep,
            )
        except (CommandNotFound, CommandNotExecutable) as error:
            # For the build it is a step that failed, of status 1 as docker's.
            raise SampanError(error.what, hints=error.hints, at=at) from error.__cause__
        except SampanError as error:
            error.at = error.at or at
            raise
        finally:
            lines.end()
        record = {**made.record, "empty": not made.record["entries"], "created": int(stock.workshop.clock())}
        return Result(made.digest, made.diff_id, made.size_bytes, record)

    def _step(self, options: "Document", results: "Sequence[Result]", at: "Place") -> step.Step:
        network = step.BRIDGE if options["network"] == _DEFAULT else options["network"]
        env = [*self._proxies, *options["env"]]
        mounts: list[step.Mount] = []
        if options["script"]:
            content = options["script"][1].encode("utf-8", "surrogateescape")
            mounts.append(step.File(target=options["args"][0], content=content, mode=0o755))
        for item in options["mounts"]:
            if item["type"] != "secret":
                mounts.append(self._mount(item, results, at))
            elif (value := self._secret(item, at)) is not None:
                if item["env"]:
                    env.append(f"{item['env']}={value.decode('utf-8', 'surrogateescape')}")
                if item["target"]:
                    owner = {"uid": item["uid"], "gid": item["gid"]}
                    mounts.append(step.File(target=item["target"], content=value, mode=item["mode"], **owner))
        return step.Step(
            args=tuple(options["args"]),
            env=tuple(env),
            cwd=options["cwd"],
            user=options["user"],
            mounts=tuple(mounts),
            network=network,
            add_hosts=tuple(options["hosts"]),
        )

    def _secret(self, item: "Document", at: "Place") -> bytes | None:
        """Return a secret's value; None for one that is neither given nor required."""
        if item["id"] in self._secrets:
            return self._secrets[item["id"]]
        if not item["is_required"]:
            return None
        hints = (f"give it: `--secret id={item['id']},src=FILE`",)
        raise NotFound(f"the secret `{item['id']}` was not given", hints=hints, at=at)

    def _mount(self, item: "Document", results: "Sequence[Result]", at: "Place") -> step.Mount:
        target, is_read_only = item["target"], item["is_read_only"]
        if item["type"] == "tmpfs":
            return step.Tmpfs(target=target, size_bytes=item["size_bytes"])
        if item["type"] == "cache":
            if item["origin"]:
                raise InvalidArgument("`from=` of a cache mount is not there yet", hints=("leave it out",), at=at)
            owner = {"uid": item["uid"], "gid": item["gid"]}
            return step.Cache(
                target=target,
                id=item["id"],
                mode=item["mode"],
                sharing=item["sharing"],
                read_only=is_read_only,
                **owner,
            )
        path = "/" + item["source"].strip("/.") if item["source"].strip("/.") else "/"
        if item["origin"]:
            first, last = item["inputs"]
            layers = self._stock.slice(item["chain"], results[first:last])
        else:
            layers = [self._shown(item["source"], at)]
            path = _root_of(item["source"])
        return step.Layers(target=target, layers=tuple(layers), path=path, writable=not is_read_only)

    def _shown(self, source: str, at: "Place") -> Result:
        """Return a layer of what a bind mount shows of the context: without what .dockerignore keeps out."""
        stock = self._stock
        return layer.write_tar(stock.workshop.content, copier.shown(stock, source or ".", at).write)


def _told(read: "Sequence[str]") -> str:
    """Say which files an earlier run had read."""
    if not read:
        return "it reads no file of the context"
    shown = ", ".join(read[:3]) + (f" and {len(read) - 3} more" if len(read) > 3 else "")
    return f"of the context it reads {shown}, as before"


class _Lines:
    """Tells a step's output line by line."""

    def __init__(self, subject: str, sink: "Sink") -> None:
        self._subject = subject
        self._sink = sink
        self._rest = b""

    def take(self, piece: bytes) -> None:
        """Tell the lines that are whole."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        """Tell what is left."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, line: bytes) -> None:
        # Of a line that a program wrote over itself, what a terminal would show.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
        self._sink(Event("output", self._subject, text))


def _root_of(source: str) -> str:
    """Return where, in the layer that `_shown` makes, the source itself is."""
    return "/" + "/".join(part for part in source.split("/") if part not in {"", ".", ".."})
