"""The commands for registries, as people type them, on real registries: open, with passwords, with tokens, with TLS."""

import base64
import http.server
import json
import os
import pty
import signal
import stat
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.database.connection import Database
from sampan.image.removal import collect
from sampan.oci import image as oci
from sampan.oci.digest import Digest
from tests.image.fleet import check
from tests.plugin.ground import PROGRAM, Command
from tests.plugin.registry import Registry, Start
from tests.registry.hostile import Handler, reply, serving

_NEEDS = ("first", "registry", "root", "userns", "overlay", "netns", "cgroup")
pytestmark = [getattr(pytest.mark, name) for name in _NEEDS]

GREETING = "Hello from Sampan!"
# htpasswd -B: me, geheim
HTPASSWD = "me:$2y$05$abcdefghijklmnopqrstuuVWu8RjbNovPZWAMRdd7iqaaG0mI53Uu\n"
LOCKED = "auth: {{htpasswd: {{realm: test, path: {path}}}}}"


@pytest.fixture(autouse=True)
def docker_config(environment: dict[str, str], place: str) -> Path:
    """Give each test a docker configuration of its own, and return the file."""
    environment["DOCKER_CONFIG"] = f"{place}/docker"
    return Path(place, "docker", "config.json")


@pytest.fixture
def hello(sampan: Command, busybox_tar: str) -> str:
    """Make an image that greets; return its id."""
    made = sampan("import", "-c", f'CMD ["echo", "{GREETING}"]', busybox_tar, "made", check=True)
    return made.stdout.strip()


@pytest.fixture
def locked(start_registry: Start, tmp_path: Path) -> Registry:
    """Return a registry that wants a name and a password."""
    path = tmp_path / "htpasswd"
    path.write_text(HTPASSWD)
    return start_registry(more=LOCKED.format(path=path))


def publish(sampan: Command, registry: Registry, repository: str) -> str:
    """Push the image that greets, take it away here, and return its name there."""
    name = f"{registry.address}/{repository}"
    sampan("tag", "made", name, check=True)
    sampan("push", name, check=True)
    sampan("rmi", "-f", "made", name, check=True)
    return name


def mirror(environment: dict[str, str], registry: Registry) -> None:
    """Set the registry as docker.io's mirror."""
    text = f'[registry."docker.io"]\nmirrors = ["http://{registry.address}"]\n'
    Path(environment["SAMPAN_CONFIG"]).write_text(text, encoding="utf-8")


def test_hello_world(
    sampan: Command, environment: dict[str, str], registry: Registry, no_registry: None, hello: str
) -> None:
    """`sampan run hello-world` gets its image from docker.io's mirror and runs it; the second run asks nobody."""
    mirror(environment, registry)
    publish(sampan, registry, "library/hello-world")
    done = sampan("run", "--rm", "hello-world", check=True)
    assert done.stdout == GREETING + "\n"
    assert "image `hello-world` is not here: asking the registry" in done.stderr
    asked = len(registry.asked("hello-world"))
    done = sampan("run", "--rm", "--quiet", "hello-world", check=True)
    assert (done.stdout, done.stderr) == (GREETING + "\n", "")
    assert len(registry.asked("hello-world")) == asked
    shown = sampan("images", "--format", "json", check=True).stdout
    assert json.loads(shown)["Repository"] == "hello-world"


@pytest.mark.usefixtures("no_registry", "hello")
def test_a_base_that_is_not_here_is_fetched(
    sampan: Command, environment: dict[str, str], registry: Registry, place: str
) -> None:
    """`FROM` asks the registry for what is not here, `--pull` for all; where nobody has it, its line is told."""
    mirror(environment, registry)
    publish(sampan, registry, "library/base")
    Path(place, "Dockerfile").write_text("FROM base\nLABEL a=b\n", encoding="utf-8")
    sampan("build", "-t", "made", place, check=True)
    asked = len(registry.asked("library/base"))
    sampan("build", "-t", "made", place, check=True)
    assert len(registry.asked("library/base")) == asked
    sampan("build", "--pull", "-t", "made", place, check=True)
    assert len(registry.asked("library/base")) > asked
    Path(place, "Dockerfile").write_text("FROM python:3.9-slim\n", encoding="utf-8")
    done = sampan("build", place)
    assert done.returncode == 1
    assert "Dockerfile:1" in done.stderr
    assert "`sampan bootstrap python:3.9-slim`" in done.stderr


