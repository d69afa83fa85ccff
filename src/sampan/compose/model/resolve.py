"""The checked project of a request: names, defaults, environments, and that all that is referred to is there. Pure."""

import os
import re
from collections.abc import Iterable, Mapping

from sampan.compose.model import dotenv, interpolate, order, schema, specification
from sampan.compose.model.load import Loader, Request
from sampan.compose.model.node import Mapping as Tree
from sampan.compose.model.node import Scalar
from sampan.compose.model.project import COMPLETED, HEALTHY, SERVICE, Project, Resource, Service, Values
from sampan.errors import InvalidArgument, NotFound
from sampan.frozen import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.compose.model.template import Variable
    from sampan.errors import Place

SERVICES_AT_MOST = 1000
CONTAINERS_AT_MOST = 1000
DEFAULT_NETWORK = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEY = re.compile(r"[a-zA-Z0-9._-]+")
_MODES = ("none", "host", "bridge")
_JOINS = (SERVICE, "container:")


def project(request: Request, *, profiles: Iterable[str] = (), named: Iterable[str] = ()) -> Project:
    """Return the project; `profiles` and the profiles of the services that are `named` are on.

    Raises InvalidArgument, NotFound and Unsupported with file and line.
    """
    loader = Loader(request)
    documents = loader.documents()
    name = _project_name(request, documents)
    environment = {**request.environment, "COMPOSE_PROJECT_NAME": name}
    tree = loader.tree(documents, environment)
    report = schema.Report()
    if "version" in tree.entries:
        report.warn(f"{tree.place_of('version').path}: the attribute `version` is obsolete, it will be ignored")
    for variable in loader.unset:
        report.warn(f"The {variable!r} variable is not set. Defaulting to a blank string.".replace("'", '"'))
    values = _checked(tree, report)
    services = _services(request, tree, values, environment)
    enabled, disabled = _by_profile(services, set(profiles), set(named))
    found = Project(
        name=name,
        directory=request.directory,
        files=tuple(text.path for text in request.texts),
        environment=environment,
        services=enabled,
        disabled=disabled,
        networks=_resources("networks", tree, values, name),
        volumes=_resources("volumes", tree, values, name),
        secrets=_resources("secrets", tree, values, name),
        configs=_resources("configs", tree, values, name),
        extensions={key: value for key, value in values.items() if key.startswith("x-")},
        warnings=tuple(report.warnings),
    )
    _check(found)
    return found


def variables(request: Request) -> list["Variable"]:
    """Return the variables that the texts ask for."""
    return [variable for tree in Loader(request).documents() for variable in interpolate.variables(tree)]


def directory_name(directory: str) -> str:
    """Return the project's name after its directory: lower case, without what docker drops.

    A name of which nothing is left (a Chinese one) becomes a digest: one name for each directory, and always the same.
    """
    word = os.path.basename(directory)
    name = re.sub(r"[^a-z0-9_-]", "", word.lower()).lstrip("_-")
    if name:
        return name
    import hashlib  # rarely wanted, 3 ms

    return f"project-{hashlib.sha256(os.fsencode(word)).hexdigest()[:8]}"


def check_name(name: str) -> str:
    """Return a project's name if it may be one."""
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise InvalidArgument(
            f"`{name}` cannot be a project's name",
            hints=("use lower-case letters, digits, `_` and `-`, the first a letter or digit",),
        )
    return name


def _project_name(request: Request, documents: list[Tree]) -> str:
    """Return the name: the person's, the last text's, or the directory's."""
    if word := request.name or request.environment.get("COMPOSE_PROJECT_NAME", ""):
        return check_name(word)
    for tree in reversed(documents):
        node = tree.entries.get("name")
        if isinstance(node, Scalar) and isinstance(node.value, str):
            told = interpolate.interpolate(node, request.environment.get, lambda _name: None)
            try:
                return check_name(told.text if isinstance(told, Scalar) else "")
            except InvalidArgument as error:
                raise InvalidArgument(error.what, hints=error.hints, at=tree.place_of("name")) from None
    return directory_name(request.directory)


def _checked(tree: Tree, report: schema.Report) -> Values:
    """Return the tree's values."""
    found = specification.PROJECT(tree, "", report)
    values: Values = found if isinstance(found, dict) else {}
    services = values.get("services", {})
    if not services:
        raise InvalidArgument("the compose file has no services", at=tree.place, hints=("it needs a key `services:`",))
    if len(services) > SERVICES_AT_MOST:
        raise InvalidArgument(f"there are more than {SERVICES_AT_MOST} services")
    return values


