"""`sampan compose config` and `version`: what the files say, without touching a container."""

from sampan.cli.compose import selection
from sampan.cli.flags import Command, Flag, Parsed
from sampan.compose import files
from sampan.compose.model import resolve
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.render import Printer
    from sampan.compose.model.project import Project
    from sampan.settings.configuration import Settings


def config(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print the project in its canonical form, or one of its lists."""
    if parsed.is_set("variables"):
        return _variables(parsed, settings, printer)
    is_interpolated = not parsed.is_set("no-interpolate")
    project = selection.load(parsed, settings, printer, parsed.arguments, is_interpolated=is_interpolated)
    if parsed.is_set("quiet"):
        return 0
    if parsed.is_set("environment"):
        for key, value in sorted(project.environment.items()):
            printer.out(f"{key}={value}")
        return 0
    lines = _list(parsed, project)
    if lines is None:
        text = _text(parsed, project)
        # What is printed can be read again: a dollar is written as one that is meant.
        _write(parsed, text.replace("$", "$$") if is_interpolated else text, printer)
        return 0
    for line in lines:
        printer.out(line)
    return 0


def _text(parsed: Parsed, project: "Project") -> str:
    from sampan.compose.model import emit  # not for --quiet

    document = emit.document(project)
    if parsed.arguments:
        document["services"] = {name: document["services"][name] for name in sorted(parsed.arguments)}
    form = parsed.text("format", "yaml")
    if form not in {"yaml", "json"}:
        raise InvalidArgument(f"the format `{form}` is unknown", hints=("formats: yaml, json",))
    return emit.as_json(document) if form == "json" else emit.as_yaml(document)


def _write(parsed: Parsed, text: str, printer: "Printer") -> None:
    path = parsed.text("output")
    if not path:
        printer.out(text)
        return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _list(parsed: Parsed, project: "Project") -> list[str] | None:
    """Return the lines of the list that was asked for, None where it was none."""
    services = sorted(project.services.values(), key=lambda service: service.name)
    if parsed.is_set("services"):
        return [service.name for service in services]
    if parsed.is_set("volumes"):
        return sorted(project.volumes)
    if parsed.is_set("networks"):
        return sorted({key for service in services for key in service.networks})
    if parsed.is_set("profiles"):
        return sorted({name for one in (*services, *project.disabled.values()) for name in one.profiles})
    if parsed.is_set("images"):
        return [service.image or f"{project.name}-{service.name}" for service in services]
    if "hash" in parsed.values:
        from sampan.compose import wish

        wanted = parsed.text("hash")
        chosen = {service.name for service in services} if wanted == "*" else set(wanted.split(","))
        return [f"{service.name} {wish.digest(project, service)}" for service in services if service.name in chosen]
    return None


def _variables(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:
    """Print the variables that the files ask for."""
    found = {v.name: v for v in resolve.variables(files.request(selection.of(parsed), settings.environment))}
    rows = []
    for name, variable in sorted(found.items()):
        word = "".join(part for part in variable.word if isinstance(part, str))
        kind = variable.operator[-1:]
        rows.append((name, str(kind == "?").lower(), word if kind == "-" else "", word if kind == "+" else ""))
    printer.table(("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"), rows)
    return 0


def version(parsed: Parsed, settings: "Settings", printer: "Printer") -> int:  # noqa: ARG001  every command's shape
    """Print the version."""
    from sampan.cli.system import installed_version

    form = parsed.text("format", "pretty")
    if parsed.is_set("short"):
        printer.out(installed_version())
    elif form == "json":
        printer.json({"version": f"v{installed_version()}"})
    else:
        printer.out(f"Sampan Compose version v{installed_version()}")
    return 0


COMMANDS = (
    Command(
        "compose config",
        "[OPTIONS] [SERVICE...]",
        "Print the project as it was understood: merged, with long forms and whole paths",
        execute=config,
        flags=(
            Flag("environment", "bool", "print the variables that the files are read with"),
            Flag("format", "string", "`yaml` or `json`"),
            Flag("hash", "string", "print the digest of a service's configuration; `*` is all"),
            Flag("images", "bool", "print the images"),
            Flag("networks", "bool", "print the networks"),
            Flag("no-interpolate", "bool", "leave variables as they stand"),
            Flag("output", "string", "write to a file", short="o"),
            Flag("profiles", "bool", "print the profiles"),
            Flag("quiet", "bool", "check only, print nothing", short="q"),
            Flag("services", "bool", "print the services"),
            Flag("variables", "bool", "print the variables that the files ask for"),
            Flag("volumes", "bool", "print the volumes"),
        ),
        later="lock-image-digests no-consistency no-env-resolution no-normalize no-path-resolution "
        "resolve-image-digests",
        examples=("sampan compose config", "sampan compose config --services"),
    ),
    Command(
        "compose version",
        "[OPTIONS]",
        "Print the version",
        execute=version,
        flags=(
            Flag("format", "string", "`pretty` or `json`", short="f"),
            Flag("short", "bool", "print the number only"),
        ),
        maximum=0,
    ),
)