def test_hello_world_without_a_registry(sampan: Command, no_registry: None) -> None:
    """Where nobody answers there is one error, with docker's status, that says what to do."""
    for words, status in (
        (("run", "hello-world"), 125),
        (("create", "hello-world"), 125),
        (("pull", "hello-world"), 1),
    ):
        done = sampan(*words)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.count("error: ") == 1
        assert "error: the registry `docker.io` cannot be reached for `hello-world:latest`" in done.stderr
        assert 'hint: name a mirror of it: `[registry."docker.io"]` with `mirrors = ["https' in done.stderr
        assert "Traceback" not in done.stderr
    assert sampan("images", "-q", check=True).stdout == ""
    assert sampan("ps", "-aq", check=True).stdout == ""


def test_when_a_run_pulls(sampan: Command, environment: dict[str, str], registry: Registry, hello: str) -> None:
    """`missing` asks once, `never` not at all, `always` each time; `create` does the same; quietly nothing is said."""
    name = publish(sampan, registry, "cli/when")
    assert sampan("create", "--pull", "never", name).returncode == 125
    assert registry.asked("GET", "cli/when") == []
    done = sampan("create", "-q", name, check=True)
    assert len(done.stdout.strip()) == 64
    assert done.stderr == ""
    sampan("rm", done.stdout.strip(), check=True)
    for policy, count in (("missing", 0), ("never", 0), ("always", 1)):
        before = len(registry.asked("GET", "cli/when/manifests"))
        done = sampan("run", "--rm", "--pull", policy, name, check=True)
        assert done.stdout == GREETING + "\n"
        assert len(registry.asked("GET", "cli/when/manifests")) - before == count


def test_pull_says_what_docker_says(sampan: Command, registry: Registry, hello: str) -> None:
    """Digest, status and name on stdout, all else on stderr; with -q the name alone; what is not there is an error."""
    name = publish(sampan, registry, "cli/words")
    first = sampan("pull", name, check=True)
    digest, status, last = first.stdout.splitlines()
    assert digest.startswith("Digest: sha256:")
    assert (status, last) == (f"Status: Downloaded newer image for {name}:latest", f"{name}:latest")
    assert first.stderr.startswith("Using default tag: latest\n")
    assert f"Status: Image is up to date for {name}:latest" in sampan("pull", name, check=True).stdout
    assert sampan("pull", "-q", name, check=True).stdout == f"{name}:latest\n"
    by_digest = f"{name}@{digest.removeprefix('Digest: ')}"
    assert sampan("image", "pull", "-q", by_digest, check=True).stdout == f"{by_digest}\n"
    missing = sampan("pull", f"{name}:2")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"error: `2` of `cli/words` is not in the registry `{registry.address}`" in missing.stderr


def test_push_all_tags(sampan: Command, registry: Registry, hello: str) -> None:
    """Each tag of the repository that is here is pushed; without the flag the one that is named."""
    name = f"{registry.address}/cli/tags"
    for tag in ("a", "b", "c"):
        sampan("tag", "made", f"{name}:{tag}", check=True)
    assert sampan("push", f"{name}:a", check=True).stdout.startswith("a: digest: sha256:")
    lines = sampan("push", "-a", name, check=True).stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["a", "b", "c"]
    done = sampan("push", f"{name}:missing")
    assert done.returncode == 1
    assert "is not here" in done.stderr


def test_a_push_to_nobody(sampan: Command, no_registry: None, hello: str) -> None:
    """A push that leads to docker.io by want of a registry in the name says so, and makes nothing of mirrors."""
    done = sampan("push", "made")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: the registry `docker.io` cannot be reached for `made:latest`" in done.stderr
    assert "hint: a name begins with its registry: `sampan tag made:latest ghcr.io/me/app:latest`" in done.stderr
    assert "mirror" not in done.stderr


