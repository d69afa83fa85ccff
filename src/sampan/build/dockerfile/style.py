"""The linter's rules of style: casing, names of stages, how ports are written. Pure."""

from sampan.build.dockerfile import parser
from sampan.build.dockerfile.finding import Finding, style

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.build.dockerfile.instruction import From, Several
    from sampan.build.dockerfile.parser import Dockerfile


def stage(item: "From", known: "list[str]") -> "Iterator[Finding]":
    """Yield what is wrong with how a FROM is written; `known` are the names of the stages before it."""
    at = item.statement.at
    words = item.statement.rest.split()
    if len(words) == 3:
        if words[1].isupper() is not item.statement.word.isupper():
            yield style("from-as-casing", at, f"`{words[1]}` and `{item.statement.word}` are cased differently")
        if words[2] != words[2].lower():
            yield style("stage-name-casing", at, f"the stage `{words[2]}` is found as `{words[2].lower()}`")
        if item.name in known:
            yield style("duplicate-stage-name", at, f"there are two stages `{item.name}`, and the first is hidden")
        if item.name in {"scratch", "context"}:
            yield style("reserved-stage-name", at, f"`{item.name}` means something else to a FROM")
    if item.platform and "$" not in item.platform:
        yield Finding(
            "from-platform-flag-const-disallowed",
            at,
            f"`--platform={item.platform}` is the same on every machine",
            why="the image then cannot be built for another processor",
            mend="leave it out, or write `--platform=$BUILDPLATFORM`",
        )
    elif item.platform in {"$TARGETPLATFORM", "${TARGETPLATFORM}"}:
        yield style("redundant-target-platform", at, f"`--platform={item.platform}` is what is taken anyway")


def casing(dockerfile: "Dockerfile") -> "Iterator[Finding]":
    """Yield each instruction that is cased otherwise than most."""
    words = [statement.word for statement in dockerfile.statements if statement.keyword in parser.KEYWORDS]
    are_upper = sum(word.isupper() for word in words) * 2 >= len(words)
    for statement in dockerfile.statements:
        wanted = statement.keyword if are_upper else statement.keyword.lower()
        if statement.keyword in parser.KEYWORDS and statement.word != wanted:
            what = f"`{statement.word}` is cased otherwise than the rest"
            yield style("consistent-instruction-casing", statement.at, what, f"write `{wanted}`")


def ports(item: "Several") -> "Iterator[Finding]":
    """Yield ports that are written in another way than docker's."""
    for word in item.words:
        protocol = word.partition("/")[2]
        if protocol != protocol.lower():
            yield style(
                "expose-proto-casing",
                item.statement.at,
                f"`{word}` is not in lower case",
                f"write `{word.lower()}`",
            )
        elif ":" in word:
            what = f"`{word}` is no port of a container"
            mend = f"write `EXPOSE {word.rpartition(':')[2]}`"
            yield Finding("expose-invalid-format", item.statement.at, what, why="the build stops here", mend=mend)
