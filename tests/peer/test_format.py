"""Go's templates as docker fills them: the same `--format` on both engines prints the same, or fails on both."""

import re
from collections.abc import Iterator

import pytest

from tests.peer.conftest import at_once
from tests.plugin.ground import Command

pytestmark = [pytest.mark.peer, pytest.mark.root, pytest.mark.userns, pytest.mark.overlay, pytest.mark.netns]

# What is asked of one container's inspect document, which is the same on both as far as these look.
ASKED = r"""
{{.Name}} {{.Config.Image}}
{{json .Config.Cmd}} {{json .Config.Labels}} {{json .Name}} {{json nil}}
{{json "a<b>&\"é\u2028"}} {{json 3}} {{json 1.5}} {{json true}}
{{join .Config.Cmd "|"}} {{join .Config.Cmd ""}}
{{split "a,b,,c" ","}} {{index (split "a,b" ",") 1}} {{len (split "" ",")}} {{split "abc" ""}}
{{lower "ÀBC"}} {{upper "àbc"}} {{title "hello world o'neill x-y"}} {{title "éa"}}
{{pad "x" 2 3}}| {{pad "" 1 1}}| {{pad "é" 0 2}}|
{{truncate "hello" 3}} {{truncate "hi" 9}} {{truncate "" 3}} {{truncate "hello" 0}}
{{len .Config.Cmd}} {{len "héllo"}} {{len .Config.Labels}}
{{index .Config.Cmd 1}} {{index .Config.Labels "a.b"}} {{index .Config.Labels "none"}}
{{index .Config.Cmd 9}}
{{slice "hello" 1 3}} {{slice .Config.Cmd 1}} {{slice "hello"}}
{{range .Config.Cmd}}[{{.}}]{{end}}
{{range $i, $w := .Config.Cmd}}{{$i}}={{$w}};{{end}}
{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{else}}none{{end}}
{{range .HostConfig.Binds}}x{{else}}no binds{{end}}
{{range $i, $w := .Config.Cmd}}{{if eq $i 1}}{{continue}}{{end}}{{if gt $i 1}}{{break}}{{end}}{{$w}}{{end}}
{{range 3}}{{.}}{{end}}
{{with .Config.Labels}}{{.}}{{end}} {{with .HostConfig.Binds}}b{{else}}none{{end}}
{{with .HostConfig.Binds}}b{{else with .Name}}{{.}}{{end}}
{{if .State.Running}}up{{else if .State.Paused}}paused{{else}}down{{end}}
{{if and .Name .Config.Image}}both{{end}} {{or .HostConfig.Binds "none"}} {{not .State.Running}}
{{and 1 0 2}} {{or 0 "" 7}}
{{eq .Config.Image "busybox" "x"}} {{eq 1 2 1}} {{ne "a" "b"}} {{lt 1 2}} {{le 2 2}} {{gt 1.5 1.0}} {{ge "b" "a"}}
{{eq 1 "1"}}
{{eq .Config.Cmd .Config.Cmd}}
{{lt "a" 1}}
{{printf "%s|%10s|%-10s|%q|%v|%x|%X" "go" "go" "go" "g\"o" "go" "go" "go"}}
{{printf "%d|%5d|%-5d|%05d|%+d|%x|%o|%b|%c|%U|%q" 42 42 42 42 42 42 42 5 65 8364 65}}
{{printf "%f|%.2f|%8.3f|%e|%g|%v" 3.14159 3.14159 3.14159 3.14159 3.14159 3.0}}
{{printf "%t|%v|%v|%v" true nil .Config.Cmd .Config.Labels}}
{{printf "%d" "x"}} {{printf "%s" 3}} {{printf "%d"}} {{printf "x" 1}} {{printf "%z" 1}} {{printf "%%"}}
{{printf "%#v %#v %T %T" "a" 1 "a" 1}}
{{printf "%5t|%6.2f|%+v|%-4v|" true 2.5 1 2}}
{{printf "%*d" 5 42}} {{printf "%[2]s %[1]s" "a" "b"}}
{{print 1 2 "a" "b" 3 nil}} {{println "a" 1}}x
{{println .Name}}
{{html "<a href='x'>&\"</a>"}} {{js "it's \"<x>\"\n"}} {{urlquery "a b&c=d/é"}}
{{.Config.Labels}} {{.Config.Cmd}} {{.State.Running}} {{.HostConfig.Binds}} {{.RestartCount}}
{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy}}
{{title "it's"}} {{js "a=b&\n\t"}} {{html "a" 1 2}} {{printf "%6.2[1]f|%[3]s|%[2]*[1]d" 3.14159 "a"}}
{{printf "%*d|%-*d|%.*f" 5 42 6 43 2 3.14159}} {{printf "%*d" "x" 1}} {{printf "%[2]*[1]d|%[1]v" 42 5}}
{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}{{if true}}{{$x = 3}}{{$y := 4}}{{$y}}{{end}}{{$x}}
{{define "t"}}<{{.}}>{{end}}{{template "t" .Name}}{{template "t" "x"}}
{{block "b" .Name}}[{{.}}]{{end}}
a {{- "b" -}} c {{/* comment */}} d {{- /* another */ -}} e
{{"quoted"}} {{`raw\n`}} {{'a'}} {{0x1F}} {{1_000}} {{1e3}} {{0b101}} {{0o17}} {{1.5}} {{-3}} {{true}}
{{"a\tb\x41\u00e9\101"}}
{{.Name | printf "%s-%s" "x"}} {{"abc" | upper | lower | len}} {{.Config.Cmd | json}}
{{(index .Config.Cmd 0) | upper}} {{(len .Name) | printf "%d"}}
{{ .Config.Cmd | len | printf "%03d" }}
{{$.Name}} {{range .Config.Cmd}}{{$.Config.Image}}{{end}}
{{.State.Nothing}}
{{.Nothing}}
{{.Config.Labels.none}}
{{.Name.Nothing}}
{{nofunction 1}}
{{.Name
{{end}}
{{if}}x{{end}}
{{range .Name}}x{{end}}
{{len 3}}
{{index .Config.Cmd "x"}}
{{template "none"}}
{{join "abc" ","}}
{{join .Config.Cmd}}
{{pad "x" "1" 2}}
{{lower 3}}
{{title}}
{{truncate "x" -1}}
{{call .Name}}
{{.Config.Cmd.Foo}}
{{nil}}
{{index nil 1}}
{{break}}
{{$undefined}}
{{"unterminated}}
{{1 2}}
{{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Timeout}} {{.Config.Healthcheck.Test}} {{json .Config.Env}}
{{json .Config.ExposedPorts}} {{json .HostConfig.PortBindings}}
{{json .HostConfig.RestartPolicy}} {{json .HostConfig.LogConfig.Type}}
{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{(index $conf 0).HostPort}};{{end}}
{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}
{{with index .NetworkSettings.Ports "80/tcp"}}{{(index . 0).HostIp}}{{end}}
{{range .NetworkSettings.Networks}}{{len .IPAddress | lt 3}}{{end}}
{{range $name, $net := .NetworkSettings.Networks}}{{$name}}{{end}}
""".strip().split("\n")  # fmt: skip
# Of listings: the command, and what is asked of its rows.
LISTED = [
    (("ps", "-a"), "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Ports}}"),
    (("ps", "-a"), "{{.Networks}}|{{.LocalVolumes}}|{{.Mounts}}"),
    (("ps", "-a"), '{{.Label "a.b"}}|{{.Label "none"}}|{{.Labels}}'),
    (("ps", "-a"), "{{json .Names}} {{upper .Image}} {{len .ID}} {{truncate .ID 3 | len}}"),
    (("ps", "-a", "--no-trunc"), "{{len .ID}} {{.Command}}"),
    (("ps", "-a"), "table {{.Names}}\t{{.State}}\t{{.Ports}}"),
    (("ps", "-a"), "table {{.Names}} {{.State | upper}}\\t{{.Image}}x"),
    (("ps", "-a"), "{{.Nothing}}"),
    (("ps", "-a"), "{{range .Names}}x{{end}}"),
    (("ps", "-a"), "{{.Names}}\\n--"),
    (("ps", "-a"), "{{println .Names}}"),
    (("ps", "-a"), "{{with .Ports}}{{.}}{{else}}none{{end}}{{if eq .State `running`}} up{{end}}"),
    (("images", "busybox"), "{{.Repository}}:{{.Tag}} {{len .ID}} {{.Containers}}"),
    (("images", "busybox"), "table {{.Repository}}\t{{.Tag}}"),
    (("images", "busybox"), "{{.Nothing}}"),
    (("volume", "ls", "-f", "name=peer-hold"), "{{.Name}}|{{.Driver}}|{{.Scope}}|{{.Labels}}|{{.Links}}|{{.Size}}"),
    (("volume", "ls", "-f", "name=peer-hold"), "table {{.Name}}\t{{.Driver}}"),
    (("volume", "ls", "-f", "name=peer-hold"), '{{.Label "k"}}'),
    (("network", "ls", "-f", "name=peer-lake"), "{{.Name}}|{{.Driver}}|{{.Scope}}|{{.IPv6}}|{{.Internal}}|{{.Labels}}"),
    (("network", "ls", "-f", "name=peer-lake"), "table {{.Name}}\t{{.Driver}}\t{{.Scope}}"),
    (("volume", "inspect", "peer-hold"), "{{.Name}} {{.Driver}} {{.Labels.k}} {{.Scope}} {{json .Options}}"),
    (("network", "inspect", "peer-lake"), "{{.Name}} {{.Driver}} {{.Internal}} {{json .Labels}}"),
    (("network", "inspect", "peer-lake"), "{{range .IPAM.Config}}{{len .Subnet | lt 5}}{{end}}"),
    (("image", "inspect", "busybox"), "{{json .Config.Cmd}} {{.Os}} {{len .RootFS.Layers}} {{.RepoTags}}"),
    (("stats", "--no-stream", "--no-trunc", "peer"), "{{.Name}} {{.Container}}"),
    (("stats", "--no-stream", "peer"), "table {{.Name}}\t{{.PIDs}}"),
    (("version",), "{{.Client.Os}} {{.Server.Os}}"),
    (("info",), "{{.OSType}} {{.NCPU}} {{json .LoggingDriver}}"),
    (("system", "df"), "table {{.Type}}"),
]  # fmt: skip


