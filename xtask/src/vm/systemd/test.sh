#!/bin/sh
# Assertions about ctmon.service under systemd: a line `ok` or `FAILED` for each, then the end of the VM.
# The second serial line takes all output; a marker begins with a byte that text does not hold.
read -r output </etc/ctmon-output
read -r dropping </etc/ctmon-dropping
exec >"$output" 2>&1
stty -F "$output" raw -echo

say() {
    printf '\036ctmon-vm: %s\n' "$1"
}
say start

failed=0
show() {
    systemctl show ctmon -p "$1" --value
}
state() {
    systemctl show ctmon -p ActiveState -p SubState -p NRestarts -p MainPID -p StatusText | tr '\n' ' '
}
# what, command...
check() {
    what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what: $(state)"
        failed=1
    fi
}
# seconds, command...: whether the command succeeds within that time
within() {
    left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}
is_active() {
    [ "$(show ActiveState)" = active ]
}
says() {
    show StatusText | grep -q "$1"
}
# The same process as at first, never started again.
is_same() {
    is_active && [ "$(show NRestarts)" = "${restarts:-0}" ] && [ "$(show MainPID)" = "$pid" ]
}
is_loaded() {
    [ -e /proc/sys/net/netfilter/nf_conntrack_count ]
}
is_gone() {
    ! is_loaded
}
# A rule makes this namespace track.
track() {
    modprobe nf_conntrack && modprobe nft_ct || return 1
    nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o ct state new counter'
}
untrack() {
    nft flush ruleset
    modprobe -r nf_conntrack_netlink nft_ct nf_conntrack 2>/dev/null || modprobe -r nf_conntrack 2>/dev/null
    is_gone
}
# Sum of a column of the kernel's statistics.
column() {
    sum=0
    number=0
    while read -r line; do
        set -- $line
        if [ "$number" = 0 ]; then
            for name in "$@"; do
                number=$((number + 1))
                [ "$name" = "$column" ] && break
            done
            continue
        fi
        eval "value=\${$number}"
        sum=$((sum + 0x$value))
    done </proc/net/stat/nf_conntrack
    echo "$sum"
}

# The longest time that the VM stood still, in seconds: on a busy host an emulated one does, and the watchdog is right then.
stand_still() {
    longest=0
    last=$(cut -d. -f1 /proc/uptime)
    while sleep 1; do
        now=$(cut -d. -f1 /proc/uptime)
        [ "$((now - last - 1))" -le "$longest" ] || longest=$((now - last - 1))
        echo "$longest" >/tmp/longest
        last=$now
    done
}
stand_still &

systemctl --version | head -1
check "nf_conntrack is not loaded at first" is_gone
check "the unit is active without nf_conntrack" within 60 is_active
pid=$(show MainPID)
uids() {
    sed -n 's/^Uid:[[:space:]]*//p' "/proc/$pid/status" "/proc/$(cat "/proc/$pid/task/$pid/children" | tr -d ' ')/status"
}
no_root() {
    [ "$(uids | wc -l)" = 2 ] && ! uids | tr '\t' '\n' | grep -qx 0
}
check "both halves are the user ctmon" no_root
check "its status says what it waits for" within 20 says conntrack
sleep 12
check "it lives for six times WatchdogSec without nf_conntrack" is_same

check "nf_conntrack is loaded, and tracks" track
check "it watches" within 60 says 'fullest table'
show StatusText
sleep 8
check "it lives for four times WatchdogSec with nf_conntrack" is_same

# Attached by fentry, programs hold the module until SIGUSR2.
within 5 untrack || { kill -USR2 "$pid"; echo "        SIGUSR2: programs hold the module"; }
check "nf_conntrack is unloaded" within 60 untrack
check "its status says that it waits again" within 60 says conntrack
sleep 8
check "it lives for four times WatchdogSec after the unload" is_same

check "nf_conntrack is loaded again, and tracks" track
check "it watches again" within 60 says 'fullest table'
check "it is the process that was started at boot" is_same

# A table full of entries that nothing evicts; each packet beyond is dropped.
modprobe nf_conntrack_netlink
echo 50 >/proc/sys/net/netfilter/nf_conntrack_max
number=0
while [ "$number" -lt 60 ]; do
    conntrack -I -p tcp -s "192.0.2.$number" -d 198.51.100.1 --sport "$((1000 + number))" --dport 80 \
        -t 3000 --state ESTABLISHED -u ASSURED,SEEN_REPLY >/dev/null 2>&1
    number=$((number + 1))
done
check "the table is full" [ "$(cat /proc/sys/net/netfilter/nf_conntrack_count)" -ge 50 ]
column=drop
before=$(column)
end=$(($(date +%s) + dropping))
while [ "$(date +%s)" -lt "$end" ]; do
    ctmon-traffic udp --flows 500 --rate 100 >/dev/null
done
after=$(column)
echo "        $((after - before)) packets dropped in $dropping s"
check "the table dropped packets" [ "$((after - before))" -gt "$dropping" ]
check "a table that drops causes no restart" is_same
check "its status has the full table" says '100% full'
check "a warning is in the journal" sh -c 'journalctl -u ctmon --no-pager -o cat | grep -q critical'

# What was dropped is read once a second.
sleep 3
kill -USR1 "$pid"
file() {
    file=$(ls /var/lib/ctmon/*manual.mcap 2>/dev/null | tail -1)
    [ -n "$file" ]
}
check "SIGUSR1 writes the flight recording" within 60 file
ls -l /var/lib/ctmon
# Rates have the names of counters.
ctmon replay "$file" --speed max --output json | sed 's/"rates":{[^}]*}//g' >/tmp/replay.json
first=$(grep -m 1 '"kind":"tick"' /tmp/replay.json | sed 's/.*"time_ns":\([0-9]*\).*/\1/')
last=$(grep '"kind":"tick"' /tmp/replay.json | tail -1 | sed 's/.*"time_ns":\([0-9]*\).*/\1/')
echo "        $(grep -c '"kind":"tick"' /tmp/replay.json) ticks over $(((last - first) / 1000000000)) s"
check "it has all the time that the table dropped" [ "$(((last - first) / 1000000000))" -ge "$dropping" ]
recorded=$(grep -o '"drop":[0-9]*' /tmp/replay.json | tail -1 | cut -d: -f2)
echo "        the kernel's drops: $after; of the last tick: $recorded"
check "it has all packets that were dropped" [ "$recorded" = "$after" ]
check "it has the moment before" grep -q "\"drop\":$before[,}]" /tmp/replay.json

# The watchdog is there: one that stands still is ended, and started again.
kill -STOP "$pid"
restarted() {
    [ "$(show NRestarts)" = 1 ] && is_active && [ "$(show MainPID)" != "$pid" ]
}
check "a ctmon that stands still is started again" within 60 restarted

echo "        the VM stood still for $(cat /tmp/longest) s at the most"
if [ "$failed" != 0 ]; then
    [ "$(cat /tmp/longest)" -lt 2 ] || echo "        as long as WatchdogSec: try again on a host that is less busy"
    journalctl -u ctmon --no-pager -o short-monotonic | tail -60
fi
say "exit $failed"
sync
/usr/bin/busybox poweroff -f
