#!/usr/bin/env bash
# Measures what links take on one machine of 1 CPU and 1 GB: whatisup runs in control
# groups of that size (version 1), the simulated WhatsApp outside of them. As root:
#
#   local/bench/size.sh PROGRAM SIMULATOR LINKS MESSAGES
#
# PROGRAM is whatisup, SIMULATOR is built from local/whatsapp/cmd/simulator.
set -eu
program=$1 simulator=$2 links=$3 messages=$4
dir=$(mktemp -d) group=whatisup-size-$$
memory=/sys/fs/cgroup/memory/$group cpu=/sys/fs/cgroup/cpu/$group usage=/sys/fs/cgroup/cpuacct/$group
mkdir -p "$memory" "$cpu" "$usage"
echo $((1 << 30)) >"$memory/memory.limit_in_bytes"
echo 100000 >"$cpu/cpu.cfs_period_us"
echo 100000 >"$cpu/cpu.cfs_quota_us"
end() {
	[ -z "${child:-}" ] || kill "$child" || true
	[ -z "${phones:-}" ] || kill "$phones" || true
	wait || true
	rmdir "$memory" "$cpu" "$usage" || true
	rm -rf "$dir"
}
trap end EXIT

DATA_DIR=$dir/phones WHATSAPP_PORT=28090 "$simulator" >"$dir/phones.log" 2>&1 &
phones=$!
sh -c "for g in $memory $cpu $usage; do echo \$\$ >\$g/cgroup.procs; done
	exec env DATA_DIR=$dir/data GOMEMLIMIT=900MiB WHATSAPP=sandbox WHATSAPP_ENDPOINT=http://127.0.0.1:28090 PORT=28080 AWS_PORT=24566 HEALTH_ADDR=127.0.0.1:29090 \
	RATE_LIMIT_BURST=100000 RATE_LIMIT_PER_SECOND=100000 ADDRESS_LIMIT_PER_SECOND=0 LOG_LEVEL=warn $program run" >"$dir/out" 2>"$dir/log" &
child=$!
until [ "$(curl -s -o "$dir/null" -w '%{http_code}' 127.0.0.1:29090/readyz)" = 200 ]; do sleep 1; done
key=$(cat "$dir/data/test.key")
# calls makes the calls that its input lists, METHOD PATH BODY a line, several at a time.
calls() {
	while read -r method path body; do
		printf 'url = "http://127.0.0.1:28080/v1%s"\nrequest = "%s"\nheader = "Authorization: Bearer %s"\nheader = "Content-Type: application/json"\n' "$path" "$method" "$key"
		[ -z "$body" ] || printf 'data = "%s"\n' "${body//\"/\\\"}"
		echo next
	done | sed '$d' >"$dir/calls"
	curl -sS --no-progress-meter --retry 5 -Z --parallel-max 16 -K "$dir/calls"
}
seconds() { awk '{print $1 / 1e9}' "$usage/cpuacct.usage"; }
# Memory that can't be given back: without the file cache.
resident() { awk '/^total_rss /{printf "%.0f MB", $2 / 1e6}' "$memory/memory.stat"; }
echo "without links: $(resident)"
began=$(seconds)
for _ in $(seq "$links"); do echo 'POST /instances {"name":"x"}'; done | calls | grep -o '"id":"[^"]*' | cut -d'"' -f4 >"$dir/ids"
sed 's|.*|GET /instances/&/qr|' "$dir/ids" | calls >/dev/null
sed 's|.*|POST /sandbox/instances/&/scan {}|' "$dir/ids" | calls >/dev/null
echo "$links links: $(curl -s 127.0.0.1:29090/metrics | grep '^whatisup_sessions{.*connected')"
echo "  pairing took $(echo "$(seconds) $began" | awk -v n="$links" '{printf "%.0f ms of CPU each", ($1 - $2) / n * 1e3}')"
sleep 15
began=$(seconds)
sleep 30
echo "  idle: $(resident), $(echo "$(seconds) $began" | awk '{printf "%.1f %% of the CPU", ($1 - $2) / 30 * 100}')"
disk=$(stat -c %s "$dir/data/aws.db") began=$(seconds) at=$(date +%s)
shuf -r -n "$messages" "$dir/ids" | awk '{print "POST /sandbox/instances/" $1 "/messages {\"from\":\"49151" 10000000 + NR % 50 "\",\"text\":\"Are you open on Saturday, and do I need an appointment for it?\"}"}' | calls >/dev/null
sleep 5
echo "  $messages messages received in $(($(date +%s) - at)) s: $(resident), $(echo "$(seconds) $began" | awk -v n="$messages" '{printf "%.1f ms of CPU each", ($1 - $2) / n * 1e3}'), $(echo "$(stat -c %s "$dir/data/aws.db") $disk" | awk -v n="$messages" '{printf "%.1f KB of disk each", ($1 - $2) / n / 1e3}')"
echo "  the group's limit was hit $(cat "$memory/memory.failcnt") times"
