# The places and the user of the official image.
set -e
groupadd --system --gid 999 mysql
useradd --system --gid 999 --uid 999 --home-dir /var/lib/mysql --no-create-home --shell /bin/bash mysql
mkdir -p /var/lib/mysql /var/lib/mysql-files /run/mysqld /docker-entrypoint-initdb.d
chown mysql:mysql /var/lib/mysql /run/mysqld
# Whoever runs in there: a container may be given another user.
chmod 1777 /var/lib/mysql /run/mysqld
chown mysql:mysql /var/lib/mysql-files
chmod 0750 /var/lib/mysql-files
ln -sf /usr/local/bin/docker-entrypoint.sh /entrypoint.sh
