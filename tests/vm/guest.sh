#!/bin/bash
# What a new user does on a fresh machine: the demo, then Docker's words. Runs inside an emulated machine, as root or as
# the normal user dev; a copy of the checkout is at /share, and, where the host built the example already, the digest to
# expect at /share/.expected. Prints one line a check, `ok NAME` or `not ok NAME`, and fails if any failed.
set -u -o pipefail
started=$SECONDS

# After the reboot at the end of all this.
[ ! -e /var/tmp/boot/sampan ] || exec bash "$(dirname "$0")/boot.sh" after

. "$(dirname "$0")/check.sh"

fetch() {
  python3 -c '
import sys, time, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for _ in range(300):
    try:
        print(opener.open(sys.argv[1], timeout=60).read().decode()); break
    except OSError as error:
        problem = error; time.sleep(0.2)
else:
    sys.exit(f"{sys.argv[1]}: {problem}")' "$1"
}

# field NAME KEY...: one value of what `inspect` says.
field() {
  "$sampan" inspect "$1" | python3 -c '
import json, sys
value = json.load(sys.stdin)[0]
for key in sys.argv[1:]:
    value = value[key]
print(value)' "${@:2}"
}

fetch_once() { python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' "$1"; }

# traces: what a container leaves on a machine, as lines; the same before and after all this.
traces() {
  awk '{print "mount", $5}' /proc/self/mountinfo | grep -v '^mount /run/' | sort
  for name in /sys/class/net/*; do echo "interface ${name##*/}"; done | grep -v 'sampan0$'
  find /sys/fs/cgroup -path '*sampan*' -type d | grep -E '/[0-9a-f]{64}$'
  # A normal user's holder stays for some seconds: see no-holder.
  [ "$(id -u)" != 0 ] || ps -eo args= | grep -c '[s]ampan run' | sed 's/^/sampan processes /'
}

uname -r
id -un
python3 --version
[ ! -e /share/.uidmap ] || command -v newuidmap || exit 1
cd "$(mktemp -d /var/tmp/new-user-XXXX)" || exit 1
mkdir sampan && cp -r /share/. sampan && cd sampan || exit 1
before=$(traces)

demo() { ./dev demo >/var/tmp/demo.out 2>&1 && grep -q 'Hello, Docker!' /var/tmp/demo.out; }
check demo demo
tail -n 60 /var/tmp/demo.out | sed 's/^/  | /'

sampan=$PWD/.venv/bin/sampan
address=$(ip -4 -o address show scope global | awk '{sub("/.*", "", $4); print $4; exit}')
limits=
[ "$(id -u)" != 0 ] || limits='--memory 256m --cpus 0.5'
mkdir -p data

check build "$sampan build -t hello ./examples/hello-flask"
check images "$sampan images | grep -q hello"
check run-d "$sampan run -d --name web -p 8000:5000 $limits -e A=b -v $PWD/data:/data hello"
check fetch-loopback "fetch http://127.0.0.1:8000 | grep -q 'Hello, Docker!'"
check fetch-own-address "fetch http://$address:8000 | grep -q 'Hello, Docker!'"
inside=$(field web NetworkSettings IPAddress)
check fetch-from-container "$sampan run --rm hello python -c 'import urllib.request as r; print(r.urlopen(\"http://$inside:5000\", timeout=60).read())' | grep -q 'Hello, Docker!'"
check ps "$sampan ps | grep -q web"
check logs "$sampan logs web 2>&1 | grep -c . "
check logs-f "timeout 10 $sampan logs -f web; [ \$? = 124 ]"
check exec "[ \"\$($sampan exec web python -c 'import os; print(6 * 7, os.environ[\"A\"], os.getuid())')\" = '42 b 65532' ]"
check exec-it "script -qec \"$sampan exec -it web python -c 'import sys; print(sys.stdin.isatty())'\" /dev/null | grep -q True"
check inspect "$sampan inspect web | grep -q '\"Running\": true'"
[ "$(id -u)" != 0 ] || check memory-limit "field web HostConfig Memory | grep -qx 268435456"
check top "$sampan top web -o pid,cmd | sed 1d | grep -c ."
check events "$sampan events --since 1h --until 0s --filter container=web --filter event=start | grep -q 'name=web'"
check init "$sampan run --rm --init hello python -c 'print(open(\"/proc/1/comm\").read())' | grep -q docker-init"
if [ "$(id -u)" = 0 ]; then
  check cpuset "$sampan run --rm --cpuset-cpus 0 hello python -c 'import os; print(os.sched_getaffinity(0))' | grep -qF '{0}'"
  modprobe -q fuse || true
  opens='import os; os.open("/dev/fuse", os.O_RDONLY); os.open("/dev/fuse", os.O_RDWR)'
  check device "$sampan run --rm --user 0 --device /dev/fuse hello python -c '$opens'"
  check device-read-only "! $sampan run --rm --user 0 --device /dev/fuse:r hello python -c '$opens'"
  check io-max "$sampan run -d --name slow --device-read-bps /dev/vda:1mb hello && grep -rqs rbps=1048576 /sys/fs/cgroup/system.slice/sampan.scope --include=io.max && $sampan rm -f slow"
  usage="$sampan stats --no-stream --format '{{.MemUsage}}' web"
  check stats "$usage | grep -q '[1-9].*iB / 256MiB'"
  check update "$sampan update --memory 300m --cpus 0.4 --pids-limit 200 web && $usage | grep -q '/ 300MiB'"
  check pause "$sampan pause web && field web State Status | grep -qx paused && ! $sampan exec web true"
  check unpause "$sampan unpause web && fetch http://127.0.0.1:8000 | grep -q 'Hello, Docker!'"
