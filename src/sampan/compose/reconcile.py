"""Up: what is there becomes what the file says, and what is that already is not touched.

    resources   networks and volumes that are missing are made
    plan        each service's containers are compared with the file: keep, start, create, recreate, remove (pure)
    work        each service in a process of its own, after those that it waits for (`crew`, `readiness`)

A container is recreated when its configuration's digest or its image is another one. Its anonymous volumes go on to the
new one. Killed anywhere, the next `up` or `down` finds every container by its labels and goes on from there.
"""

from collections.abc import Callable, Iterable, Mapping

from sampan.compose import label, readiness, sight, wish
from sampan.compose.crew import HANDS, Crew, Say, Task, TaskFailed
from sampan.compose.model import order
from sampan.compose.model.project import STARTED
from sampan.compose.sight import Seen
from sampan.engine import container, network, volume
from sampan.errors import AlreadyExists, Conflict, NotFound
from sampan.frozen import frozen, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.compose.crew import Watch
    from sampan.compose.model.project import Project, Resource, Service
    from sampan.settings.configuration import Settings

KEEP, START, CREATE, RECREATE, REMOVE = "keep", "start", "create", "recreate", "remove"
_STARTS = (START, CREATE, RECREATE)


@frozen
class Choice:
    """How `up` was asked to go about it."""

    scale: Mapping[str, int]
    recreates_all: bool = False
    recreates_none: bool = False
    renews_volumes: bool = False
    is_started: bool = True
    waits_for_dependencies: bool = True
    timeout_seconds: int | None = None
    parallel: int = HANDS


@frozen
class Action:
    """What happens with a service's `number`th container, `name`; `seen` is what is there of it."""

    kind: str
    number: int
    name: str
    seen: Seen | None = None


def plan(project: "Project", service: "Service", seen: Iterable[Seen], image_id: str, choice: Choice) -> list[Action]:
    """Compare a service's containers with the file. Pure."""
    wanted = choice.scale.get(service.name, service.scale)
    own = sorted((one for one in seen if one.service == service.name and not one.is_one_off), key=lambda s: s.number)
    digest = wish.digest(project, service)
    # Those that need not be made anew stay, when there are too many.
    kept = sorted(own, key=lambda one: (not _is_current(one, digest, image_id), one.number))[:wanted]
    actions = [Action(kind=REMOVE, number=one.number, name=one.name, seen=one) for one in own if one not in kept]
    for one in sorted(kept, key=lambda one: one.number):
        is_current = choice.recreates_none or (_is_current(one, digest, image_id) and not choice.recreates_all)
        # A paused one is asked to start, and says why it cannot, as with docker.
        is_left = (one.is_running and one.state != sight.PAUSED) or not choice.is_started
        kind = RECREATE if not is_current else KEEP if is_left else START
        actions.append(Action(kind=kind, number=one.number, name=one.name, seen=one))
    taken = {one.number for one in kept}
    free = (number for number in range(1, wanted + len(taken) + 1) if number not in taken)
    for _ in range(wanted - len(kept)):
        number = next(free)
        actions.append(Action(kind=CREATE, number=number, name=wish.container_name(project, service, number)))
    return actions


def _is_current(seen: Seen, digest: str, image_id: str) -> bool:
    return seen.digest == digest and seen.image_id == image_id


def resources(settings: "Settings", project: "Project", services: Iterable["Service"], say: Say) -> None:
    """Make the networks and volumes that these services use and that are missing; raises NotFound for external ones."""
    services = list(services)
    networks = {key: project.networks[key] for service in services for key in service.networks}
    mounts = [mount for service in services for mount in service.values.get("volumes", ())]
    keys = [mount["source"] for mount in mounts if mount["type"] == "volume" and mount.get("source")]
    known = {one.name for one in network.every(settings)} if networks else set()
    for resource in networks.values():
        if resource.name not in known:
            _make_network(settings, project, resource, say)
    wanted = {key: project.volumes[key] for key in keys}.values()
    known = {one["Name"] for one in volume.every(settings)} if wanted else set()
    for resource in wanted:
        if resource.name not in known:
            _make_volume(settings, project, resource, say)


