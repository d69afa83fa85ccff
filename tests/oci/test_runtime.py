"""config.json as typed values: what is printed is read back."""

import pytest

from sampan.oci.runtime import Device, IdMapping, Mount, Process, Resources, Spec

pytestmark = [pytest.mark.first]


def _whole() -> Spec:
    return Spec(
        Process(
            ("python", "-V"),
            env=("A=b",),
            cwd="/app",
            uid=65532,
            gid=65532,
            additional_gids=(5,),
            umask=0o027,
            capabilities=("CAP_CHOWN",),
            rlimits=(("RLIMIT_NOFILE", 1024, 4096),),
            no_new_privileges=True,
            oom_score_adj=-5,
            terminal=True,
        ),
        root_path="/r",
        readonly_root=True,
        hostname="h",
        mounts=(Mount("/proc", "proc", "proc", ("nosuid",)),),
        namespaces={"user": "", "network": "/proc/1/ns/net"},
        uid_mappings=(IdMapping(0, 1 << 30, 65536),),
        gid_mappings=(IdMapping(0, 1 << 30, 65536),),
        devices=(Device("/dev/fuse", "c", 10, 229, mode=0o660, gid=5),),
        cgroups_path="sampan/x",
        resources=Resources(
            memory_bytes=1 << 28, memory_swap_bytes=-1, cpu_quota_us=50_000, cpu_period_us=100_000, cpu_shares=2, pids=9
        ),
        seccomp={"defaultAction": "SCMP_ACT_ERRNO"},
        masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
        sysctl={"net.ipv4.ip_forward": "1"},
        annotations={"a": "b"},
    )


def test_a_spec_is_read_back_whole() -> None:
    """parse(spec.document()) prints the same document, with every field that Sampan sets in it."""
    document = _whole().document()
    assert Spec.parse(document).document() == document
    assert document["linux"]["resources"] == {
        "memory": {"limit": 1 << 28, "swap": -1},
        "cpu": {"shares": 2, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 9},
    }


def test_what_was_not_asked_for_is_not_printed() -> None:
    """No limit, no seccomp key, no path of a namespace to make."""
    document = Spec(Process(("true",)), namespaces={"pid": ""}).document()
    assert document["linux"]["resources"] == {}
    assert document["linux"]["namespaces"] == [{"type": "pid"}]
    assert "seccomp" not in document["linux"]
    assert "oomScoreAdj" not in document["process"]
    assert Resources().is_empty()
    assert not Resources(pids=1).is_empty()
