"""Go's text/template with docker's functions, for `--format`: text in, text out. Pure.

lexer (text -> tokens), parser (tokens -> nodes), evaluator (nodes and a value -> text), function and verb (what
templates call), value (what Go prints), document (docker's documents as values), table. The template is the person's
own, what it is filled with comes from images and containers: size, nesting, steps and output have bounds. Loaded only
where a template was given.
"""
