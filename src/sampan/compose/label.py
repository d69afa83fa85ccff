"""The labels by which a project is found again. They are docker compose's, so that what reads theirs reads ours."""

_PREFIX = "com.docker.compose"
PROJECT, SERVICE, NUMBER = f"{_PREFIX}.project", f"{_PREFIX}.service", f"{_PREFIX}.container-number"
ONE_OFF, DIGEST, IMAGE = f"{_PREFIX}.oneoff", f"{_PREFIX}.config-hash", f"{_PREFIX}.image"
FILES, DIRECTORY = f"{_PREFIX}.project.config_files", f"{_PREFIX}.project.working_dir"
NETWORK, VOLUME = f"{_PREFIX}.network", f"{_PREFIX}.volume"
DEPENDS = f"{_PREFIX}.depends_on"
