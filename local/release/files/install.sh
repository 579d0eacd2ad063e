#!/bin/sh
# Installs or upgrades whatisup on a Linux with systemd, from the folder that this
# file is in: the program, its user, its unit. Data and settings stay as they are.
set -eu
[ "$(id -u)" = 0 ] || { echo "run it as root: sudo ./install.sh" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
getent passwd whatisup >/dev/null || useradd --system --home-dir /var/lib/whatisup --no-create-home --shell /usr/sbin/nologin whatisup
install -m 0755 "$here/whatisup" /usr/bin/whatisup.new
mv -f /usr/bin/whatisup.new /usr/bin/whatisup
install -d -m 0750 -g whatisup /etc/whatisup
install -d -m 0700 -o whatisup -g whatisup /var/lib/whatisup
[ -e /etc/whatisup/whatisup.env ] || install -m 0640 -g whatisup "$here/whatisup.env" /etc/whatisup/whatisup.env
install -d -m 0755 /usr/lib/systemd/system
install -m 0644 "$here/whatisup.service" /usr/lib/systemd/system/whatisup.service
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl enable whatisup.service
	systemctl restart whatisup.service
	systemctl --no-pager --lines=0 status whatisup.service
fi