def _make_network(settings: "Settings", project: "Project", resource: "Resource", say: Say) -> None:
    _refuse_external("network", resource)
    say(f"Network {resource.name}", "Creating")
    pools = resource.values.get("ipam", {}).get("config", ())
    pool = pools[0] if pools else {}
    try:
        network.create(
            settings,
            resource.name,
            subnet=pool.get("subnet", ""),
            gateway=pool.get("gateway", ""),
            ip_range=pool.get("ip_range", ""),
            reserved=pool.get("aux_addresses", {}),
            internal=resource.values.get("internal", False),
            attachable=resource.values.get("attachable", False),
            options={key: str(value) for key, value in resource.values.get("driver_opts", {}).items()},
            labels=_labels(project, resource, label.NETWORK),
        )
    except AlreadyExists as error:
        if resource.name not in {one.name for one in network.every(settings)}:
            error.at = error.at or resource.place
            raise
    say(f"Network {resource.name}", "Created")


def _make_volume(settings: "Settings", project: "Project", resource: "Resource", say: Say) -> None:
    _refuse_external("volume", resource)
    say(f"Volume {resource.name}", "Creating")
    options = {key: str(value or "") for key, value in (resource.values.get("driver_opts") or {}).items()}
    volume.create(settings, resource.name, labels=_labels(project, resource, label.VOLUME), options=options)
    say(f"Volume {resource.name}", "Created")


def _refuse_external(kind: str, resource: "Resource") -> None:
    """Raise NotFound where a missing network or volume is somebody else's to make."""
    if resource.is_external:
        raise NotFound(
            f"the {kind} `{resource.name}`, declared as external, does not exist", at=resource.place,
            hints=(f"make it with `sampan {kind} create {resource.name}`",),
        )  # fmt: skip


def _labels(project: "Project", resource: "Resource", kind: str) -> dict[str, str]:
    own = {key: value or "" for key, value in resource.values.get("labels", {}).items()}
    return own | {label.PROJECT: project.name, kind: resource.key}


