"""What `--format` may say so far: `table`, `json` and `{{json .}}`. Hot."""

from sampan.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed

TABLE, JSON = "table", "json"


def choose(parsed: "Parsed", default: str = TABLE) -> str:
    """Return TABLE or JSON; raises Unsupported for a Go template."""
    word = parsed.text("format", default)
    if word in {"", TABLE}:
        return TABLE
    if "".join(word.split()) in {JSON, "{{json.}}"}:
        return JSON
    raise Unsupported(
        f"the format `{word}` is not there yet",
        hints=("there are `--format table` and `--format json`; `jq` takes the latter apart",),
    )