@pytest.fixture(scope="module")
def boats(pair: dict[str, Command]) -> Iterator[dict[str, Command]]:
    """Yield both engines, each with a container, a volume and a network of the same names."""

    def make(_: str, engine: Command) -> None:
        for words in (
            ("network", "create", "--label", "k=v", "peer-lake"),
            ("volume", "create", "--label", "k=v", "peer-hold"),
            (
                "run", "-d", "--name", "peer", "--network", "peer-lake", "-l", "a.b=c", "-l", "z=y",
                "--health-cmd", "true", "--health-interval", "1m30s",
                "-p", "127.0.0.1::80", "-v", "peer-hold:/h", "busybox", "sleep", "1000", "and", "more",
            ),
        ):  # fmt: skip
            done = engine(*words)
            assert done.returncode == 0, done.stderr

    def unmake(_: str, engine: Command) -> None:
        engine("rm", "-f", "peer")
        engine("volume", "rm", "peer-hold")
        engine("network", "rm", "peer-lake")

    at_once(pair, unmake)
    at_once(pair, make)
    yield pair
    at_once(pair, unmake)


def _told(engine: Command, *words: str) -> tuple[bool, str]:
    done = engine(*words)
    return done.returncode == 0, done.stdout if done.returncode == 0 else ""


@pytest.mark.parametrize("template", ASKED)
def test_inspect(boats: dict[str, Command], template: str) -> None:
    """One document, one template: the same text, or an error on both."""
    answers = at_once(boats, lambda _, engine: _told(engine, "inspect", "-f", template, "peer"))
    assert answers["sampan"] == answers["docker"]


@pytest.mark.parametrize(("words", "template"), LISTED, ids=[f"{' '.join(words)} {text}" for words, text in LISTED])
def test_listings(boats: dict[str, Command], words: tuple[str, ...], template: str) -> None:
    """The same for what is shown row by row; the port's number is each engine's own."""
    only = ("-f", "name=peer") if words[0] == "ps" else ()
    answers = at_once(boats, lambda _, engine: _told(engine, *words, *only, "--format", template))
    port = re.compile(r"127\.0\.0\.1:\d+")
    told = {name: (is_ok, port.sub("127.0.0.1:PORT", text)) for name, (is_ok, text) in answers.items()}
    assert told["sampan"] == told["docker"]