@frozen
class Up:
    """One `up`: what it is about, and how it is done. `images` are the services' image ids."""

    settings: "Settings"
    project: "Project"
    choice: Choice
    images: Mapping[str, str]

    def converge(
        self,
        actions: Mapping[str, list[Action]],
        say: Say,
        *,
        watch: "Watch | None" = None,
        on_started: Callable[[str, object], None] = lambda _name, _containers: None,
    ) -> dict[str, list[str]]:
        """Do the actions of every service, in the order of their dependencies; return its containers by service."""
        services = self.project.services
        actions = self._with_joined(actions)
        names = order.with_dependencies(services, actions)
        if any(action.kind in _STARTS for actions_of in actions.values() for action in actions_of):
            from sampan.engine import start  # noqa: F401  once, and not again in every hand
        tasks = [self._task(services[name], actions) for name in names if name in actions]
        try:
            found = Crew(say, limit=self.choice.parallel, watch=watch, on_done=on_started).work(tasks)
        except TaskFailed as failed:
            error = failed.error
            error.at = error.at or services[failed.name].at
            raise error from error.__cause__
        return {name: [str(one) for one in told] if isinstance(told, list) else [] for name, told in found.items()}

    def _with_joined(self, actions: Mapping[str, list[Action]]) -> dict[str, list[Action]]:
        """Recreate what has joined a container that is another by then, or has been started anew; pure.

        It knows that one by its id, and is in namespaces that are gone.
        """
        found = dict(actions)
        for name in order.with_dependencies(self.project.services, actions):
            others = self.project.services[name].joined.values() if name in found else ()
            if any(action.kind in _STARTS for other in others for action in found.get(other, ())):
                found[name] = [
                    replace(action, kind=RECREATE) if action.kind in {KEEP, START} else action for action in found[name]
                ]
        return found

    def await_dependencies(self, service: "Service", actions: Mapping[str, list[Action]], say: Say) -> None:
        """Wait until what a service waits for meets its conditions; `actions` says which containers are meant."""
        for name, dependency in service.dependencies.items():
            if name not in self.project.services:
                continue  # not required, and off
            if name in actions:
                names = [action.name for action in actions[name] if action.kind != REMOVE]
            else:
                seen = sight.containers(self.settings, self.project.name)
                names = [one.name for one in seen if one.service == name and not one.is_one_off]
            try:
                readiness.wait(self.settings, names, dependency.condition, say)
            except Conflict:
                if dependency.is_required:
                    raise

    def _task(self, service: "Service", actions: Mapping[str, list[Action]]) -> Task:
        """Return what makes one service what it should be, after those that it waits for."""
        needs = tuple(name for name in service.dependencies if name in actions) if self.choice.is_started else ()

        # Of new containers all but the start can be done while what they wait for is being started.
        is_early = (
            self.choice.is_started
            # Who joins a container or is linked to it has to find it.
            and not (service.joined or service.values.get("links"))
            and all(action.kind == CREATE for action in actions[service.name])
            and all(told.condition == STARTED for told in service.dependencies.values())
        )

        def act(say: Say, wait: Callable[[], None]) -> object:
            def gate() -> None:
                wait()
                if self.choice.is_started and self.choice.waits_for_dependencies:
                    self.await_dependencies(service, actions, say)

            if not is_early:
                gate()
            for action in actions[service.name]:
                self._perform(service, action, say, gate if is_early else None)
            return [action.name for action in actions[service.name] if action.kind != REMOVE]

        return Task(name=service.name, act=act, needs=needs, is_early=is_early)

    def _perform(self, service: "Service", action: Action, say: Say, gate: "Callable[[], None] | None" = None) -> None:
        """Do one action (in a process of its own)."""
        subject, seen = f"Container {action.name}", action.seen
        if action.kind == KEEP:
            say(subject, "Running" if seen and seen.is_running else "Created")
        elif action.kind == START:
            say(subject, "Starting")
            _start(self.settings, action.name)
            say(subject, "Started")
        elif action.kind == REMOVE and seen:
            remove(self.settings, seen, self.choice.timeout_seconds, say, volumes=False)
        else:
            self._make(service, action, say, gate)

    def _make(self, service: "Service", action: Action, say: Say, gate: "Callable[[], None] | None" = None) -> None:
        """Create a container, in the place of the one before it."""
        subject, before = f"Container {action.name}", action.seen
        say(subject, "Recreate" if before else "Creating")
        inherited = {} if before is None or self.choice.renews_volumes else before.anonymous
        if before is not None:
            container.stop(self.settings, before.id, self.choice.timeout_seconds)
            container.remove(self.settings, before.id)
            if self.choice.renews_volumes:
                _remove_anonymous(self.settings, before)
        options = wish.options(
            self.settings,
            self.project,
            service,
            number=action.number,
            image_id=self.images[service.name],
            inherited=inherited,
        )
        if self.choice.is_started:
            container.run(self.settings, options, gate=gate).client.close()
            say(subject, "Started")
        else:
            container.create(self.settings, options)
            say(subject, "Recreated" if before else "Created")


def _start(settings: "Settings", name: str) -> None:
    started = container.start(settings, name)
    if started is not None:
        started.client.close()


def remove(settings: "Settings", seen: Seen, timeout_seconds: int | None, say: Say, *, volumes: bool) -> None:
    """Stop and remove a container; one that has gone meanwhile is no error."""
    subject = f"Container {seen.name}"
    try:
        if seen.is_running:
            say(subject, "Stopping")
            container.stop(settings, seen.id, timeout_seconds)
            say(subject, "Stopped")
        say(subject, "Removing")
        container.remove(settings, seen.id, force=True, volumes=volumes)
        if volumes:
            _remove_anonymous(settings, seen)
    except NotFound:
        pass  # somebody else was quicker
    say(subject, "Removed")


def _remove_anonymous(settings: "Settings", seen: Seen) -> None:
    """Remove the volumes that nobody named, those too that went from container to container."""
    for name in seen.anonymous.values():
        try:
            volume.remove(settings, name)
        except (NotFound, Conflict):
            pass  # it went with its container, or somebody else mounts it
