"""`--format`'s templates: what Go's text/template and docker's formatter print, and what is said of mistakes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from sampan.cli.template import document, evaluator, parser, table
from sampan.cli.template.fault import Malformed, TemplateError, UnknownField
from sampan.cli.template.value import Struct
from sampan.errors import Exhausted, SampanError

if TYPE_CHECKING:
    import subprocess

pytestmark = [pytest.mark.first]

Command = Callable[..., "subprocess.CompletedProcess[str]"]

# An inspect document, with the traps of one: null, an empty map, ports that are only exposed, a label with dots.
DOCUMENT = {
    "Id": "4f2a",
    "Name": "/web",
    "Count": 3,
    "Ratio": 2.0,
    "Half": 0.5,
    "Running": True,
    "Empty": "",
    "Script": 'say "hé"\n',
    "Args": ["-c", "true"],
    "Numbers": [1, 2, 3],
    "ExecIDs": None,
    "State": {"Status": "running", "Pid": 7},
    "Mounts": [{"Type": "bind", "Source": "/a"}, {"Type": "volume", "Source": "/b"}],
    "HostConfig": {"PidsLimit": None, "Binds": None, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"b": "2", "a.b": "1"}, "Volumes": None},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None},
        "Networks": {"front": {"IPAddress": "10.0.0.2"}, "back": {"IPAddress": "10.1.0.2"}},
    },
}


def fill(text: str) -> str:
    """Fill a template with the document."""
    return evaluator.execute(parser.parse(text), document.struct(DOCUMENT))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        # Text, trim markers, comments.
        ("", ""),
        ("plain } text", "plain } text"),
        ("a {{- .Id -}} b", "a4f2ab"),
        ("a {{.Id}} b", "a 4f2a b"),
        ("a\n\t{{- `x`}}", "ax"),
        ("{{-3}}", "-3"),
        ("a {{/* no {{ }} */}} b", "a  b"),
        ("a {{- /* no */ -}} b", "ab"),
        ("{{`{{`}}", "{{"),
        ("{{\n.Id\n}}", "4f2a"),
        # Values as fmt prints them.
        ("{{.Count}} {{.Ratio}} {{.Half}} {{.Running}}", "3 2 0.5 true"),
        ("{{.Args}}", "[-c true]"),
        ("{{.Config.Labels}}", "map[a.b:1 b:2]"),
        ("{{.HostConfig.RestartPolicy}}", "{no 0}"),
        ("{{.NetworkSettings.Ports}}", "map[443/tcp:<nil> 80/tcp:[{0.0.0.0 8080}]]"),
        ("{{.HostConfig.PidsLimit}} {{.ExecIDs}} {{.Config.Volumes}}", "<nil> [] map[]"),
        ("{{.State.Health}}", "<nil>"),
        ("{{.Config.Entrypoint}}", "[]"),
        ("{{.Config.Labels.nope}}", "<no value>"),
        ("{{.Config.Labels.nope.deeper}}", "<no value>"),
        ("{{.Config.Labels.b}}", "2"),
        # Constants.
        ('{{"a\\tb"}}{{`\\t`}}', "a\tb\\t"),
        ('{{"\\x41\\u00e9\\101"}}', "AéA"),
        ("{{'a'}} {{0x1F}} {{1_000}} {{017}} {{0b11}}", "97 31 1000 15 3"),
        ("{{1.5}} {{1e3}} {{.5}} {{-2}} {{1e21}}", "1.5 1000 0.5 -2 1e+21"),
        ("{{true}} {{false}}", "true false"),
        # Dot, $, variables, scopes.
        ("{{with .State}}{{.Status}} {{$.Id}}{{end}}", "running 4f2a"),
        ("{{$x := .State}}{{$x.Status}}", "running"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{with $x := .Id}}{{$x}}{{.}}{{end}}", "4f2a4f2a"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ("{{(.State).Status}}", "running"),
        # Pipelines.
        ('{{.Name | printf "%s-%s" "x"}}', "x-/web"),
        ("{{.Args | len | printf `%03d`}}", "002"),
        ("{{printf `%d` (len .Args)}}", "2"),
        ("{{.Config.Env | json}}", '["A=1","B=2"]'),
        # if, with, range.
        ("{{if .Empty}}a{{else}}b{{end}}", "b"),
        ("{{if .Empty}}a{{else if .Running}}b{{else}}c{{end}}", "b"),
        ("{{if not .Running}}a{{end}}", ""),
        ("{{if .State}}struct{{end}}{{if .Config.Volumes}}map{{end}}", "struct"),
        ("{{with .Empty}}a{{else}}b{{end}}", "b"),
        ("{{with .Empty}}a{{else with .Id}}{{.}}{{end}}", "4f2a"),
        ("{{range .Args}}<{{.}}>{{end}}", "<-c><true>"),
        ("{{range $e := .Args}}{{$e}},{{end}}", "-c,true,"),
        ("{{range $i, $e := .Args}}{{if $i}}, {{end}}{{$i}}={{$e}}{{end}}", "0=-c, 1=true"),
        (
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}",
            "back=10.1.0.2 front=10.0.0.2 ",
        ),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.1.0.210.0.0.2"),
        ("{{range .ExecIDs}}x{{else}}none{{end}}", "none"),
        ("{{range .Numbers}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}", "13"),
        ("{{range .Numbers}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}", "1"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{if $c}}{{$p}} -> {{(index $c 0).HostPort}}{{end}}{{end}}",
            "80/tcp -> 8080",
        ),
        # define, template, block.
        ('{{define "x"}}<{{.}}>{{end}}{{template "x" .Id}}', "<4f2a>"),
        ('{{block "x" .Id}}[{{.}}]{{end}}', "[4f2a]"),
        # and, or, not, comparisons.
        ("{{and .Id .Empty}}|{{and .Id .Count}}|{{or .Empty .Id}}|{{or .Empty 0}}", "|3|4f2a|0"),
        ("{{or true (index .Args 9)}}", "true"),
        ("{{eq .Count 3}} {{eq .Id `a` `4f2a`}} {{ne .Count 3}}", "true true false"),
        ("{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge `b` `a`}}", "true true false true"),
        ("{{eq .HostConfig.PidsLimit nil}}", "true"),
        # index, slice, len.
        ("{{index .Args 0}} {{index .Config.Labels `a.b`}}|{{index .Config.Labels `x`}}|", "-c 1||"),
        ("{{index .NetworkSettings.Ports `80/tcp` 0}}", "{0.0.0.0 8080}"),
        ("{{(index (index .NetworkSettings.Ports `80/tcp`) 0).HostPort}}", "8080"),
        ("{{slice .Id 1 3}} {{slice .Id 2}} {{slice .Args 1}}", "f2 2a [true]"),
        ("{{len .Id}} {{len `é`}} {{len .Args}} {{len .Config.Labels}} {{len .ExecIDs}}", "4 2 2 2 0"),
        # print and its kin.
        ("{{print 1 2 `a` `b` 3}}|{{println 1 `a`}}|{{print}}", "1 2ab3|1 a\n||"[:-1]),
        ("{{printf `%s|%5s|%-5s|%.2s` .Id `ab` `ab` `abc`}}", "4f2a|   ab|ab   |ab"),
        ("{{printf `%d|%5d|%-5d|%05d|%+d` 7 7 7 -7 7}}", "7|    7|7    |-0007|+7"),
        ("{{printf `%q %v %t %x %X` .Script .Count true 255 `hi`}}", '"say \\"hé\\"\\n" 3 true ff 6869'),
        ("{{printf `%.2f|%8.3f|%e|%g` 1.5 1.5 1.5 1.5}}", "1.50|   1.500|1.500000e+00|1.5"),
        (
            "{{printf `%q` .Args}} {{printf `%v` .State}} {{printf `%%`}} {{printf `%c%U` 65 65}}",
            '["-c" "true"] {running 7} % AU+0041',
        ),
        ("{{printf `%d` .Id}} {{printf `%s` 1}}", "%!d(string=4f2a) %!s(int=1)"),
        ("{{printf `%s %s` .Id}} {{printf `%s` .Id .Id}}", "4f2a %!s(MISSING) 4f2a%!(EXTRA string=4f2a)"),
        ("{{printf `%T` .Id}} {{printf `%`}}", "string %!(NOVERB)"),
        # docker's own.
        ("{{json .State}}", '{"Status":"running","Pid":7}'),
        ("{{json .Config.Labels}} {{json .ExecIDs}} {{json .Config.Volumes}}", '{"a.b":"1","b":"2"} null null'),
        ("{{json .Script}} {{json `<&>`}}", '"say \\"hé\\"\\n" "<&>"'),
        ("{{json .Ratio}} {{json .Config.Labels.nope}}", "2 null"),
        ("{{join .Args `, `}} {{split `a/b` `/`}} {{join (split `a/b` `/`) `-`}}", "-c, true [a b] a-b"),
        ("{{html `<a href='x'>&`}} {{html 1 2}}", "&lt;a href=&#39;x&#39;&gt;&amp; 1 2"),
        ("{{js `a=b\n'<`}} {{urlquery `a b&c/é`}}", r"a\u003Db\u000A\'\u003C a+b%26c%2F%C3%A9"),
        ('{{printf "%*d|%-*d|%.*f" 5 42 6 43 2 3.14159}}', "   42|43    |3.14"),
        ('{{printf "%[2]s %[1]s" "a" "b"}} {{printf "%[2]*[1]d" 42 5}}', "b a    42"),
        ('{{printf "%[3]s" "a"}} {{printf "%*d" "x" 1}}', "%!s(BADINDEX) %!(BADWIDTH)1"),
        ('{{printf "%#v %#v" "a" 1}} {{json "\u2028"}}', r'"a" 1 "\u2028"'),
        ("{{lower `AbC`}} {{upper `AbC`}} {{title `hello wörld it's`}}", "abc ABC Hello Wörld It'S"),
        ("[{{pad `a` 1 2}}] [{{pad `` 1 2}}] {{truncate .Id 2}} {{truncate `ab` 9}}", "[ a  ] [] 4f ab"),
    ],
)
def test_what_is_printed(text: str, printed: str) -> None:
    """Templates print what Go and docker print."""
    assert fill(text) == printed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{", "`{{` is never closed, at column 1"),
        ("ab {{.Id", "`{{` is never closed, at column 4"),
        ("{{.Id}", "`}` has no meaning"),
        ("{{}}", "a command has no value"),
        ('{{"a}}', "is never closed"),
        ("{{`a}}", "is never closed"),
        ("{{/* a }}", "a comment is never closed"),
        ("{{/* a */ .Id}}", "a comment is not alone"),
        ("{{if .Id}}", "`if` has no `{{end}}`"),
        ("{{end}}", "closes nothing"),
        ("{{else}}", "closes nothing"),
        ("{{if .Id}}{{else}}{{else}}{{end}}", "an `{{else}}` too many"),
        ("{{if}}{{end}}", "`if` has no value"),
        ("{{.Id |}}", "nothing stands after `|`"),
        ("{{.Id | 3}}", "what stands after `|` is not a function"),
        ("{{$x}}", "there is no variable `$x`"),
        ("{{if $x := 1}}{{end}}{{$x}}", "there is no variable `$x`"),
        ("{{$x = 1}}", "there is no variable `$x`"),
        ("{{nope .Id}}", "there is no function `nope`"),
        ("{{htlm .Id}}", "there is no function `htlm`"),
        ("{{break}}", "stands outside of `{{range}}`"),
        ("{{(.Id}}", "stands where it has no meaning"),
        ("{{.Id)}}", "stands where it has no meaning"),
        ("{{3x}}", "a space is missing"),
        ("{{.Id`x`}}", "a space is missing"),
        ("{{9999999999999999999}}", "does not fit 64 bits"),
        ('{{"\\q"}}', "is not an escape"),
        ("{{'ab'}}", "is not one character"),
        ("{{" + "(" * 100 + ".Id" + ")" * 100 + "}}", "nested more than 64 deep"),
        ("{{if .}}" * 100 + "{{end}}" * 100, "nested more than 64 deep"),
        ("x" * 70_000, "longer than 64 KiB"),
    ],
)
def test_what_cannot_be_read(text: str, words: str) -> None:
    """A template that Go refuses is refused before anything is printed, with the place."""
    with pytest.raises(Malformed) as caught:
        parser.parse(text)
    assert words in caught.value.what
    assert caught.value.at is not None


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("{{.State.Staus}}", "there is no field `.Staus`, at column 3", "did you mean `.Status`?"),
        ("a\n {{.id}}", "there is no field `.id`, at column 4", "did you mean `.Id`?"),
        ("{{.Id.Name}}", "a string has no field `.Name`", ""),
        ("{{.Mounts.Source}}", "a list has no field `.Source`", "`{{range .}} {{end}}`"),
        ("{{.State.Health.Status}}", "what should have the field `.Status` is nil", "{{with"),
        ("{{.Id 3}}", "`.Id` is not a function", ""),
        ("{{3 .Id}}", "what is not a function takes no arguments", ""),
        ("{{nil}}", "`nil` alone", ""),
        ("{{index .Args 9}}", "the index 9 is out of range", ""),
        ("{{index .Count 1}}", "an int cannot be indexed", ""),
        ("{{slice .Id 3 1}}", "out of range", ""),
        ("{{len .Count}}", "an int has no length", ""),
        ("{{range .Id}}{{end}}", "`range` cannot go over a string", ""),
        ("{{eq .Id 3}}", "string and int cannot be compared", ""),
        ("{{lt .Id 3}}", "string and int have no order", ""),
        ("{{eq .Id}}", "`eq` takes at least 2 argument(s), not 1", ""),
        ("{{lower}}", "`lower` takes 1 argument(s), not 0", ""),
        ("{{lower .Count}}", "a string is wanted, not an int", ""),
        ("{{join .Id `,`}}", "`join` takes a list of strings", ""),
        ('{{template "x"}}', "there is no template `x`", ""),
    ],
)
def test_what_does_not_fit(text: str, words: str, hint: str) -> None:
    """What a template asks for in vain is one error with column and way out."""
    with pytest.raises(TemplateError) as caught:
        fill(text)
    assert words in caught.value.what
    assert hint in "\n".join(caught.value.hints)


@pytest.mark.parametrize(
    "text",
    [
        '{{define "x"}}{{template "x" .}}{{end}}{{template "x" .}}',
        "{{range 1000}}{{range 1000}}{{range 1000}}{{end}}{{end}}{{end}}",
        "{{range 9999999999}}{{end}}",
        "{{range 100000}}{{printf `%10000d` 1}}{{end}}",
        '{{$x := "aaaaaaaaaaaaaaaa"}}{{range 64}}{{$x = print $x $x}}{{end}}',
    ],
)
def test_bounds(text: str) -> None:
    """A template that would go on for ever, or print for ever, is stopped."""
    with pytest.raises(Exhausted):
        fill(text)


def test_widths_have_a_bound() -> None:
    """No function makes a small template's values huge at once."""
    for text in ("{{printf `%99999999d` 1}}", "{{pad `a` 99999999 1}}"):
        with pytest.raises(SampanError):
            fill(text)


