#!/bin/bash
# The wheel of this checkout on a fresh machine, by venv as root, by venv, pipx and uv as the normal user dev; then
# removed, with nothing left. Runs as root inside an emulated machine; the wheel is at /share. Prints one line a check.
set -u -o pipefail

. "$(dirname "$0")/check.sh"

# with_venv NAME RUN, with_tools NAME RUN: install, use and remove it; RUN runs a command line as the person in question.
with_venv() {
  local who=$1 run=$2
  check "$who venv" "$run 'python3 -m venv ~/.sampan && ~/.sampan/bin/pip install -q $wheel'"
  check "$who venv works" "$run '~/.sampan/bin/sampan version && ~/.sampan/bin/sampan doctor'"
  check "$who reset" "$run '~/.sampan/bin/sampan system reset --force'"
  check "$who uninstall" "$run 'rm -r ~/.sampan'"
  check "$who nothing left" "$run 'test ! -e ~/.local/share/sampan && test ! -e ~/.config/sampan'"
}

with_tools() {
  local who=$1 run=$2
  check "$who pipx" "$run 'pipx install $wheel && ~/.local/bin/sampan version && pipx uninstall sampan'"
  check "$who uv" "$run 'python3 -m venv ~/.uv && ~/.uv/bin/pip install -q uv && $index ~/.uv/bin/uv tool install $wheel'"
  check "$who uv works" "$run '~/.local/bin/sampan version && ~/.uv/bin/uv tool uninstall sampan && rm -r ~/.uv'"
}

as_root() { bash -c "$1"; }
as_dev() { su - dev -c "$1"; }

apt-get -qq update >/dev/null && apt-get -qq -y --no-install-recommends install python3-venv pipx >/dev/null || exit 1
# uv does not read pip's settings.
index="SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_DEFAULT_INDEX=\$(~/.uv/bin/pip config get global.index-url)"
wheel=$(echo /share/dist/sampan-*.whl)
with_venv root as_root
with_tools dev as_dev
with_venv dev as_dev
check 'nothing left' '! find / -xdev -name "*sampan*" -not -path "/share/*" -not -path "/proc/*" -not -path "/root/.cache/*" -not -path "/home/dev/.cache/*" | grep .'
echo
echo "$failures checks failed"
[ "$failures" = 0 ]
