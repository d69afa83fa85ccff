#!/bin/sh
# Runs what is in /docker-entrypoint.d, then becomes the command, as the official image of nginx does.
set -e

say() { if [ -z "$NGINX_ENTRYPOINT_QUIET_LOGS" ]; then echo "$0: $*"; fi; }

# One id only (a normal user's container): its workers stay who they are.
has_one_id() { [ "$(awk '{ n += $3 } END { print n }' /proc/self/uid_map)" = 1 ]; }

case ${1##*/} in
nginx | nginx-debug)
    for file in /docker-entrypoint.d/*; do
        case $file in
        *.envsh) if [ -x "$file" ]; then say "sourcing $file" && . "$file"; fi ;;
        *.sh) if [ -x "$file" ]; then say "running $file" && "$file"; else say "passing over $file, not executable"; fi ;;
        *) ;;
        esac
    done
    if has_one_id && [ -w /etc/nginx/nginx.conf ]; then
        sed -i -e '/^[[:space:]]*user[[:space:]]/d' -e '1i user root;' /etc/nginx/nginx.conf
    fi
    ;;
*) ;;
esac
exec "$@"
