# What a process finds in its container, a line or more for each heading; run by both engines with the same flags.
say() { echo "== $1"; }
say capabilities; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/1/status
say ids; grep -E '^(Uid|Gid|Groups)' /proc/self/status; id
say umask; umask
say limits; sed 's/  */ /g' /proc/self/limits
say environment; env | sort
say place; pwd; hostname | wc -c
say mounts; while read -r _ _ _ root target options rest; do
  kind=${rest#*- }; echo "$target ${kind%% *} $options"
done < /proc/self/mountinfo
say devices; cd /dev && for name in *; do [ -d "$name" ] || stat -c '%n %F %a %u:%g %t:%T' "$name"; done; cd / || exit 9
for name in /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx /dev/core; do echo "$name $(readlink $name)"; done
stat -c '%n %a %u:%g' /dev /dev/pts /dev/shm /dev/mqueue /proc /sys / /tmp
say hosts; sed -E 's/[0-9a-f]{12}$/ID/; s/^(172|10|192)\.[0-9.]+/ADDRESS/' /etc/hosts
say resolv; grep -vE '^#' /etc/resolv.conf
stat -c '%n %a %u:%g' /etc/hosts /etc/resolv.conf /etc/hostname
say sysctls; for name in net/ipv4/ip_forward net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start kernel/shmmax \
  kernel/msgmax kernel/domainname kernel/hostname fs/mqueue/msg_max net/ipv4/ip_local_port_range \
  net/ipv6/conf/all/disable_ipv6 net/ipv6/conf/lo/disable_ipv6; do
  case $name in kernel/hostname) echo "$name $(cat /proc/sys/$name | wc -c)" ;; *) echo "$name $(cat /proc/sys/$name)" ;; esac
done
say masked; for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug \
  /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware; do
  if [ -d $path ]; then echo "$path directory of $(ls -A $path | wc -l)"
  elif [ -e $path ]; then echo "$path file of $(head -c 8 $path | wc -c)"
  else echo "$path absent"; fi
done
say written; for path in /proc/bus /proc/fs /proc/irq /proc/sys /sys /sys/fs/cgroup / /dev /run /tmp; do
  (: > $path/leak) 2>/dev/null && echo "$path" && rm -f $path/leak
done
say cgroup; cut -d: -f2,3 /proc/self/cgroup | sort
for file in memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.memsw.limit_in_bytes \
  cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max \
  memory.max memory.low memory.swap.max cpu.max cpu.weight pids.max; do
  [ ! -e /sys/fs/cgroup/$file ] || echo "$file $(cat /sys/fs/cgroup/$file)"
done
ls /sys/fs/cgroup
say network; ls /sys/class/net; cat /sys/class/net/*/mtu; ip route 2>/dev/null | sed -E 's/[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+(\/[0-9]+)?/ADDRESS/g'
say processes; for pid in /proc/[0-9]*; do tr '\0' ' ' < $pid/cmdline | cut -c1-20; done 2>/dev/null | head -n 3
say scores; cat /proc/1/oom_score_adj
say descriptors; ls /proc/self/fd | wc -l; ls -l /proc/1/fd | wc -l
say namespaces; ls /proc/self/ns
