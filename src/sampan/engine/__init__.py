"""Containers: what docker's words about them mean, from `run` to `rm`. runtime-spec v1.2 is the border to the runtime.

Rooms: `run_options` (what a person asked for), `specification` (that, and an image, as a runtime-spec `Spec`),
`container` (create, start, stop, remove, list, inspect), `launch` (the seam at which a monitor begins), `monitor` (one
process for each running container), `state` (the files that a monitor writes and commands read), `sweep` (what a dead
monitor left), `attach`, `exec`, `logs`, `volume`, `user`, `copy` (files in and out, by a `visit` in the root). May
import every floor below; never the build room.
"""