def test_a_password(sampan: Command, locked: Registry, docker_config: Path, hello: str) -> None:
    """Without a login nothing goes, with one all does; a wrong one is not kept; after a logout it is over."""
    name = f"{locked.address}/cli/locked"
    sampan("tag", "made", name, check=True)
    denied = sampan("push", name)
    assert denied.returncode == 1
    assert f"`{locked.address}` does not let anybody who is not logged in push" in denied.stderr
    assert f"`sampan login {locked.address}`" in denied.stderr
    wrong = sampan("login", "-u", "me", "--password-stdin", locked.address, feed="falsch\n")
    assert wrong.returncode == 1
    assert "does not accept the user `me` with this password" in wrong.stderr
    assert not docker_config.exists()
    done = sampan("login", "-u", "me", "--password-stdin", locked.address, feed="geheim\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
    assert f"warning: the password is kept unencrypted in `{docker_config}`" in done.stderr
    assert stat.S_IMODE(docker_config.stat().st_mode) == 0o600
    assert json.loads(docker_config.read_text()) == {"auths": {locked.address: {"auth": "bWU6Z2VoZWlt"}}}
    sampan("push", name, check=True)
    sampan("rmi", "-f", "made", name, check=True)
    assert sampan("run", "--rm", "-q", name, check=True).stdout == GREETING + "\n"
    assert sampan("login", locked.address, check=True).stderr == "Authenticating with existing credentials...\n"
    assert sampan("logout", locked.address).stdout == f"Removing login credentials for {locked.address}\n"
    assert sampan("logout", locked.address).stdout == f"Not logged in to {locked.address}\n"
    assert "it is private, or not there" in sampan("pull", name).stderr


def test_a_password_typed_at_a_terminal(environment: dict[str, str], locked: Registry, docker_config: Path) -> None:
    """Asked for, and not shown while it is typed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, ["sampan", "login", locked.address], environment)  # noqa: S606  no shell is wanted
    shown = b""
    for question, answer in ((b"Username: ", b"me\n"), (b"Password: ", b"geheim\n"), (b"Login Succeeded", b"")):
        while question not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, answer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert b"geheim" not in shown
    assert docker_config.exists()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
def test_a_pull_that_is_interrupted(environment: dict[str, str], said: bytes) -> None:
    """Ctrl-C ends a pull at once, whether the registry has said nothing yet or stopped in the middle; nothing stays."""
    waits, release = threading.Event(), threading.Event()

    def stall(handler: Handler) -> None:
        handler.wfile.write(said)
        waits.set()
        release.wait(100)

    with serving() as server:
        config = oci.build_config([Digest.of(b"")], platform=oci.platform_of(os.uname().machine)).raw
        layer = oci.Descriptor(oci.OCI_LAYER, Digest.of(b"x" * 9), 9)
        manifest = oci.build_manifest(oci.Descriptor(oci.OCI_CONFIG, Digest.of(config), len(config)), [layer])
        server.answer("/v2/x/manifests/1", 200, manifest.raw)
        server.answer(f"/v2/x/blobs/{Digest.of(config)}", 200, config)
        server.replies[f"/v2/x/blobs/{layer.digest}"] = stall
        argv = [PROGRAM, "pull", f"{server.address}/x:1"]
        with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as pull:
            assert waits.wait(30)
            pull.send_signal(signal.SIGINT)
            _, stderr = pull.communicate(timeout=25)
        release.set()
    assert (pull.returncode, b"Traceback" in stderr, b"error" in stderr) == (130, False, False)
    with Database(environment["SAMPAN_ROOT"]) as database:
        collect(database)
        check(database)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("login", ("at a terminal, and there is none", "--password-stdin")),
        ("login -u me", ("at a terminal, and there is none",)),
        ("login --password-stdin", ("`--password-stdin` needs a name",)),
        ("login -u me -p x --password-stdin", ("exclude each other",)),
        ("login -u me --password-stdin", ("there is no password on stdin",)),
        ("login -u me --password-stdin ../x", ("`../x` is no registry",)),
        ("login a b", ("takes 0 to 1 arguments",)),
        ("push made@sha256:" + "0" * 64, ("has a digest",)),
        ("pull UPPER", ("`UPPER`",)),
        ("pull --platform a/b/c/d x", ("`--platform` cannot be `a/b/c/d`",)),
        ("push -a nothing", ("no image here is called `nothing`",)),
    ],
)
def test_what_cannot_be_asked_for(sampan: Command, line: str, words: tuple[str, ...]) -> None:
    """One error with the way out, and nothing asked of anybody."""
    done = sampan(*line.split())
    assert done.returncode in {1, 125}
    assert done.stderr.count("error: ") == 1
    for word in words:
        assert word in done.stderr


class Tokens:
    """A giver of tokens that a docker-registry trusts: RS256 with the certificate in the token's header (RFC 7515)."""

    def __init__(self, directory: Path) -> None:
        self.key, self.certificate = directory / "token.key", directory / "token.crt"
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=tokens"]
        subprocess.run([*argv, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        self.given: list[tuple[str | None, list[str]]] = []

    def answer(self, handler: Handler) -> None:
        """Give me what is asked for, and everybody a pull."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        user = handler.headers.get("Authorization")
        self.given.append((user, query.get("scope", [])))
        if user not in {None, "Basic bWU6Z2VoZWlt"}:
            return reply(handler, 401)
        access: list[dict[str, object]] = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            allowed = actions.split(",") if user else ["pull"]
            access.append({"type": kind, "name": name, "actions": allowed})
        return reply(handler, 200, json.dumps({"token": self._token(query["service"][0], access)}).encode())

    def _token(self, service: str, access: list[dict[str, object]]) -> str:
        pem = self.certificate.read_text()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split("-----")[2].split())]}
        claims = {
            "iss": "tokens",
            "sub": "",
            "aud": service,
            "exp": 1 << 32,
            "nbf": 0,
            "iat": 0,
            "jti": "1",
            "access": access,
        }
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        argv = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        signed = subprocess.run(argv, input=text.encode(), check=True, capture_output=True)
        return f"{text}.{_encoded(signed.stdout)}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[tuple[Tokens, str]]:
    """Yield a giver of tokens and its address."""
    tokens = Tokens(tmp_path)

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.answer(self)

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield tokens, f"http://127.0.0.1:{server.server_address[1]}/token"
    server.shutdown()
    server.server_close()
    thread.join()


def test_tokens(sampan: Command, start_registry: Start, tokens: tuple[Tokens, str], hello: str) -> None:
    """A push needs a login, a pull does not; each asks once for what it does, a mount for both repositories."""
    giver, realm = tokens
    registry = start_registry(
        more=f"auth: {{token: {{realm: '{realm}', service: reg, issuer: tokens, rootcertbundle: {giver.certificate}}}}}"
    )
    name = f"{registry.address}/cli/token"
    sampan("tag", "made", name, check=True)
    assert "does not let anybody who is not logged in push" in sampan("push", name).stderr
    wrong = sampan("login", "-u", "me", "--password-stdin", registry.address, feed="falsch")
    assert "does not accept the user `me` with this password" in wrong.stderr
    sampan("login", "-u", "me", "--password-stdin", registry.address, feed="geheim", check=True)
    giver.given.clear()
    sampan("push", name, check=True)
    assert giver.given == [("Basic bWU6Z2VoZWlt", ["repository:cli/token:pull,push"])]
    sampan("tag", "made", f"{name}/second", check=True)
    giver.given.clear()
    sampan("push", f"{name}/second", check=True)
    assert giver.given[0][1] == ["repository:cli/token/second:pull,push", "repository:cli/token:pull"]
    assert len(registry.asked("POST", "mount=")) == 1
    sampan("logout", registry.address, check=True)
    sampan("rmi", "-f", "made", name, f"{name}/second", check=True)
    giver.given.clear()
    assert sampan("run", "--rm", "-q", name, check=True).stdout == GREETING + "\n"
    assert giver.given == [(None, ["repository:cli/token:pull"])]


def test_tls(sampan: Command, environment: dict[str, str], start_registry: Start, tmp_path: Path, hello: str) -> None:
    """The authority in the machine's settings is what counts; without it a mirror is refused; loopback needs none."""
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
    names = ["-addext", "subjectAltName=DNS:registry.test,IP:127.0.0.1"]
    subprocess.run([*argv, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    registry = start_registry(tls=f", tls: {{certificate: {certificate}, key: {key}}}")
    name = publish(sampan, registry, "cli/tls")
    mirrored = f'[registry."away.invalid"]\nmirrors = ["https://{registry.address}"]\n'
    Path(environment["SAMPAN_CONFIG"]).write_text(mirrored, encoding="utf-8")
    refused = sampan("pull", "away.invalid/cli/tls")
    assert refused.returncode == 1
    assert f"warning: the mirror `{registry.address}` is passed over" in refused.stderr
    environment["SSL_CERT_FILE"] = str(certificate)
    sampan("pull", "away.invalid/cli/tls", check=True)
    del environment["SSL_CERT_FILE"]
    sampan("pull", name, check=True)