def test_a_document_that_is_too_deep() -> None:
    """An image's config may be nested as its maker likes: that is an error, no overflow."""
    deep: dict[str, object] = {}
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(Exhausted):
        document.struct(deep)


def test_halves_of_surrogates() -> None:
    """What JSON may hold and UTF-8 may not does not break functions on bytes."""
    assert (
        evaluator.execute(parser.parse("{{len .Id}} {{printf `%x` .Id}}"), document.struct({"Id": "\ud800"}))
        == "3 efbfbd"
    )


def test_escapes_of_listings() -> None:
    r"""In a listing's text `\t` and `\n` are a tab and a new line; inspect prints them as they are."""
    assert evaluator.execute(parser.parse(r"a\tb\n{{`\t`}}", escapes=True), None) == "a\tb\n\\t"
    assert fill(r"a\t") == r"a\t"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (r"{{.ID}}\t{{.Names}}", "CONTAINER ID\tNAMES"),
        (
            "{{upper .ID}} {{json .Names}} {{truncate .ID 3}} {{pad .ID 1 1}}",
            "CONTAINER ID NAMES CONTAINER ID  CONTAINER ID ",
        ),
        ('{{.Label "com.example.my-part_one"}}', "my part one"),
        ("{{.ID}} {{index .Names 99}} {{.ID}}", "CONTAINER ID "),
    ],
)
def test_headers(text: str, line: str) -> None:
    """A table's first line has the names of columns, whatever is done to their values."""
    assert table.header(parser.parse(text, escapes=True), {"ID": "CONTAINER ID", "Names": "NAMES"}) == line


