#!/bin/bash
# Makes a new database from the environment, as the official image of MySQL does, and becomes the server.
#
#   MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD, MYSQL_RANDOM_ROOT_PASSWORD   one of them for a new database
#   MYSQL_ROOT_HOST                        where root may come from besides this machine; `%` by default
#   MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD                                    made with it
#   MYSQL_…_FILE                           the name of a file that holds the value
#   /docker-entrypoint-initdb.d            *.sh, *.sql, *.sql.gz, run once, in the order of their names
#
# A database that was not finished, since somebody killed its making, is made anew.
set -eo pipefail
shopt -s nullglob

data=/var/lib/mysql
socket=/var/run/mysqld/mysqld.sock
unfinished=.being-made
server=

say() { printf '%s [entrypoint] %s\n' "$(date --rfc-3339=seconds)" "$*"; }

fail() {
    say "error: $*" >&2
    exit 1
}

# Take the value of a variable from the file that NAME_FILE names.
from_file() {
    local name=$1 file=${1}_FILE
    if [ -n "${!name}" ] && [ -n "${!file}" ]; then fail "both $name and $file are set"; fi
    if [ -n "${!file}" ]; then
        [ -r "${!file}" ] || fail "$file names ${!file}, which cannot be read"
        export "$name=$(<"${!file}")"
        unset "$file"
    fi
}

is_mariadb() { [ -x /usr/sbin/mariadbd ]; }

# One id only (a normal user's container): there is nobody else to become.
has_one_id() { [ "$(awk '{ n += $3 } END { print n }' /proc/self/uid_map)" = 1 ]; }

# A text as it stands between quotes, in SQL and in an option file.
quoted() {
    local text=${1//\\/\\\\}
    printf '%s' "${text//$2/\\$2}"
}

# Options that MySQL 8 had and others do not are no reason to stop.
loosened() {
    case $1 in
    --default-authentication-plugin=* | --default_authentication_plugin=*) printf '%s' "--loose-${1#--}" ;;
    *) printf '%s' "$1" ;;
    esac
}

