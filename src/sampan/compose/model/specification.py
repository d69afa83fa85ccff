"""Every key of the Compose specification, with what Sampan makes of it: the table that `schema` reads texts by. Pure.

A bare check is supported. `later` refuses what is not there yet, `idle` names what has no effect on one machine or
here, `only` has some of the values. A key that stands nowhere in this table is an error that suggests the nearest.
"""

from sampan.compose.model.schema import (
    Check,
    anything,
    boolean,
    duration,
    either,
    idle,
    integer,
    keys,
    later,
    list_of,
    map_of,
    nothing_or,
    number,
    one_of,
    only,
    size,
    string,
    word,
)

_strings = list_of(string)
_pairs = map_of(nothing_or(word))
_command = nothing_or(_strings)


_ULIMITS = map_of(either(integer, keys({"soft": integer, "hard": integer}, required=("soft", "hard"))))
_GRANTS = list_of(
    keys({"source": string, "target": string, "uid": string, "gid": string, "mode": integer}, required=("source",))
)
_HEALTHCHECK = keys(
    {
        "disable": boolean,
        "interval": duration,
        "retries": integer,
        "start_interval": duration,
        "start_period": duration,
        "test": _strings,
        "timeout": duration,
    }
)
_HERE = "name the nodes: `devices: [/dev/dri]`"


def _limits(value: Check) -> Check:
    return list_of(keys({"path": string, "rate": value}, required=("path", "rate")))