# ------------------------------------------------------------------------------------------------------------ services


def _services(request: Request, tree: Tree, values: Values, environment: Mapping[str, str]) -> dict[str, Service]:
    nodes = tree.entries["services"]
    found = {}
    for name, told in values["services"].items():
        node = nodes.entries[name] if isinstance(nodes, Tree) else tree
        if not isinstance(node, Tree) or not isinstance(nodes, Tree):
            continue  # an extension
        if not _KEY.fullmatch(name):
            raise InvalidArgument(
                f"`{name}` cannot be a service's name", at=nodes.place_of(name),
                hints=("use letters, digits, `.`, `_` and `-`",),
            )  # fmt: skip
        if "networks" not in told and "network_mode" not in told:
            told["networks"] = {DEFAULT_NETWORK: None}
        if "label_file" in told:
            told["labels"] = _labels(request, told["label_file"], nodes.place_of(name)) | told.get("labels", {})
        service = Service(name=name, values=told, node=node, at=nodes.place_of(name), environment={})
        found[name] = replace(service, environment=_environment(request, service, environment))
    return found


def _environment(request: Request, service: Service, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a service's variables: its files in order, then `environment` over them."""
    found: dict[str, str | None] = {}
    for file in service.values.get("env_file", ()):
        try:
            content = request.read(file["path"])
        except NotFound as error:
            if not file["required"]:
                continue
            raise NotFound(
                f"the environment file `{file['path']}` does not exist", at=service.place("env_file"),
                hints=("make it, or say `required: false` beside its path",),
            ) from error  # fmt: skip
        known = {key: value for key, value in found.items() if value is not None}
        found |= dotenv.parse(content, file["path"], known | dict(environment), raw=file.get("format") == "raw")
    for key, value in service.values.get("environment", {}).items():
        found[key] = environment.get(key) if value is None else value
    return {key: value for key, value in found.items() if value is not None}


def _labels(request: Request, paths: Iterable[str], place: "Place") -> dict[str, str]:
    """Return the labels of a service's files, which are written as its variables' are."""
    found: dict[str, str] = {}
    for path in paths:
        try:
            lines = dotenv.parse(request.read(path), path, {}, raw=True)
        except NotFound as error:
            raise NotFound(f"the label file `{path}` does not exist", at=place) from error
        found |= {key: value or "" for key, value in lines.items()}
    return found


def _by_profile(
    services: dict[str, Service], profiles: set[str], named: set[str]
) -> tuple[dict[str, Service], dict[str, Service]]:
    """Part the services into those that are on, and the others."""
    for name in named & set(services):
        profiles = profiles | set(services[name].profiles)
    on = {
        name: service
        for name, service in services.items()
        if not service.profiles or "*" in profiles or profiles & set(service.profiles)
    }
    return on, {name: service for name, service in services.items() if name not in on}


# ----------------------------------------------------------------------------------------------------------- resources


def _resources(section: str, tree: Tree, values: Values, project_name: str) -> dict[str, Resource]:
    """Return the things of a section by key; the default network is always among the networks."""
    node = tree.entries.get(section)
    told = {key: value for key, value in (values.get(section) or {}).items() if not key.startswith("x-")}
    if section == "networks":
        told.setdefault(DEFAULT_NETWORK, None)
    found = {}
    for key, value in told.items():
        own: Values = dict(value or {})
        is_external = bool(own.get("external"))
        name = own.get("name") or (key if is_external else f"{project_name}_{key}")
        is_written = isinstance(node, Tree) and key in node.entries
        place = node.place_of(key) if isinstance(node, Tree) and is_written else tree.place
        found[key] = Resource(key=key, name=str(name), values=own, is_external=is_external, place=place)
    return found


# -------------------------------------------------------------------------------------------------------------- checks


def _check(project: Project) -> None:
    """Raise for what is well-formed and cannot be meant."""
    everything = project.services | project.disabled
    total = 0
    for service in project.services.values():
        if not service.image and service.build is None:
            raise InvalidArgument(
                f"the service `{service.name}` has neither an image nor a build context", at=service.at,
                hints=("give it `image: NAME`, or `build: .` for a project of your own",),
            )  # fmt: skip
        _check_scale(service)
        total += service.scale
        _check_dependencies(service, project.services, everything)
        _check_references(service, project)
        _check_mode(service)
    if total > CONTAINERS_AT_MOST:
        raise InvalidArgument(f"the project has more than {CONTAINERS_AT_MOST} containers")
    order.check(everything)


def _check_scale(service: Service) -> None:
    replicas = service.values.get("deploy", {}).get("replicas")
    if replicas is not None and service.values.get("scale", replicas) != replicas:
        raise InvalidArgument(
            f"`scale` and `deploy.replicas` of `{service.name}` differ", at=service.place("scale"),
            hints=("keep one of them",),
        )  # fmt: skip
    if service.scale < 0:
        raise InvalidArgument(f"the scale of `{service.name}` is negative", at=service.place("scale"))
    if service.scale > 1 and "container_name" in service.values:
        raise InvalidArgument(
            f"`{service.name}` has {service.scale} containers, which cannot all be called "
            f"`{service.values['container_name']}`",
            at=service.place("container_name"), hints=("take `container_name` out",),
        )  # fmt: skip


def _check_dependencies(service: Service, enabled: Mapping[str, Service], known: Mapping[str, Service]) -> None:
    keys = ("depends_on", "links", "volumes_from")
    usual = next((key for key in keys if key in service.node.entries), keys[0])
    joined = {name: key for key, name in service.joined.items()}
    for name, dependency in service.dependencies.items():
        key = joined.get(name, usual)
        if name not in known:
            raise _missing("service", name, known, service.place(key), why=f"which `{service.name}` waits for")
        if name not in enabled and dependency.is_required:
            profiles = known[name].profiles
            raise InvalidArgument(
                f"`{service.name}` waits for `{name}`, which no profile that is on has", at=service.place(key),
                hints=(f"`--profile {profiles[0]}` switches it on", "`required: false` goes on without it"),
            )  # fmt: skip
        if dependency.condition == HEALTHY and known[name].values.get("healthcheck", {}).get("disable"):
            raise InvalidArgument(
                f"`{service.name}` waits until `{name}` is healthy, whose health check is off", at=service.place(key)
            )
        if dependency.condition == COMPLETED and known[name].values.get("restart") in {"always", "unless-stopped"}:
            raise InvalidArgument(
                f"`{service.name}` waits until `{name}` ends, which always starts again", at=service.place(key),
                hints=(f"take `restart` out of `{name}`",),
            )  # fmt: skip


def _check_references(service: Service, project: Project) -> None:
    """All networks, volumes, secrets and configs of a service stand in the file."""
    for key in service.networks:
        if key not in project.networks:
            raise _missing(
                "network", key, project.networks, service.place("networks"), why=f"which `{service.name}` uses"
            )
    for mount in service.values.get("volumes", ()):
        name = mount.get("source")
        if mount["type"] == "volume" and name and name not in project.volumes:
            place = service.place("volumes")
            hint = f"add it at the end of the file: `volumes: {{{name}: }}`, or write `./{name}` for a directory"
            raise _missing("volume", name, project.volumes, place, why=f"which `{service.name}` mounts", hint=hint)
    for section, known in (("secret", project.secrets), ("config", project.configs)):
        for grant in service.values.get(f"{section}s", ()):
            if grant["source"] not in known:
                place = service.place(f"{section}s")
                raise _missing(section, grant["source"], known, place, why=f"which `{service.name}` uses")


def _check_mode(service: Service) -> None:
    mode = service.values.get("network_mode", "")
    if mode and service.networks:
        raise InvalidArgument(
            f"`{service.name}` has both `network_mode` and `networks`", at=service.place("network_mode"),
            hints=("keep one of them",),
        )  # fmt: skip
    if mode and mode not in _MODES and not mode.startswith(_JOINS):
        raise InvalidArgument(
            f"`network_mode: {mode}` is not there", at=service.place("network_mode"),
            hints=(f"there are {', '.join(f'`{word}`' for word in (*_MODES, *(f'{word}NAME' for word in _JOINS)))}",),
        )  # fmt: skip


def _missing(what: str, name: str, known: Iterable[str], place: "Place", *, why: str, hint: str = "") -> NotFound:
    """Explain a name that stands nowhere in the file."""
    import difflib  # only after a mistake

    near = next(iter(difflib.get_close_matches(name, list(known), 1)), "")
    section = f"{what}s"
    hints = (f"did you mean `{near}`?",) if near else (hint or f"add it under `{section}:`",)
    return NotFound(f"there is no {what} `{name}`, {why}", hints=hints, at=place)
