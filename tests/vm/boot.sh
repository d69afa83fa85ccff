#!/bin/bash
# Containers beyond one boot, as root or as the normal user dev, who lingers: `boot.sh before SAMPAN` has systemd look
# after some, and reboots this machine; the job that systemd starts comes here again with `boot.sh after`. SAMPAN is an
# installed program whose store has an image `busybox`. Prints one line a check, and fails if any failed.
set -u -o pipefail
started=$SECONDS
state=/var/tmp/boot
unit=/etc/systemd/system/sampan.service
manager=(systemctl)
if [ "$(id -u)" != 0 ]; then
  unit=~/.config/systemd/user/sampan.service
  manager=(systemctl --user)
fi

. "$(dirname "$0")/check.sh"
failures=${FAILURES:-0}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

status() { "$sampan" inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$1"; }

# is NAME STATUS CODE
is() {
  [ "$(status "$1")" = "$2 $3" ] && return
  echo "$1: $(status "$1")"
  "$sampan" ps -a
  as_root journalctl --no-pager -b -n 20 _SYSTEMD_UNIT=sampan.service + _SYSTEMD_USER_UNIT=sampan.service
  false
}

run() { "$sampan" run -d --network none "$@"; }

before() {
  sampan=$1
  local loop='trap "sync; exit 0" TERM; while :; do sleep 0.2; done'
  local deaf='trap "" TERM; while :; do sleep 0.2; done'
  check boot-run "run --name always --restart always busybox sh -c '$loop'"
  check boot-run-failing "run --name failing --restart on-failure --stop-timeout 0 busybox sh -c '$deaf' && run --name failing-0 --restart on-failure busybox sh -c '$loop'"
  check boot-run-unless "run --name unless --restart unless-stopped --stop-timeout 0 -t busybox sh && run --name stopped --restart unless-stopped busybox sh -c '$loop' && run --name by-hand --restart always busybox sh -c '$loop'"
  check boot-run-broken "mkdir -p $state/gone/x && run --name broken --restart always -v $state/gone/x:/gone busybox sh -c '$loop'"
  check boot-run-plain "run --name plain busybox sh -c '$loop'"
  check boot-stop "$sampan stop stopped by-hand"
  check boot-enable "$sampan boot enable && ${manager[*]} is-active sampan.service && is by-hand exited 0"
  check boot-status "$sampan boot status | grep by-hand"
  check boot-disable "$sampan boot disable && [ ! -e $unit ] && ! ${manager[*]} is-active sampan.service && is always running 0 && ! $sampan boot status"
  check boot-enable-again "$sampan boot enable"
  # What systemd's own stop and start of the unit means: as of docker's daemon.
  check boot-restart "${manager[*]} restart sampan.service && is plain exited 0 && is always running 0 && is stopped exited 0 && is failing-0 exited 0 && $sampan start plain failing-0 && $sampan stop by-hand"
  mkdir -p "$state"
  rm -rf "$state/gone" && touch "$state/gone"
  echo "$sampan" >"$state/sampan"
  echo "$failures" >"$state/failures"
  # The job that runs us ends with the machine, and comes again.
  as_root mkdir -p /etc/systemd/system/job.service.d
  printf '[Service]\nExecStopPost=\n' | as_root tee /etc/systemd/system/job.service.d/reboot.conf >/dev/null
  as_root sed -i 's|exec >/run/job/out|exec >>/run/job/out|' /usr/local/sbin/job
  as_root systemctl daemon-reload
  as_root systemctl reboot
  sleep 600
}

# A normal user's containers where he logs out, with linger and without: what ps says then is what is.
logout() {
  "$sampan" save -o /var/tmp/busybox.tar busybox && chmod 644 /var/tmp/busybox.tar
  chmod a+x "$(dirname "$(dirname "$sampan")")" && for parent in "${sampan%/*/*/*}" "${sampan%/*/*/*/*}"; do chmod a+x "${parent:-/}"; done
  local words="$sampan run -d --name box --network none --restart unless-stopped busybox sleep 1000"
  check logout-linger "loginctl enable-linger dev && for _ in \$(seq 300); do [ ! -S /run/user/1000/bus ] || break; sleep 0.2; done && as_dev '$sampan load -i /var/tmp/busybox.tar && $words'"
  check logout-lives "sleep 2; as_dev '$sampan ps -q' | grep ."
  check logout-no-linger "loginctl disable-linger dev && for _ in \$(seq 900); do [ -e /run/user/1000 ] || break; sleep 0.2; done && [ ! -e /run/user/1000 ]"
  check logout-ends "[ -z \"\$(as_dev '$sampan ps -q')\" ] && as_dev '$sampan ps -a' | grep -E 'Exited .(137|143)'"
  check logout-start "as_dev '$sampan boot start && $sampan ps -q' | grep . && as_dev '$sampan boot enable && $sampan boot status' 2>&1 | grep enable-linger"
  check logout-doctor "as_dev '$sampan doctor' | grep 'loginctl enable-linger dev'"
  check logout-reset "as_dev '$sampan system reset --force && ls .config/systemd/user' | grep -v wants | grep sampan; [ ! -e /home/dev/.local/share/sampan ]"
}

as_dev() { su - dev -c "$1"; }

after() {
  sampan=$(cat "$state/sampan")
  failures=$(cat "$state/failures")
  as_root rm -r /etc/systemd/system/job.service.d
  as_root systemctl daemon-reload
  # A user's manager has come up beside us.
  check boot-up "for _ in \$(seq 300); do ${manager[*]} is-active sampan.service && break; sleep 0.5; done"
  check boot-always "is always running 0 && is by-hand running 0"
  check boot-on-failure "is failing running 0 && is failing-0 exited 0"
  check boot-unless "is unless running 0 && is stopped exited 0"
  check boot-none "is plain exited 0"
  check boot-broken "! is broken running 0 && ${manager[*]/%--user/--user} --no-pager status sampan.service | cat"
  check boot-events "$sampan events --since 1h --until 0s --filter container=always --format '{{.Action}}' | tail -n 4 | tr '\n' ' ' | grep -qx 'kill die stop start '"
  # The machine is gone without a word, for sampan: its monitors are killed and SAMPAN_RUN is wiped.
  check boot-crash "pkill -KILL -f sampan-monitor; rm -rf ${XDG_RUNTIME_DIR:-/run}/sampan; is always exited 137 && $sampan ps -a"
  check boot-after-crash "${manager[*]} restart sampan.service && is always running 0 && is unless running 0"
  check boot-without-program "mv $sampan $sampan.away && ! ${manager[*]} restart sampan.service; mv $sampan.away $sampan; (${manager[*]} status sampan.service || true) | grep 203/EXEC"
  [ "$(id -u)" != 0 ] || logout
  check boot-reset "$sampan system reset --force && [ ! -e $unit ] && ! ${manager[*]} is-active sampan.service && ! ${manager[*]} is-enabled sampan.service"
  rm -r "$state"
  echo "$failures checks failed, $((SECONDS - started)) s"
  exit "$((failures > 0))"
}

"$@"
