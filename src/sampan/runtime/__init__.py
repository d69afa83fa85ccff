"""Containers from a runtime-spec value: namespaces, id maps, root, cgroup, devices, then execve. runtime-spec v1.2.

Rooms: `namespaces`, `recipe`, `rootfs`, `idmap`, `filesystem`, `target`, `device`, `channel`, `cgroup`; `process` is
the parent's side, `init` the child's; `interpreter` keeps our own program out of reach; `bundle` and `foreign` hand the
same value to runc. Everything is hot. May import floors 1 to 3.
"""
