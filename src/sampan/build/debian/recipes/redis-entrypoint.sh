#!/bin/sh
# Becomes the server as the user redis, as the official image of Redis does.
set -e

# Options, or a configuration file, mean the server.
case $1 in
-* | *.conf) set -- redis-server "$@" ;;
esac

# One id only (a normal user's container): there is nobody else to become.
has_one_id() { [ "$(awk '{ n += $3 } END { print n }' /proc/self/uid_map)" = 1 ]; }

case ${1##*/} in
redis-server | redis-sentinel) ;;
*) exec "$@" ;;
esac

if [ "$(id -u)" = 0 ] && ! has_one_id; then
    find . ! -user redis -exec chown redis {} +
    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
fi

# What it writes is for it alone.
if [ "$(umask)" = 0022 ]; then umask 0077; fi

# Outside this container's network nobody reaches it, so it answers others in there without a password, as there.
if [ "${1##*/}" = redis-server ]; then
    is_said=
    for word in "$@"; do
        case $word in
        --protected-mode | --protected-mode=*) is_said=yes ;;
        --version | -v | --help | -h | --test-memory) is_said=yes ;;
        *.conf) if grep -qs '^[[:space:]]*protected-mode' "$word"; then is_said=yes; fi ;;
        esac
    done
    if [ -z "$is_said" ]; then set -- "$@" --protected-mode no; fi
fi
exec "$@"
