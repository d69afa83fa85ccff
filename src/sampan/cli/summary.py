"""What each command does, in a line: for lists of commands, which would else import every family's module.

The commands say it themselves; tests/cli/test_completion.py holds the two together. Docker compose's words that are not
there yet are left out.
"""

from sampan.cli import catalog

# Command -> its `summary`, in the order of `sampan help`.
SUMMARIES = {
    "run": "Create a container from an image, or from the project at PATH, and run a command in it",
    "create": "Create a container without starting it",
    "exec": "Run a command in a running container",
    "ps": "List containers",
    "logs": "Show what a container wrote",
    "attach": "Stay with a running container: its output, its input, its end",
    "start": "Start containers that are stopped or new",
    "stop": "Ask containers to end, and kill them after a time-out",
    "restart": "Stop containers and start them again",
    "kill": "Send a signal to containers, SIGKILL unless another is named",
    "wait": "Wait until containers end and print their exit statuses",
    "rm": "Remove containers",
    "inspect": "Show everything about containers or images, as JSON",
    "build": "Build an image from the Dockerfile, or the Python project, at PATH",
    "bootstrap": "Make stand-ins for images from signed Debian packages",
    "outdated": "Show which Debian packages of an image are behind the signed index",
    "lint": "Say what is not good in a Dockerfile, and how to mend it",
    "images": "List images",
    "tag": "Give an image one more name",
    "rmi": "Take names from images, and remove those that have none left",
    "import": "Make an image of the tar of a root file system",
    "save": "Write images as an OCI archive, which docker load reads too",
    "load": "Read images from an OCI or docker archive",
    "pull": "Fetch an image from a registry",
    "push": "Put an image into a registry",
    "login": "Say to a registry who you are",
    "logout": "Forget who you are to a registry",
    "network create": "Make a network on which containers find each other by name",
    "network ls": "List networks",
    "network inspect": "Show everything about networks, as JSON",
    "network rm": "Remove networks",
    "network prune": "Remove all networks that no container is on",
    "volume create": "Make a volume; its first container fills it from the image",
    "volume ls": "List volumes",
    "volume inspect": "Show everything about volumes, as JSON",
    "volume rm": "Remove volumes, with all that is in them",
    "volume prune": "Remove the anonymous volumes that no container has",
    "compose": "Run a project of several containers from a compose file",
    "doctor": "Show what this machine can do, what is missing, and how to mend it",
    "completion": "Print the script that lets a shell complete `sampan`",
    "version": "Show the version, and where state is kept",
    "system reset": "Remove everything that Sampan ever put on this machine",
    "compose build": "Build the images of the services that have a build context",
    "compose config": "Print the project as it was understood: merged, with long forms and whole paths",
    "compose create": "Create the project's containers without starting them",
    "compose down": "Stop and remove the project's containers and networks",
    "compose exec": "Run a command in a running container of a service",
    "compose images": "List the images of the project's containers",
    "compose kill": "Send a signal to containers, SIGKILL unless another is named",
    "compose logs": "Show what the project's containers wrote",
    "compose ls": "List the projects",
    "compose port": "Print where a port is published",
    "compose ps": "List the project's containers",
    "compose pull": "Fetch the images of the services",
    "compose restart": "Stop containers and start them again",
    "compose rm": "Remove stopped containers",
    "compose run": "Run one command in a new container of a service",
    "compose start": "Start containers that are stopped or new",
    "compose stop": "Ask containers to end, and kill them after a time-out",
    "compose up": "Create and start the project's containers, and show their output",
    "compose version": "Print the version",
    "compose wait": "Wait until containers end",
}


def of(name: str) -> str:
    """Return the summary of one of the catalog's commands."""
    return SUMMARIES.get(name) or catalog.load(name).summary
