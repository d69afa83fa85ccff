"""The project that a command of compose is about, from the flags before it and the files they lead to."""

from collections.abc import Iterable

from sampan.compose import files
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.flags import Parsed
    from sampan.cli.render import Printer
    from sampan.compose.model.project import Project
    from sampan.settings.configuration import Settings


def of(parsed: "Parsed", *, is_interpolated: bool = True) -> files.Selection:
    """Return what the flags before the command say."""
    outer = parsed.outer
    if outer is None:
        return files.Selection()
    return files.Selection(
        files=tuple(outer.words("file")),
        name=outer.text("project-name"),
        directory=outer.text("project-directory"),
        env_files=tuple(outer.words("env-file")),
        profiles=tuple(outer.words("profile")),
        is_interpolated=is_interpolated,
    )


def load(
    parsed: "Parsed",
    settings: "Settings",
    printer: "Printer",
    named: Iterable[str] = (),
    *,
    is_interpolated: bool = True,
) -> "Project":
    """Read the project, and say what its files are warned of; services that are named must be there."""
    named = list(named)
    project = files.project(of(parsed, is_interpolated=is_interpolated), settings.environment, named)
    for text in project.warnings:
        printer.warn(text)
    for name in named:
        if name not in project.services:
            raise _no_service(project, name)
    return project


def _no_service(project: "Project", name: str) -> InvalidArgument:
    from sampan.cli import flags

    near = flags.suggest(name, list(project.services))
    hints = (f"did you mean `{near}`?",) if near else (f"services: {', '.join(sorted(project.services))}",)
    return InvalidArgument(f"no such service: `{name}`", hints=hints)
