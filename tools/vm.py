#!/usr/bin/env python3
"""Debian machines as most people have them, in software emulation: `./dev vm SUITE COMMAND`.

SUITE is bookworm (kernel 6.1, Python 3.11) or trixie (6.12, 3.13): systemd, cgroup v2 alone, AppArmor. Their `-bare`
forms hold what a fresh install holds: no venv, pip, compiler, git, uidmap or passt. A suite is made once, as root, in
about a minute, and kept; each run boots a throw-away copy in about 20 s, mounts a directory of the host at /share, runs
COMMAND in bash there as root or, with --user, as the normal user `dev` in a systemd user session, prints what it prints
and ends as it did.

Theory of operation: the host hands two directories over 9p: /share, and one for the job, which holds the command, the
host's CA bundle, pip's and apt's settings, and takes the output (which the host follows while it grows) and the exit
status. A oneshot unit in the guest runs the job and powers the machine off.

Emulated code runs 10 to 20 times slower: right for "does it work there", never for timings. 9p is no place for an
overlay's upper directory or an idmapped mount: work in the guest's own file system.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

SUITES = ("bookworm", "trixie", "bookworm-bare", "trixie-bare")
CACHE = os.environ.get("SAMPAN_VM") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sampan-vm"
)
# What a fresh Debian install has and a container's root has not; `passwd` holds useradd, which nothing else pulls in.
FRESH = (
    "linux-image-amd64,systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,udev,passwd,login,python3,iproute2,"
    "ca-certificates,procps,kmod,sudo,e2fsprogs"
)
WORKPLACE = ",python3-venv,python3-pip,iptables,uidmap,curl,git,make,gcc,passt,fuse3"
DISK_SIZE = "12G"
POLL_SECONDS = 0.3

JOB_UNIT = """\
[Unit]
After=multi-user.target network-online.target
Wants=network-online.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/usr/local/sbin/job
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=multi-user.target
"""

# The guest's side. `su` goes through pam_systemd, so the user's command is in a login session as a person's would be.
JOB_SCRIPT = """\
#!/bin/bash
mkdir -p /share /run/job
modprobe 9pnet_virtio
udevadm settle
# The device may appear after the module that drives it.
bring() {
  for _ in $(seq 50); do
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576 $1 $2 && return
    sleep 0.2
  done
}
bring job /run/job
bring share /share
exec >/run/job/out 2>&1
cp /run/job/ca.crt /etc/ssl/certs/ca-certificates.crt
cp /run/job/pip.conf /etc/pip.conf
cp /run/job/apt.conf /etc/apt/apt.conf.d/90host
cd /share
if [ -e /run/job/as-user ]; then
  loginctl enable-linger dev
  while [ ! -S /run/user/1000/bus ]; do sleep 0.2; done
  export XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus
  su dev -s /bin/bash -c "bash /run/job/job"
else
  bash /run/job/job
fi
echo $? >/run/job/rc
sync
"""

FILES = {
    "etc/systemd/system/job.service": JOB_UNIT,
    "usr/local/sbin/job": JOB_SCRIPT,
    "etc/systemd/network/20-any.network": "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
    "etc/resolv.conf": "nameserver 10.0.2.3\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 vm\n",
    "etc/sudoers.d/dev": "dev ALL=(ALL) NOPASSWD: ALL\n",
}


class Unmade(Exception):
    """A machine could not be made or did not answer; its text says why."""


def _output(*argv: str) -> str:
    """Return what a program prints."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def apt_sources(suite: str) -> list[str]:
    """Return sources.list lines for `suite` at the mirrors that this machine's own apt uses."""
    form = "$(IDENTIFIER) $(REPO_URI) $(RELEASE)"
    text = _output("apt-get", "indextargets", "--format", form)
    rows = [line.split() for line in text.splitlines() if line.startswith("Packages ")]
    main = [uri for _, uri, release in rows if re.fullmatch(r"[a-z]+", release)]
    security = [uri for _, uri, release in rows if release.endswith("-security")]
    if not main:
        raise Unmade("apt on this machine knows no Debian mirror")
    lines = [f"deb {main[0]} {suite} main", f"deb {main[0]} {suite}-updates main"]
    return lines + [f"deb {uri} {suite}-security main" for uri in security[:1]]


