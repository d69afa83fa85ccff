"""What docker gives every container by itself, as data: capabilities, mounts, masked and read-only paths. Hot path.

Sources: moby's oci/caps/defaults.go and oci/defaults.go, runtime-spec config-linux.md.
"""

from sampan.oci.runtime import Mount

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = tuple(
    "CAP_" + name
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
        "AUDIT_WRITE"
    ).split()
)
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SHM_BYTES = 64 * 1024 * 1024
STRICT = ("nosuid", "noexec", "nodev")


def mounts(*, write: str = "ro", shm_bytes: int = SHM_BYTES, is_sys_bound: bool = False) -> list[Mount]:
    """Return the default mounts; `write` is the access to /sys, which is the machine's own with `is_sys_bound`."""
    sysfs = Mount("/sys", "sysfs", "sysfs", (*STRICT, write))
    if is_sys_bound:
        sysfs = Mount("/sys", "bind", "/sys", ("rbind", *STRICT, write))
    return [
        Mount("/proc", "proc", "proc", STRICT),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(
            "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
        ),
        sysfs,
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*STRICT, write)),
        Mount("/dev/mqueue", "mqueue", "mqueue", STRICT),
        Mount("/dev/shm", "tmpfs", "shm", (*STRICT, "mode=1777", f"size={shm_bytes}")),  # noqa: S108 - in the container
    ]
