"""A Dockerfile's stages, and which of them a target needs. Pure, hot."""

from sampan.build.dockerfile import instruction, parser
from sampan.build.dockerfile.instruction import Arg, Copy, From, Instruction, Onbuild, Run, suggest
from sampan.errors import Exhausted, InvalidArgument, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.dockerfile.parser import Dockerfile

MAX_STAGES = 500


class Stage:
    """One FROM and what follows it, up to the next."""

    __slots__ = ("head", "index", "instructions")

    def __init__(self, index: int, head: From) -> None:
        self.index = index
        self.head = head
        self.instructions: list[Instruction] = []

    @property
    def name(self) -> str:
        """What the stage is called: its name, or its number."""
        return self.head.name or str(self.index)


class Stages:
    """All stages of a file; `globals` are the ARGs before the first FROM."""

    __slots__ = ("all", "globals", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.globals: list[Arg] = []
        self.all: list[Stage] = []

    def find(self, word: str, before: int | None = None) -> Stage | None:
        """Return the stage that `word`, a name or a number, means to a stage of number `before`; None for none."""
        known = self.all[:before]
        for stage in reversed(known):
            if stage.head.name and stage.head.name == word.lower():
                return stage
        if word.isascii() and word.isdigit() and len(word) < 6 and int(word) < len(known):
            return known[int(word)]
        return None

    def target(self, word: str) -> Stage:
        """Return the stage to build: the last one, or what `--target` names."""
        if not word:
            return self.all[-1]
        found = self.find(word)
        if found is None:
            names = [stage.name for stage in self.all]
            near = suggest(word.lower(), names)
            hint = (
                f"did you mean `--target {near[0]}`?"
                if near
                else f"stages: {', '.join(f'`{name}`' for name in names[:20])}"
            )
            raise NotFound(f"`{self.path}` has no stage `{word[:60]}`", hints=(hint,))
        return found


def group(dockerfile: "Dockerfile") -> Stages:
    """Read every statement and part them into stages; raises InvalidArgument with a place."""
    found = Stages(dockerfile.path)
    for statement in dockerfile.statements:
        item = instruction.parse(statement)
        if isinstance(item, From):
            if len(found.all) >= MAX_STAGES:
                raise Exhausted(f"the Dockerfile has more than {MAX_STAGES} stages", at=statement.at)
            found.all.append(Stage(len(found.all), item))
        elif found.all:
            found.all[-1].instructions.append(item)
        elif isinstance(item, Arg):
            found.globals.append(item)
        else:
            hints = ("begin with a base, as in `FROM python:3.13-slim`",)
            raise InvalidArgument(f"{item.keyword} stands before the first FROM", hints=hints, at=statement.at)
    if not found.all:
        hints = ("name a base, as in `FROM python:3.13-slim`",)
        raise InvalidArgument("the Dockerfile has no FROM", hints=hints, at=dockerfile.statements[0].at)
    return found


def origins(item: Instruction) -> list[str]:
    """Return the words by which an instruction names stages or images: `--from` of COPY and of RUN's mounts."""
    if isinstance(item, Copy):
        return [item.origin] if item.origin else []
    if isinstance(item, Run):
        pieces = [piece.partition("=") for mount in item.mounts for piece in mount.split(",")]
        return [value for key, _, value in pieces if key.strip().lower() == "from" and value]
    return []


def triggers(texts: "list[str]", item: Instruction) -> list[Instruction]:
    """Return what a base's ONBUILD holds, as instructions that stand at the FROM `item`."""
    return [instruction.parse(parser.parse_trigger(text, item.statement.at)) for text in texts]


def onbuild_texts(instructions: list[Instruction]) -> list[str]:
    """Return the triggers that a stage leaves to those that are built from it."""
    return [item.trigger for item in instructions if isinstance(item, Onbuild)]