def apt_settings() -> str:
    """Return the lines of this machine's apt configuration that say how its mirrors are reached and judged."""
    text = _output("apt-config", "dump")
    wanted = re.compile(r"Acquire::(https?::|Check-|Max-ValidTime|Min-ValidTime|Retries|AllowInsecure)")
    return "".join(f"{line}\n" for line in text.splitlines() if wanted.match(line) and not line.endswith('"";'))


def pip_settings() -> str:
    """Return a pip.conf with this machine's index, without what names its own files; empty settings are fine."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(pip, check=False, capture_output=True, text=True)
    keys = re.compile(r"(?:global|:env:|user|site)\.(index-url|extra-index-url|trusted-host)='(.*)'")
    found = {match[1]: match[2] for match in map(keys.match, listing.stdout.splitlines()) if match}
    lines = [f"{key} = {value}\n" for key, value in found.items() if "file://" not in value]
    return "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n" + "".join(lines)


def recipe(suite: str) -> str:
    """Return what a suite's image is made from, as one digest: a changed recipe makes it anew."""
    text = repr((FRESH, WORKPLACE, FILES, DISK_SIZE, "-bare" in suite, apt_sources(suite.removesuffix("-bare"))))
    return hashlib.sha256(text.encode()).hexdigest()


def make(suite: str) -> str:
    """Make the image of `suite` unless it stands, and return its directory; two at once wait for each other."""
    directory = os.path.join(CACHE, suite)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = os.path.join(directory, "recipe")
        wanted = recipe(suite)
        if _read(stamp) != wanted:
            if os.geteuid() != 0:
                raise Unmade(f"making {suite} needs root")
            print(f"vm: making {suite}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="sampan-vm-") as root:
                _unpack(suite, root)
                _pack(root, directory)
            with open(stamp, "w", encoding="ascii") as file:
                file.write(wanted)
    return directory


def _read(path: str) -> str:
    """Return the text at `path`, nothing where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _unpack(suite: str, root: str) -> None:
    """Make the root file system of `suite` in `root`."""
    release = suite.removesuffix("-bare")
    packages = FRESH + ("" if suite.endswith("-bare") else WORKPLACE)
    tar = os.path.join(root, "root.tar")
    # mmdebstrap's own checks want a working qemu-user and a passwd entry for apt; neither matters here.
    subprocess.run(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--skip=check/qemu", f"--include={packages}",
         *_apt_options(), release, tar, "-"],
        input="\n".join(apt_sources(release)) + "\n", check=True, text=True, stdout=sys.stderr,
    )  # fmt: skip
    subprocess.run(["tar", "-C", root, "-xf", tar], check=True)
    os.unlink(tar)
    # SECURITY: nothing here is private, but a guest's /etc/resolv.conf may be a link out of the root.
    for name, text in FILES.items():
        path = os.path.join(root, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    os.chmod(os.path.join(root, "usr/local/sbin/job"), 0o755)  # noqa: S103  # a program
    wants = os.path.join(root, "etc/systemd/system/multi-user.target.wants")
    os.makedirs(wants, exist_ok=True)
    os.symlink("../job.service", os.path.join(wants, "job.service"))
    if not os.path.lexists(os.path.join(wants, "systemd-networkd.service")):
        os.symlink("/lib/systemd/system/systemd-networkd.service", os.path.join(wants, "systemd-networkd.service"))
    _add_user(root)


def _apt_options() -> list[str]:
    """Return the host's apt settings as mmdebstrap's options, so that its mirrors are judged as here."""
    return [f"--aptopt={line.rstrip(';')}" for line in apt_settings().splitlines()]


def _add_user(root: str) -> None:
    """Give the machine its normal user, with the subordinate ids that Debian's adduser gives."""
    subprocess.run(["chroot", root, "useradd", "-m", "-s", "/bin/bash", "dev"], check=True)
    for name in ("subuid", "subgid"):
        with open(os.path.join(root, "etc", name), "a+", encoding="ascii") as file:
            file.seek(0)
            if "dev:" not in file.read():
                file.write("dev:100000:65536\n")


def _pack(root: str, directory: str) -> None:
    """Put the root file system, kernel and initrd into `directory`."""
    for name, pattern in (("vmlinuz", "vmlinuz-"), ("initrd", "initrd.img-")):
        found = sorted(entry for entry in os.listdir(os.path.join(root, "boot")) if entry.startswith(pattern))
        shutil.copyfile(os.path.join(root, "boot", found[-1]), os.path.join(directory, name))
    raw = os.path.join(directory, "raw")
    subprocess.run(["truncate", "-s", DISK_SIZE, raw], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, raw], check=True, stdout=sys.stderr)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, os.path.join(directory, "disk")], check=True)
    os.unlink(raw)


