"""A plan as a Dockerfile that does about the same (`--emit-dockerfile`): to leave, to learn, to compare. Pure."""

import json

from sampan.build.python import plan as plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.python.plan import Plan


def emit(plan: "Plan") -> str:
    """Return the Dockerfile."""
    lines = ["# What `sampan build` does with this project, in a Dockerfile's words.", ""]
    lines += [f"# {choice.what}: {choice.text()}" for choice in plan.choices]
    lines += ["", f"FROM python:{plan.release.python}-slim-{plan.release.suite}", ""]
    lines += [f"ENV {_assignment(variable)}" for variable in plan.environment if not variable.startswith("PATH=")]
    lines += ["RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*"]
    lines += [f"RUN useradd --uid 65532 --create-home --home-dir {plans.HOME} nonroot", f"WORKDIR {plans.WORKDIR}"]
    lines += _install(plan)
    lines += [f"COPY . {plans.WORKDIR}", f"USER {plans.USER}"]
    lines += [f"EXPOSE {plan.port}"] if plan.port else []
    lines += [f"ENTRYPOINT {json.dumps(list(plans.ENTRYPOINT))}", f"CMD {json.dumps(list(plan.command))}"]
    return "\n".join(lines) + "\n"


def _install(plan: "Plan") -> list[str]:
    """Install requirements before the code is copied, so that a change of code keeps this step."""
    source = plan.requirements.source
    if source == "requirements.txt":
        files = sorted(
            {item.place.path for item in [*plan.requirements.items, *plan.requirements.constraints]} | {source}
        )
        named = [path for path in files if path.endswith((".txt", ".in"))]
        added = [item.text for item in plan.requirements.items if item.place.path not in named]
        words = ["-r", source, *(json.dumps(text) for text in added)]
        return [f"COPY {' '.join(named)} ./", f"RUN pip install --no-cache-dir {' '.join(words)}"]
    words = [json.dumps(item.text) for item in plan.requirements.items]
    return [f"RUN pip install --no-cache-dir {' '.join(words)}"] if words else []


def _assignment(variable: str) -> str:
    name, _, value = variable.partition("=")
    return f"{name}={json.dumps(value) if ' ' in value else value}"