# The client as root of the new server; with a password once there is one.
client() {
    if [ -n "$password_is_set" ]; then
        mysql --defaults-extra-file=<(printf '[client]\npassword="%s"\n' "$(quoted "$MYSQL_ROOT_PASSWORD" '"')") \
            --protocol=socket --socket="$socket" -uroot --comments "$@"
    else
        mysql --protocol=socket --socket="$socket" -uroot --comments "$@"
    fi
}

check_words() {
    if [ -z "$MYSQL_ROOT_PASSWORD$MYSQL_ALLOW_EMPTY_PASSWORD$MYSQL_RANDOM_ROOT_PASSWORD" ]; then
        fail "a new database needs one of MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD and MYSQL_RANDOM_ROOT_PASSWORD"
    fi
    if [ "$MYSQL_USER" = root ]; then
        fail "MYSQL_USER is root, who is there anyway: set MYSQL_ROOT_PASSWORD for its password, and leave MYSQL_USER out"
    fi
    if [ -n "$MYSQL_USER" ] && [ -z "$MYSQL_PASSWORD" ]; then
        fail "MYSQL_USER is set and MYSQL_PASSWORD is not: the user would not be made"
    fi
    if [ -z "$MYSQL_USER" ] && [ -n "$MYSQL_PASSWORD" ]; then
        say "warning: MYSQL_PASSWORD is set and MYSQL_USER is not: no user is made"
    fi
}

make_files() {
    say "making a new database in $data"
    find "$data" -mindepth 1 -maxdepth 1 ! -name "$unfinished" ! -name lost+found -exec rm -rf {} +
    if is_mariadb; then
        mariadb-install-db --datadir="$data" --auth-root-authentication-method=normal --skip-test-db \
            --skip-name-resolve "${user[@]}" >/dev/null
    else
        # It wants an empty directory, where names that begin with a dot do not count.
        "$@" "${user[@]}" --initialize-insecure
    fi
}

start_server() {
    local extra=(--skip-networking --socket="$socket")
    is_mariadb || extra+=(--mysqlx=OFF)
    "$@" "${user[@]}" "${extra[@]}" &
    server=$!
    local tries
    for tries in {1..600}; do
        if client --database=mysql -e 'SELECT 1' >/dev/null 2>&1; then return; fi
        kill -0 "$server" 2>/dev/null || fail "the server ended while the new database was made: see what it says above"
        sleep 0.2
    done
    fail "the server does not answer"
}

stop_server() {
    kill "$server"
    wait "$server" || fail "the server did not stop in good order"
    server=
}

make_accounts() {
    local root word host=${MYSQL_ROOT_HOST:-%}
    if [ -n "$MYSQL_RANDOM_ROOT_PASSWORD" ]; then
        MYSQL_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
        export MYSQL_ROOT_PASSWORD
        say "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"
    fi
    root=$(quoted "$MYSQL_ROOT_PASSWORD" "'")
    {
        if is_mariadb; then
            # It makes some for its own host name, which have no password.
            echo "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
            echo "DELETE FROM mysql.proxies_priv WHERE Host <> 'localhost';"
            echo "FLUSH PRIVILEGES;"
        fi
        if [ "$host" != localhost ]; then
            host=$(quoted "$host" "'")
            echo "CREATE USER 'root'@'$host' IDENTIFIED BY '$root';"
            echo "GRANT ALL ON *.* TO 'root'@'$host' WITH GRANT OPTION;"
        fi
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$root';"
        echo "FLUSH PRIVILEGES;"
    } | client --database=mysql
    if [ -n "$MYSQL_ROOT_PASSWORD" ]; then password_is_set=yes; fi
    if [ -n "$MYSQL_DATABASE" ]; then
        say "making the database $MYSQL_DATABASE"
        echo "CREATE DATABASE IF NOT EXISTS \`${MYSQL_DATABASE//\`/\`\`}\`;" | client --database=mysql
    fi
    if [ -n "$MYSQL_USER" ]; then
        say "making the user $MYSQL_USER"
        word=$(quoted "$MYSQL_USER" "'")
        {
            echo "CREATE USER '$word'@'%' IDENTIFIED BY '$(quoted "$MYSQL_PASSWORD" "'")';"
            if [ -n "$MYSQL_DATABASE" ]; then
                local name=${MYSQL_DATABASE//\`/\`\`}
                echo "GRANT ALL ON \`${name//_/\\_}\`.* TO '$word'@'%';"
            fi
        } | client --database=mysql
    fi
}

# For scripts that are sourced: the words that the official image has.
docker_process_sql() { client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} "$@"; }

run_scripts() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sh)
            say "running $file"
            # shellcheck disable=SC1090
            if [ -x "$file" ]; then "$file"; else . "$file"; fi
            ;;
        *.sql) say "running $file" && docker_process_sql <"$file" ;;
        *.sql.gz) say "running $file" && gunzip -c "$file" | docker_process_sql ;;
        *) say "warning: $file is passed over: it is none of *.sh, *.sql and *.sql.gz" ;;
        esac
    done
}

make_database() {
    check_words
    # As the first process it would be deaf to a `stop` until it is done.
    trap 'if [ -n "$server" ]; then kill "$server"; wait "$server"; fi; exit 143' TERM INT
    touch "$data/$unfinished"
    make_files "$@"
    start_server "$@"
    make_accounts
    run_scripts
    stop_server
    rm -f "$data/$unfinished"
    trap - TERM INT
    say "the new database is ready"
}

if [ "${1:0:1}" = - ]; then set -- mysqld "$@"; fi
case ${1##*/} in
mysqld | mariadbd) ;;
*) exec "$@" ;;
esac
for word in "$@"; do
    case $word in
    --help | -\? | --version | -V | --verbose | --print-defaults) exec "$@" ;;
    --datadir=*) data=${word#--datadir=} ;;
    --socket=*) socket=${word#--socket=} ;;
    esac
done

words=()
for word in "$@"; do words+=("$(loosened "$word")"); done
set -- "${words[@]}"

user=()
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$data" "$(dirname "$socket")"
    if has_one_id; then
        user=(--user=root)
        set -- "$@" --user=root
    else
        find "$data" "$(dirname "$socket")" ! -user mysql -exec chown mysql {} +
        exec setpriv --reuid=mysql --regid=mysql --init-groups "$BASH_SOURCE" "$@"
    fi
fi

if [ ! -d "$data/mysql" ] || [ -e "$data/$unfinished" ]; then
    for name in ROOT_PASSWORD ROOT_HOST DATABASE USER PASSWORD; do from_file "MYSQL_$name"; done
    make_database "$@"
fi
# What was needed once is nothing for the server's own environment.
unset MYSQL_ROOT_PASSWORD MYSQL_PASSWORD
exec "$@"
