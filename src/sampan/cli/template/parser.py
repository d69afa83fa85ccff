"""Tokens to nodes: the grammar of text/template/parse. What it refuses, Go refuses before anything is printed."""

from sampan.cli.flags import suggest
from sampan.cli.template import fault, function, lexer
from sampan.cli.template.lexer import Token
from sampan.cli.template.node import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Function,
    Leave,
    Node,
    Operand,
    Pipe,
    Template,
    Text,
    Variable,
)

NESTING_AT_MOST = 64
_WORDS = {"true": True, "false": False, "nil": None}


def parse(text: str, *, escapes: bool = False) -> Template:
    """Read a template; raises Malformed. `escapes` as in the lexer."""
    return _Parser(text, lexer.tokens(text, escapes=escapes)).template()


class _Parser:
    """Where reading is: the tokens, how deep in blocks, parentheses and ranges, and the variables in scope."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.index = 0
        self.depth = 0
        self.ranges = 0
        self.variables = ["$"]
        self.defined: dict[str, tuple[Node, ...]] = {}

    def template(self) -> Template:
        body, ending = self._nodes()
        if ending is not None:
            raise self._wrong(ending, f"`{{{{{ending.value}}}}}` closes nothing", "take it out")
        return Template(self.text, body, self.defined)

    def _nodes(self) -> tuple[tuple[Node, ...], Token | None]:
        """Read up to `else` or `end`, whose token is returned, or to the end of the text."""
        nodes: list[Node] = []
        while self.index < len(self.tokens):
            token = self._next()
            if token.kind == lexer.TEXT:
                nodes.append(Text(str(token.value)))
                continue
            word = self._peek()
            if word.kind == lexer.NAME and word.value in {"else", "end"}:
                self.index += 1
                return tuple(nodes), word
            node = self._action(word)
            if node is not None:
                nodes.append(node)
        return tuple(nodes), None

    def _action(self, word: Token) -> Node | None:
        """Read one action from its first word on, up to its `}}` (a block's: up to its `{{end}}`)."""
        if word.kind != lexer.NAME or word.value not in lexer.KEYWORDS or word.value in _WORDS:
            pipe = self._pipe(lexer.END, "a command")
            return Action(pipe)
        self.index += 1
        match word.value:
            case "if" | "with" | "range":
                return self._branch(word)
            case "break" | "continue":
                if not self.ranges:
                    raise self._wrong(word, f"`{{{{{word.value}}}}}` stands outside of `{{{{range}}}}`")
                self._close(word)
                return Leave(str(word.value), word.at)
            case "template":
                name = self._name(word)
                given = None if self._peek().kind == lexer.END else self._pipe(lexer.END, "`template`")
                if given is None:
                    self._close(word)
                return Call(name, given, word.at)
            case _:
                return self._define(word)

    def _branch(self, word: Token) -> Branch:
        mark = len(self.variables)
        self._enter(word)
        pipe = self._pipe(lexer.END, f"`{word.value}`")
        if len(pipe.declared) > 1 and word.value != "range":
            raise self._wrong(word, f"`{word.value}` takes one variable")
        self.ranges += word.value == "range"
        body, ending = self._nodes()
        self.ranges -= word.value == "range"
        otherwise: tuple[Node, ...] = ()
        if ending is not None and ending.value == "else":
            after = self._peek()
            if after.kind == lexer.NAME and after.value in {"if", "with"} and word.value != "range":
                # `{{else if}}` is a block inside of the `else` that shares its `{{end}}`.
                self.index += 1
                otherwise, ending = (self._branch(after),), Token(lexer.NAME, "end", after.at)
            else:
                self._close(ending)
                otherwise, ending = self._nodes()
                self._finish(word, ending)
        else:
            self._finish(word, ending)
        self.depth -= 1
        del self.variables[mark:]
        return Branch(str(word.value), pipe, body, otherwise)

    def _define(self, word: Token) -> Call | None:
        """Read `define`, or `block`, which calls what it defines."""
        if word.value == "define" and self.depth:
            raise self._wrong(word, "`define` stands inside of a block")
        self._enter(word)
        name = self._name(word)
        pipe = self._pipe(lexer.END, "`block`") if word.value == "block" else None
        if pipe is None:
            self._close(word)
        outer, self.variables = self.variables, ["$"]
        ranges, self.ranges = self.ranges, 0
        body, ending = self._nodes()
        self._finish(word, ending)
        self.variables, self.ranges = outer, ranges
        self.depth -= 1
        self.defined[name] = body
        return Call(name, pipe, word.at) if pipe else None

    def _finish(self, word: Token, ending: Token | None) -> None:
        """Take the `}}` of a block's `{{end}}`."""
        if ending is None:
            raise self._wrong(word, f"`{word.value}` has no `{{{{end}}}}`", "write `{{end}}` where it ends")
        if ending.value != "end":
            raise self._wrong(ending, "there is an `{{else}}` too many")
        self._close(ending)

    def _pipe(self, ending: str, where: str) -> Pipe:
        """Read a pipeline and what ends it: `}}` or `)`."""
        begin = self._peek()
        declared, assigns = self._declaration()
        commands: list[Command] = []
        while True:
            token = self._peek()
            is_end = token.kind == ending or (token.kind == lexer.SIGN and token.value == ending)
            if is_end or (token.kind == lexer.SIGN and token.value == "|"):
                raise self._wrong(token, f"{where} has no value" if not commands else "nothing stands after `|`")
            commands.append(self._command())
            token = self._next()
            if token.kind == ending or (token.kind == lexer.SIGN and token.value == ending):
                break
            if token.kind != lexer.SIGN or token.value != "|":
                raise self._wrong(token, f"`{token.value}` stands where it has no meaning")
        for command in commands[1:]:
            if isinstance(command.operands[0], Constant | Dot):
                raise fault.malformed(self.text, command.at, "what stands after `|` is not a function")
        if not assigns:
            self.variables += declared
        return Pipe(declared, assigns, tuple(commands), begin.at)

    def _declaration(self) -> tuple[tuple[str, ...], bool]:
        """Read `$x :=`, `$x =` or `$i, $e :=`, if that is how a pipeline begins."""
        begin, names = self.index, []
        while self._peek().kind == lexer.VARIABLE:
            names.append(self._next())
            sign = self._next()
            if sign.kind == lexer.SIGN and sign.value in {":=", "="}:
                if sign.value == "=":
                    for name in names:
                        self._known(name)
                return tuple(str(name.value) for name in names), sign.value == "="
            if sign.kind != lexer.SIGN or sign.value != "," or len(names) > 1:
                break
        self.index = begin
        return (), False

    def _command(self) -> Command:
        operands: list[Operand] = []
        begin = self._peek()
        while (operand := self._operand()) is not None:
            operands.append(operand)
            token = self._peek(space=True)
            if token.kind == lexer.END or (token.kind == lexer.SIGN and token.value in {"|", ")"}):
                break
            if token.kind != lexer.SPACE:
                raise self._wrong(token, f"a space is missing before `{token.value}`")
        if not operands:
            raise self._wrong(begin, f"`{begin.value}` stands where it has no meaning")
        return Command(tuple(operands), begin.at)

    def _operand(self) -> Operand | None:
        token = self._peek()
        operand: Operand
        match token.kind:
            case lexer.NUMBER | lexer.STRING:
                operand = Constant(token.value, token.at)
            case lexer.DOT:
                operand = Dot(token.at)
            case lexer.FIELD:
                return Field(self._fields(), token.at)
            case lexer.VARIABLE:
                self._known(token)
                self._next()
                return Variable(str(token.value), self._fields(), token.at)
            case lexer.NAME if token.value in _WORDS:
                operand = Constant(_WORDS[str(token.value)], token.at)
            case lexer.NAME:
                operand = self._function(token)
            case lexer.SIGN if token.value == "(":
                self._next()
                self._enter(token)
                pipe = self._pipe(")", "`( )`")
                self.depth -= 1
                names = self._fields()
                return Chain(pipe, names, token.at) if names else pipe
            case _:
                return None
        self._next()
        if self._peek(space=True).kind == lexer.FIELD:
            raise self._wrong(self._peek(), f"`{token.value}` has no fields")
        return operand

    def _fields(self) -> tuple[str, ...]:
        """Read `.A.B`, as long as no space comes between."""
        names: list[str] = []
        while self._peek(space=bool(names) or self._is_after_operand()).kind == lexer.FIELD:
            names.append(str(self._next().value))
        return tuple(names)

    def _is_after_operand(self) -> bool:
        before = self.tokens[self.index - 1]
        return before.kind == lexer.VARIABLE or (before.kind == lexer.SIGN and before.value == ")")

    def _function(self, token: Token) -> Function:
        name = str(token.value)
        if name not in function.FUNCTIONS and name not in function.LAZY:
            known = [*function.FUNCTIONS, *function.LAZY]
            near = suggest(name, known)
            what = f"there is no function `{name[:40]}`"
            hints = (f"did you mean `{near}`?",) if near else (f"a field begins with a dot: `.{name[:40]}`",)
            raise self._wrong(token, what, *hints)
        return Function(name, token.at)

    def _known(self, token: Token) -> None:
        if token.value not in self.variables:
            raise self._wrong(
                token, f"there is no variable `{token.value}`", f"give it a value first: `{token.value} := …`"
            )

    def _name(self, word: Token) -> str:
        token = self._next()
        if token.kind != lexer.STRING:
            raise self._wrong(token, f"`{word.value}` needs a name in quotes")
        return str(token.value)

    def _enter(self, token: Token) -> None:
        self.depth += 1
        if self.depth > NESTING_AT_MOST:
            raise self._wrong(token, f"the template is nested more than {NESTING_AT_MOST} deep")

    def _close(self, word: Token) -> None:
        token = self._next()
        if token.kind != lexer.END:
            raise self._wrong(token, f"`{word.value}` takes nothing")

    def _next(self) -> Token:
        token = self._peek()
        self.index += 1
        return token

    def _peek(self, *, space: bool = False) -> Token:
        """Return the next token without taking it; spaces are passed over unless `space`."""
        if not space:
            while self.index < len(self.tokens) and self.tokens[self.index].kind == lexer.SPACE:
                self.index += 1
        return self.tokens[self.index]

    def _wrong(self, token: Token, what: str, *hints: str) -> fault.Malformed:
        return fault.malformed(self.text, token.at, what, *hints)
