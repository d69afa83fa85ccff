"""`sampan completion SHELL`: what a shell needs to complete `sampan …`, from the same tables that the parser reads.

The scripts know nothing: at each Tab they ask `sampan completion words -- WORDS...`, the words up to the cursor, and
get a line for each candidate, with a tab and what it is. Where nothing is known to stand there, no line is printed, and
the shell completes file names as it does anywhere else.
"""

import os

from sampan.cli import catalog
from sampan.cli.flags import Command, Parsed
from sampan.errors import InvalidArgument, SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

    Candidate = tuple[str, str]

# bash cuts words at `:` and `=`, so the line is cut again by blanks, and what bash keeps of the word is taken off.
_BASH = r"""_sampan() {
    local line=${COMP_LINE:0:COMP_POINT} candidate current kept words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]}
    kept=${current%"${current##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        [[ $candidate == "$current"* ]] && COMPREPLY+=("${candidate#"$kept"}")
    done < <(sampan completion words -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _sampan sampan
"""
_ZSH = r"""#compdef sampan
_sampan() {
    local line
    local -a candidates
    while IFS= read -r line; do
        candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <(sampan completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#candidates} )) && _describe sampan candidates || _files
}
compdef _sampan sampan
"""
_FISH = r"""function __sampan
    set -l words (commandline -opc) (commandline -ct | string collect -a)
    sampan completion words -- $words[2..] 2>/dev/null
end
complete -c sampan -a '(__sampan)'
"""
SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print a shell's script, or, for the script, the candidates for the last of some words."""
    what, *words = parsed.arguments
    if what == "words":
        for word, description in sorted(set(candidates(words or [""], settings))):
            printer.out(f"{word}\t{description}")
    elif what in SHELLS and not words:
        printer.out(SHELLS[what].rstrip("\n"))
    else:
        raise InvalidArgument(f"`{' '.join(parsed.arguments)}` is not a shell", hints=(f"one of {', '.join(SHELLS)}",))
    return 0


def candidates(words: list[str], settings: "Settings") -> "Iterator[Candidate]":
    """Yield what the last of `words` may become, each with what it is."""
    *before, current = words
    named = [word for word in before if not word.startswith("-")]
    if not named:
        yield from ((name, _summary(name)) for name in catalog.FAMILIES if " " not in name)
        yield from ((name, f"commands about {name}") for name in catalog.GROUPS if name not in catalog.FAMILIES)
        return
    if named[0] in catalog.GROUPS and len(named) == 1:
        yield from ((word, _summary(meant)) for word, meant in catalog.GROUPS[named[0]].items())
        return
    try:
        name, rest = catalog.find(before)
        command = catalog.load(name)
    except (SampanError, KeyError):
        return
    if _takes_value(command, rest[-1:]):
        return
    if current.startswith("-"):
        yield from ((f"--{flag.name}", flag.help) for flag in command.flags)
        return
    yield from _arguments(command, settings)


def _summary(name: str) -> str:
    return catalog.load(name).summary


def _takes_value(command: Command, last: list[str]) -> bool:
    """Tell whether the word before is a flag that waits for its value."""
    word = last[0] if last else ""
    return any(
        flag.kind != "bool" and (word == f"--{flag.name}" or (flag.short != "" and word == f"-{flag.short}"))
        for flag in command.flags
    )


def _arguments(command: Command, settings: "Settings") -> "Iterator[Candidate]":
    """Yield the containers or images that a command's usage says it takes."""
    if not os.path.exists(f"{settings.root}/sampan.db"):
        return
    if "CONTAINER" in command.usage:
        from sampan.engine import inspection

        colon = ":" if "CONTAINER:" in command.usage else ""
        rows = inspection.summaries(settings, all=True)
        yield from ((row["Names"][0] + colon, row["Image"]) for row in rows)
    if "IMAGE" in command.usage:
        from sampan.database import connection
        from sampan.image.store import Images
        from sampan.oci.reference import Reference
        from sampan.units import human_size

        with connection.open(settings) as database:
            for image in Images(database).list():
                yield from ((Reference.parse(name).familiar(), human_size(image.size_bytes)) for name in image.names)


COMMANDS = (
    Command(
        "completion",
        "bash|zsh|fish",
        "Print the script that lets a shell complete `sampan`",
        execute=completion,
        minimum=1,
        text=(
            "bash: `source <(sampan completion bash)` in ~/.bashrc\n"
            "zsh:  `source <(sampan completion zsh)` in ~/.zshrc, after compinit\n"
            "fish: `sampan completion fish >~/.config/fish/completions/sampan.fish`"
        ),
        examples=("sampan completion bash >/etc/bash_completion.d/sampan",),
    ),
)
