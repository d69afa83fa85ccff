"""Python projects: what stands in a directory (detect), what becomes of it (plan), its wheels (resolve, wheel).

`syntax`, `requirement`, `version`, `detect`, `plan`, `dockerfile` and `lower` are pure. A project is read, never
imported: building an image must not run code of the project on the host.
"""
