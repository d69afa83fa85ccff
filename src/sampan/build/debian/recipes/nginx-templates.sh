#!/bin/sh
# Fills in the environment's variables in /etc/nginx/templates/*.template, as the official image of nginx does.
set -e
templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
if [ ! -d "$templates" ]; then exit 0; fi
# Those that are set, so that nginx's own `$host` stays.
names=$(env | cut -d= -f1 | grep -E "^${NGINX_ENVSUBST_FILTER:-}" | sed 's/^/$/' | tr '\n' ' ')
find "$templates" -follow -type f -name "*$suffix" | sort | while read -r file; do
    name=${file#"$templates/"}
    mkdir -p "$output/$(dirname "$name")"
    envsubst "$names" <"$file" >"$output/${name%"$suffix"}"
    echo "$0: $file"
done