fi
[ "$(id -u)" != 0 ] || check stop-paused "$sampan pause web && $sampan stop -t 30 web && $sampan start web"
check stop "$sampan stop web"
check stopped "! fetch_once http://127.0.0.1:8000"
check start "$sampan start web && fetch http://127.0.0.1:8000 | grep -q 'Hello, Docker!'"
check rm "$sampan stop web && $sampan rm web"
check run-rm "[ \"\$($sampan run --rm hello python -c 'print(1)')\" = 1 ]"
check run-it "script -qec \"$sampan run --rm -it hello python -c 'import os; print(os.ttyname(0))'\" /dev/null | grep -q pts"
check exit-status "$sampan run --rm hello python -c 'raise SystemExit(7)'; [ \$? = 7 ]"
# apt's lists, which busybox.py needs, are root's to fetch.
[ "$(id -u)" = 0 ] || ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || sudo apt-get -qq update
# Only the lists that apt needs for busybox: a fresh machine has none, and a normal user may not fetch them.
[ "$(id -u)" = 0 ] || sudo apt-get -qq update
check import "python3 tools/busybox.py | xargs -I {} $sampan import {} busybox"
# In a session of systemd's with cgroup v2 a normal user has limits too, where it delegates memory.
oom="$sampan run --name greedy --memory 32m busybox tail /dev/zero; [ \$? = 137 ] && field greedy State OOMKilled | grep True && $sampan events --since 1h --until 0s --filter container=greedy | grep ' oom ' && $sampan rm greedy"
if [ "$(id -u)" = 0 ] || "$sampan" doctor | grep -q '^ok *limits'; then check oom "$oom"; fi
check busybox "[ \"\$($sampan run --rm busybox id -u)\" = 0 ]"
mkdir file && printf 'FROM busybox\nRUN echo made >/made && id -u\nCMD cat /made\n' >file/Dockerfile
check dockerfile "$sampan build -t filed file && [ \"\$($sampan run --rm filed)\" = made ]"
mkdir traced && printf 'FROM busybox\nCOPY a b /w/\nRUN cat /w/a >/made\nCMD cat /made /w/b\n' >traced/Dockerfile
echo 1 >traced/a && echo 1 >traced/b
again="$sampan build --progress plain -t traced traced"
check trace "$again && echo 2 >traced/b && $again 2>&1 | grep -q 'it reads /w/a, as before'"
check traced "[ \"\$($sampan run --rm traced)\" = \"\$(printf '1\\n2')\" ]"
mkdir project && cat >project/compose.yaml <<'END'
services:
  web:
    image: busybox
    command: sh -c "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 80 -h /w"
    healthcheck:
      test: nc -w 5 127.0.0.1 80 </dev/null
      interval: 1s
      retries: 60
  client:
    image: busybox
    command: sleep 1000
    init: false
    stop_grace_period: 0s
    depends_on:
      web:
        condition: service_healthy
END
check compose-up "$sampan compose -f project/compose.yaml up -d"
ask='printf "GET / HTTP/1.0\r\n\r\n" | nc -w 20 web 80 | tail -n 1'
check compose-name "$sampan compose -f project/compose.yaml exec -T client sh -c '$ask' | grep -qx hello"
check compose-ps "$sampan compose -f project/compose.yaml ps | grep -q healthy"
check compose-down "$sampan compose -f project/compose.yaml down -v -t 0"
if [ -e /share/.everywhere ]; then
  check load "$sampan load -i /share/.everywhere/image.tar && field everywhere Id | grep -qxF -f /share/.everywhere/id"
  for setting in development test production; do
    check "everywhere-$setting" "$sampan run --rm -e APP_ENV=$setting everywhere python -m unittest"
  done
  check rmi-everywhere "$sampan rmi everywhere"
fi
if [ -e /share/.expected ]; then
  mkdir locked && cp examples/hello-flask/app.py examples/hello-flask/requirements.txt /share/.expected/sampan.lock locked
  check same-digest "$sampan build --locked -t locked ./locked && field locked Id | grep -qxF -f /share/.expected/id"
  check rmi-locked "$sampan rmi locked"
fi
check rmi "$sampan rmi hello filed traced busybox"
# A holder ends by itself; nothing of a normal user's may stay.
[ "$(id -u)" = 0 ] || check no-holder "sleep 12; ! pgrep -u dev -a -f \"sampan (run|exec|build)|pasta\""
check no-trace "sleep 3; diff <(echo '$before') <(traces)"

if [ -e /share/.reboot ]; then
  check import-again "python3 tools/busybox.py | xargs -I {} $sampan import {} busybox"
  FAILURES=$failures exec bash tests/vm/boot.sh before "$sampan"
fi
echo "$failures checks failed, $((SECONDS - started)) s"
exit "$((failures > 0))"
