"""The Compose specification, pure: texts in, a checked `Project` out; no file is opened here, and nothing is run.

In order: `source` (YAML to nodes that know their line), `interpolate` (variables), `canonical` (short forms to long),
`extend` and `merge` (several texts to one), `schema` (what may stand where, to plain values), `project` (the result),
`order` (who waits for whom), `emit` (the result as YAML or JSON).
"""
