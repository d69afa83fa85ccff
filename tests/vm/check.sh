# What the guests' scripts share, to be sourced: one line for each check, and how many failed.
failures=0

# check NAME COMMAND...: COMMAND's words are shown where it fails.
check() {
  local name=$1 before=$SECONDS output
  shift
  if output=$(eval "$*" </dev/null 2>&1); then
    echo "ok $name ($((SECONDS - before)) s)"
  else
    echo "not ok $name: $*"
    echo "$output" | tail -n 25 | sed 's/^/    /'
    failures=$((failures + 1))
  fi
}
