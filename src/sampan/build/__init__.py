"""Building images: front-ends lower a project to a graph of vertices, the solver makes or finds each layer.

`dockerfile` (text -> stages -> graph), `python` (project -> plan -> graph) and `debian` (signed packages -> base layer)
are front-ends and executors; `graph`, `solver` and `cache` know none of them. `builder` is the front door. May import
storage, runtime, network, image and the floors below.
"""
