"""The model as a document: what `sampan compose config` prints, as docker's prints it. Pure."""

import json

import yaml

from sampan.compose.model.project import Project, Resource, Service, Values

# In the order that docker prints; all below is sorted.
_SECTIONS = ("services", "networks", "volumes", "secrets", "configs")
# Docker's JSON has these even where there are none, its YAML has not: nothing there means the image's own.
_ALWAYS = ("command", "entrypoint")


def document(project: Project) -> Values:
    """Return the project as plain values, in long forms, with names and paths whole."""
    found: Values = {"name": project.name, "services": {}}
    for name in sorted(project.services):
        found["services"][name] = service(project.services[name])
    used = _used(project)
    for section in _SECTIONS[1:]:
        resources: dict[str, Resource] = getattr(project, section)
        told = {key: _resource(resources[key]) for key in sorted(resources) if key in used[section]}
        if told:
            found[section] = told
    return found | project.extensions


def service(what: Service) -> Values:
    """Return one service as plain values."""
    values = {key: value for key, value in what.values.items() if key not in ("env_file", "label_file")}
    if what.environment or "environment" in values:
        unset = {key: None for key, value in values.get("environment", {}).items() if value is None}
        values["environment"] = unset | dict(what.environment)
    for key in _ALWAYS:
        values.setdefault(key, None)
    return _with_labels(values)


def as_yaml(values: Values) -> str:
    """Return a document as YAML: sections in docker's order, all keys below sorted."""
    services = {
        name: {key: value for key, value in told.items() if key not in _ALWAYS or value is not None}
        for name, told in values["services"].items()
    }
    values = {**values, "services": services}
    return "".join(
        yaml.dump(
            {key: value}, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=True, width=1 << 16
        )
        for key, value in values.items()
    ).rstrip("\n")


def as_json(values: Values) -> str:
    """Return a document as JSON."""
    return json.dumps(values, indent=2, ensure_ascii=False, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Writes lists further in than their key, as docker does, and no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Begin one more level (PyYAML's signature)."""
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Return that nothing is written by reference (PyYAML's signature)."""
        return True


def _used(project: Project) -> dict[str, set[str]]:
    """Return the keys that a service uses: docker prints no others."""
    services = project.services.values()
    return {
        "networks": {key for one in services for key in one.networks},
        "volumes": {
            mount["source"] for one in services for mount in one.values.get("volumes", ()) if "source" in mount
        },
        "secrets": {grant["source"] for one in services for grant in one.values.get("secrets", ())},
        "configs": {grant["source"] for one in services for grant in one.values.get("configs", ())},
    }


def _resource(what: Resource) -> Values:
    return _with_labels({**what.values, "name": what.name})


def _with_labels(values: Values) -> Values:
    """Return the values with every label a text, one without a value an empty one."""
    if "labels" not in values:
        return values
    return {**values, "labels": {key: "" if value is None else value for key, value in values["labels"].items()}}