def test_a_header_that_is_not_there() -> None:
    """A field that no row has is a mistake even where there are no rows."""
    with pytest.raises(UnknownField):
        table.header(parser.parse("{{.Nope}}"), {"ID": "CONTAINER ID"})


def test_columns() -> None:
    """Columns are ten wide or more, three apart; what follows the last tab is none."""
    assert table.aligned(["TAG\tID\tLAST", "a-long-tag-name\tx\ty", "b"]) == (
        "TAG               ID        LAST\na-long-tag-name   x         y\nb"
    )


def test_methods() -> None:
    """A row's method takes its argument from the template or the pipeline."""
    row = Struct({"Label": "no"}, methods={"Label": {"a": "1"}.__getitem__})
    assert evaluator.execute(parser.parse("{{.Label `a`}}{{`a` | .Label}}"), row) == "11"
    with pytest.raises(TemplateError):
        evaluator.execute(parser.parse("{{.Label}}"), row)


@pytest.mark.root
@pytest.mark.userns
@pytest.mark.overlay
def test_commands(sampan: Command, busybox_tar: str) -> None:
    """The commands fill templates with docker's fields, and their statuses are docker's."""
    sampan("import", busybox_tar, "busybox:1", check=True)
    made = sampan(
        "create", "--name", "web", "-l", "a.b-c=1", "-m", "64m", "-v", "data:/d", "busybox:1", "sleep", "9", check=True
    )
    id = made.stdout.strip()

    def told(*words: str) -> tuple[int, str]:
        done = sampan(*words)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    row = r'{{.ID}}\t{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Mounts}} {{.Label "a.b-c"}}{{.Label "x"}}'
    assert told("ps", "-a", "--format", row) == (0, f'{id[:12]}\tweb busybox:1 "sleep 9" created data 1\n')
    lines = told("ps", "-a", "--format", r"table {{.Names}}\t{{.Status}}")[1].splitlines()
    assert lines == ["NAMES     STATUS", "web       Created"]
    assert told("ps", "--format", "{{.Names}}") == (0, "")
    assert told("ps", "--format", r"table {{.Names}}\t{{.ID}}") == (0, "NAMES     CONTAINER ID\n")
    assert told("ps", "-aq", "--format", "{{.Names}}") == (0, f"{id[:12]}\n")
    assert told("images", "--format", "{{.Repository}}:{{.Tag}} {{.Containers}}") == (0, "busybox:1 1\n")
    assert told("images", "-q", "--format", "{{.Repository}}") == (0, "busybox\n")
    assert told("network", "ls", "--format", "{{.Name}}/{{.Driver}}") == (0, "bridge/bridge\nhost/host\nnone/null\n")
    assert told("network", "inspect", "-f", "{{.Name}} {{len .Containers}}", "none") == (0, "none 0\n")
    assert told("inspect", "-f", "{{.HostConfig.Memory}} {{.State.OOMKilled}}", "web") == (0, "67108864 false\n")
    assert told("inspect", "-f", "{{.Os}}{{.Config.Labels.x}}", "busybox:1") == (0, "linux<no value>\n")
    assert told("inspect", "-f", "{{.Name}}", "web", "nothing-here") == (1, "/web\n")
    assert told("inspect", "-f", "{{.Nmae}}", "web") == (1, "")
    assert told("inspect", "-f", "{{", "web") == (64, "")
    assert told("ps", "--format", "{{") == (1, "")
    sampan("volume", "create", "--label", "k=v", "notes", check=True)
    told_of_volume = told(
        "volume", "ls", "--filter", "name=notes", "--format", '{{.Name}} {{.Driver}} {{.Label "k"}} {{.Links}}'
    )
    assert told_of_volume == (0, "notes local v N/A\n")
    assert told("volume", "inspect", "-f", "{{.Labels.k}}", "notes") == (0, "v\n")
    assert told("version", "-f", "{{eq .Version .Server.Version}} {{.Client.Os}}") == (0, "true linux\n")


@pytest.mark.parametrize(
    ("nanoseconds", "spelled"),
    [
        (0, "0s"), (1, "1ns"), (1500, "1.5µs"), (500_000_000, "500ms"), (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"), (90_000_000_000, "1m30s"), (3_600_000_000_000, "1h0m0s"),
        (9_910_500_000_000, "2h45m10.5s"), (-1_000_000, "-1ms"),
    ],
)  # fmt: skip
def test_durations(nanoseconds: int, spelled: str) -> None:
    """A health check's times print as Go prints them, and are numbers in JSON; one that was not said is 0s."""
    config = {"Config": {"Healthcheck": {"Interval": nanoseconds, "Test": ["CMD", "x"]}}}
    template = parser.parse("{{with .Config.Healthcheck}}{{.Interval}} {{.Timeout}} {{json .Interval}}{{end}}")
    assert evaluator.execute(template, document.struct(config)) == f"{spelled} 0s {nanoseconds}"