_BLKIO = keys(
    {
        "device_read_bps": _limits(size),
        "device_read_iops": _limits(integer),
        "device_write_bps": _limits(size),
        "device_write_iops": _limits(integer),
        "weight": integer,
        "weight_device": list_of(keys({"path": string, "weight": integer}, required=("path", "weight"))),
    }
)
_DEVICES = list_of(keys({"permissions": string, "source": string, "target": string}, required=("source",)))
_BUILD = keys(
    {
        "additional_contexts": later(_pairs),
        "args": _pairs,
        "cache_from": idle(_strings),
        "cache_to": idle(_strings),
        "context": string,
        "dockerfile": string,
        "dockerfile_inline": string,
        "entitlements": later(_strings),
        "extra_hosts": later(map_of(_strings)),
        "isolation": idle(string),
        "labels": _pairs,
        "network": string,
        "no_cache": boolean,
        "platforms": later(_strings),
        "privileged": later(boolean),
        "provenance": idle(anything),
        "pull": boolean,
        "sbom": idle(anything),
        "secrets": later(_GRANTS),
        "shm_size": later(size),
        "ssh": later(_pairs),
        "tags": _strings,
        "target": string,
        "ulimits": later(_ULIMITS),
    },
    required=("context",),
)
_ROLLOUT = keys(
    {
        "parallelism": integer,
        "delay": duration,
        "failure_action": string,
        "monitor": duration,
        "max_failure_ratio": number,
        "order": one_of("start-first", "stop-first"),
    }
)
_DEPLOY = keys(
    {
        "endpoint_mode": idle(string),
        "labels": idle(_pairs),
        "mode": only(string, "replicated", hint="there is `replicated`; a `global` service is for a cluster"),
        "placement": idle(anything),
        "replicas": integer,
        "resources": keys(
            {
                "limits": keys({"cpus": number, "memory": size, "pids": integer}),
                "reservations": keys(
                    {
                        "cpus": idle(number),
                        "devices": only(anything, None, hint=_HERE),
                        "generic_resources": later(anything),
                        "memory": size,
                    }
                ),
            }
        ),
        "restart_policy": keys(
            {
                "condition": one_of("none", "on-failure", "any"),
                "delay": idle(duration),
                "max_attempts": integer,
                "window": idle(duration),
            }
        ),
        "rollback_config": idle(_ROLLOUT),
        "update_config": idle(_ROLLOUT),
    }
)
_DEPENDENCY = keys(
    {
        "condition": one_of("service_started", "service_healthy", "service_completed_successfully"),
        "required": boolean,
        "restart": boolean,
    }
)
_PORT = keys(
    {
        "app_protocol": idle(string),
        "host_ip": string,
        "mode": one_of("ingress", "host"),
        "name": string,
        "protocol": one_of("tcp", "udp"),
        "published": string,
        "target": integer,
    },
    required=("target",),
)
_MOUNT = keys(
    {
        "bind": keys(
            {
                "create_host_path": boolean,
                "propagation": string,
                "recursive": string,
                "selinux": idle(one_of("z", "Z")),
            }
        ),
        "consistency": idle(string),
        "image": later(anything),
        "read_only": boolean,
        "source": string,
        "target": string,
        "tmpfs": keys({"size": size, "mode": integer}),
        "type": only(string, "bind", "volume", "tmpfs", hint="types: `bind`, `volume`, `tmpfs`"),
        "volume": keys({"labels": _pairs, "nocopy": boolean, "subpath": string}),
    },
    required=("type", "target"),
)
_CONNECTION = nothing_or(
    keys(
        {
            "aliases": _strings,
            "driver_opts": later(anything),
            "gw_priority": idle(number),
            "interface_name": later(string),
            "ipv4_address": string,
            "ipv6_address": later(string),
            "link_local_ips": later(_strings),
            "mac_address": string,
            "priority": idle(number),
        }
    )
)
_HOOKS = list_of(
    keys(
        {
            "command": _command,
            "environment": anything,
            "privileged": boolean,
            "user": string,
            "working_dir": string,
        }
    )
)
_SERVICE = keys(
    {
        "annotations": _pairs,
        "attach": boolean,
        "blkio_config": _BLKIO,
        "build": _BUILD,
        "cap_add": _strings,
        "cap_drop": _strings,
        "cgroup": one_of("host", "private"),
        "cgroup_parent": string,
        "command": _command,
        "configs": _GRANTS,
        "container_name": string,
        "cpu_count": idle(integer),
        "cpu_percent": idle(number),
        "cpu_period": integer,
        "cpu_quota": integer,
        "cpu_rt_period": word,
        "cpu_rt_runtime": word,
        "cpu_shares": integer,
        "cpus": number,
        "cpuset": string,
        "credential_spec": later(anything),
        "depends_on": map_of(_DEPENDENCY),
        "deploy": _DEPLOY,
        "develop": idle(anything),
        "device_cgroup_rules": _strings,
        "devices": _DEVICES,
        "dns": _strings,
        "dns_opt": later(_strings),
        "dns_search": _strings,
        "domainname": string,
        "entrypoint": _command,
        "env_file": list_of(keys({"path": string, "required": boolean, "format": one_of("raw")}, required=("path",))),
        "environment": _pairs,
        "expose": list_of(string),
        "external_links": _strings,
        "extra_hosts": map_of(_strings),
        "gpus": only(anything, None, hint=_HERE),
        "group_add": _strings,
        "healthcheck": _HEALTHCHECK,
        "hostname": string,
        "image": string,
        "init": boolean,
        "ipc": string,
        "isolation": only(string, "", "default", hint="Linux has `default`"),
        "label_file": _strings,
        "labels": _pairs,
        "links": _strings,
        "logging": keys(
            {
                "driver": only(string, "json-file", "local", "none", hint="there are `json-file`, `local` and `none`"),
                "options": _pairs,
            }
        ),
        "mac_address": string,
        "mem_limit": size,
        "mem_reservation": size,
        "mem_swappiness": integer,
        "memswap_limit": size,
        "models": later(anything),
        "network_mode": string,
        "networks": map_of(_CONNECTION),
        "oom_kill_disable": boolean,
        "oom_score_adj": integer,
        "pid": nothing_or(string),
        "pids_limit": integer,
        "platform": string,
        "ports": list_of(_PORT),
        "post_start": later(_HOOKS),
        "pre_stop": later(_HOOKS),
        "privileged": boolean,
        "profiles": _strings,
        "provider": later(anything),
        "pull_policy": string,
        "pull_refresh_after": idle(string),
        "read_only": boolean,
        "restart": string,
        "runtime": string,
        "scale": integer,
        "secrets": _GRANTS,
        "security_opt": _strings,
        "shm_size": size,
        "stdin_open": boolean,
        "stop_grace_period": duration,
        "stop_signal": string,
        "storage_opt": only(anything, None, hint="`read_only: true` with a sized tmpfs bounds what is written"),
        "sysctls": _pairs,
        "tmpfs": _strings,
        "tty": boolean,
        "ulimits": _ULIMITS,
        "use_api_socket": only(boolean, False, hint="there is no daemon, and so no socket of one"),
        "user": string,
        "userns_mode": only(string, "", "host", hint="`host` switches the user namespace off"),
        "uts": string,
        "volumes": list_of(_MOUNT),
        "volumes_from": _strings,
        "working_dir": string,
    }
)
_NETWORK = nothing_or(
    keys(
        {
            "attachable": boolean,
            "driver": only(string, "bridge", "default", "", hint="there is `bridge`"),
            "driver_opts": _pairs,
            "enable_ipv4": only(boolean, True, hint="take it out"),
            "enable_ipv6": later(boolean),
            "external": boolean,
            "internal": boolean,
            "ipam": keys(
                {
                    "config": list_of(
                        keys(
                            {
                                "aux_addresses": _pairs,
                                "gateway": string,
                                "ip_range": string,
                                "subnet": string,
                            }
                        )
                    ),
                    "driver": only(string, "default", hint="there is `default`"),
                    "options": later(anything),
                }
            ),
            "labels": _pairs,
            "name": string,
        }
    )
)
_VOLUME = nothing_or(
    keys(
        {
            "driver": only(string, "local", "default", "", hint="there is `local`"),
            "driver_opts": _pairs,
            "external": boolean,
            "labels": _pairs,
            "name": string,
        }
    )
)
_FILE = {
    "environment": string,
    "external": later(boolean),
    "file": string,
    "labels": idle(_pairs),
    "name": string,
    "template_driver": later(string),
}
PROJECT = keys(
    {
        "configs": map_of(keys({**_FILE, "content": string})),
        "models": later(anything),
        "name": string,
        "networks": map_of(_NETWORK),
        "secrets": map_of(keys({**_FILE, "driver": later(string), "driver_opts": later(anything)})),
        "services": map_of(_SERVICE),
        "version": word,
        "volumes": map_of(_VOLUME),
    }
)