@contextmanager
def _job(command: str, *, as_user: bool) -> Iterator[str]:
    """Yield the directory that carries a job into the guest and its answer back."""
    with tempfile.TemporaryDirectory(prefix="sampan-job-") as job:
        os.chmod(job, 0o755)  # noqa: S103  # the guest's normal user reads it
        files = {"job": command + "\n", "pip.conf": pip_settings(), "apt.conf": apt_settings()}
        for name, text in files.items():
            with open(os.path.join(job, name), "w", encoding="utf-8") as file:
                file.write(text)
        shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", os.path.join(job, "ca.crt"))
        if as_user:
            open(os.path.join(job, "as-user"), "w", encoding="ascii").close()
        yield job


def run(
    suite: str, command: str, *, share: str, as_user: bool, may_reboot: bool, memory_mb: int, timeout_seconds: float
) -> int:
    """Run `command` in a fresh `suite`, `share` at /share; print its output as it comes, return its exit status.

    A guest that reboots ends; one that `may_reboot` comes up again with the disk that it had.
    """
    directory = make(suite)
    with _job(command, as_user=as_user) as job:
        argv = [*_qemu(directory, job, share, memory_mb), *(() if may_reboot else ("-no-reboot",))]
        console = os.path.join(job, "console")
        with (
            open(console, "wb") as log,
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT) as machine,
        ):
            try:
                _follow(machine, os.path.join(job, "out"), time.monotonic() + timeout_seconds)
            finally:
                machine.kill()
        answer = _read(os.path.join(job, "rc")).strip()
        if answer.isdigit():
            return int(answer)
        with open(console, "rb") as file:
            tail = file.read()[-3000:].decode(errors="replace")
        print(f"vm: {suite} ended without an answer; its console:\n{tail}", file=sys.stderr)
        return 125


def _qemu(directory: str, job: str, share: str, memory_mb: int) -> list[str]:
    """Return the command of the machine: a snapshot of its disk, user-mode network, two shared directories."""
    return [
        # The machine goes with us, however we go.
        "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi",
        "-cpu", "max", "-smp", "2",
        "-m", str(memory_mb), "-device", "virtio-rng-pci", "-nographic",
        "-kernel", f"{directory}/vmlinuz", "-initrd", f"{directory}/initrd",
        "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0",
        "-drive", f"file={directory}/disk,if=virtio,snapshot=on",
        "-virtfs", f"local,path={job},mount_tag=job,security_model=none",
        "-virtfs", f"local,path={share},mount_tag=share,security_model=none,multidevs=remap",
        "-netdev", "user,id=n", "-device", "virtio-net,netdev=n,romfile=",
    ]  # fmt: skip


def _follow(machine: "subprocess.Popen[bytes]", path: str, deadline: float) -> None:
    """Copy what appears in the file at `path` to standard output until the machine ends or the deadline has passed."""
    seen = 0
    while True:
        ended = machine.poll() is not None
        if os.path.exists(path):
            with open(path, "rb") as file:
                file.seek(seen)
                new = file.read()
            seen += len(new)
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()
        if ended:
            return
        if time.monotonic() > deadline:
            print("vm: out of time", file=sys.stderr)
            return
        time.sleep(POLL_SECONDS)


def main() -> int:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(prog="./dev vm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-u", "--user", action="store_true", help="run as the normal user dev")
    parser.add_argument("-r", "--reboot", action="store_true", help="let the machine reboot; it runs COMMAND again")
    parser.add_argument("-m", "--memory", type=int, default=3072, metavar="MB")
    parser.add_argument("-t", "--timeout", type=float, default=900, metavar="SECONDS", help="the machine's whole life")
    parser.add_argument("-s", "--share", default=os.getcwd(), metavar="DIRECTORY", help="what is mounted at /share")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="a shell command; without one the suite is only made")
    options = parser.parse_args()
    try:
        if not options.command:
            make(options.suite)
            return 0
        return run(
            options.suite, " ".join(options.command), share=os.path.realpath(options.share), as_user=options.user,
            may_reboot=options.reboot, memory_mb=options.memory, timeout_seconds=options.timeout,
        )  # fmt: skip
    except (Unmade, subprocess.CalledProcessError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
