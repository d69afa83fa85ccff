"""Compose: a project of services from one file (the Compose specification), on the engine.

Rooms: `model` (pure: text to a checked project), and above it what touches the machine: `files` (which files, which
environment), `wish` (a service as RunOptions), `sight` (what of the project is there), `crew` (work in parallel),
`reconcile` (up), `teardown` (stop, down), `readiness` (depends_on's conditions), `follow` (logs of many). May import
every floor below; never the cli.
"""
