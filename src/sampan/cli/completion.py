"""`sampan completion SHELL`: what a shell needs to complete `sampan …`, from the same tables that the parser reads.

The scripts know nothing: at each Tab they ask `sampan completion words -- WORDS...`, the words up to the cursor, and
get a line for each candidate, with a tab and what it is. Where nothing is known to stand there, no line is printed, and
the shell completes file names as it does anywhere else.
"""

from sampan.cli.candidate import candidates
from sampan.cli.flags import Command, Parsed
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.settings.configuration import Settings

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
# In a file of $fpath the script is the function's body, which the first Tab calls.
_ZSH = r"""#compdef sampan
_sampan() {
    local line
    local -a candidates
    while IFS= read -r line; do
        candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <(sampan completion words -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (( ${#candidates} )) && _describe -t candidates candidate candidates && return
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    _files
}
if [[ ${funcstack[1]} == _sampan ]]; then
    _sampan "$@"
else
    compdef _sampan sampan
fi
"""
# Files are offered too where a line of `complete` does not say `-f`.
_FISH = r"""function __sampan
    set -l words (commandline -opc) (commandline -ct | string collect -a)
    set -g __sampan_candidates (sampan completion words -- $words[2..] 2>/dev/null)
    test (count $__sampan_candidates) -gt 0
end
complete -c sampan -n __sampan -f -a '(string join \n -- $__sampan_candidates)'
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
