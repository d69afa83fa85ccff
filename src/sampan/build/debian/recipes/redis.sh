# The places and the user of the official image. One program is server, checker and sentinel, by the name it is called.
set -e
groupadd --system --gid 999 redis-image
useradd --system --gid 999 --uid 999 --home-dir /data --no-create-home --shell /usr/sbin/nologin redis-image
if getent passwd redis >/dev/null; then userdel redis; fi
if getent group redis >/dev/null; then groupdel redis; fi
groupmod --new-name redis redis-image
usermod --login redis redis-image
ln -sf /usr/bin/redis-check-rdb /usr/local/bin/redis-server
ln -sf /usr/bin/redis-check-rdb /usr/local/bin/redis-sentinel
mkdir -p /data
chown redis:redis /data
