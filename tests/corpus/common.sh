# Runs in a VM before the script of each kind. SEED comes from the command. Traffic is loopback traffic of the VM.
ip link set lo up
nft -f - <<RULES
table ip corpus {
    chain out { type filter hook output priority 0; ct state new counter; }
    chain in { type filter hook input priority 0; tcp dport 5200-5299 ip daddr 127.0.0.9 drop; }
}
RULES

# Seconds since the VM started, whole.
now() { cut -d. -f1 /proc/uptime; }
# Progress line with the time and the number of entries.
phase() { echo "$(now) s, $(cat /proc/sys/net/netfilter/nf_conntrack_count) entries: $*"; }
limit() { echo "$1" >/proc/sys/net/netfilter/nf_conntrack_max; phase "limit $1"; }

# hold ADDRESS FLOWS [RATE]: TCP connections that stay open. HELD is the process that holds them.
hold() {
    ctmon-traffic tcp --hold --from "$1" --to 127.0.0.1 --flows "$2" ${3:+--rate "$3"} >/tmp/held-"$1" 2>&1 &
    HELD=$!
    phase "hold $2 connections${3:+, $3/s}"
}
# held ADDRESS: waits until all its connections are open, at most 120 s.
held() { for _ in $(seq 120); do [ -s /tmp/held-"$1" ] && break; sleep 1; done; phase "held"; }
# send PROTOCOL ADDRESS FLOWS RATE [OPTION...]: flows that are not held.
send() {
    protocol=$1 from=$2 flows=$3 rate=$4
    shift 4
    ctmon-traffic "$protocol" --from "$from" --flows "$flows" --rate "$rate" "$@" >/tmp/sent-"$from" 2>&1 &
    phase "send $flows $protocol flows, $rate/s"
}

# record: starts the recording; it lasts 900 s at most.
record() {
    ctmon record --source ebpf --for 900s /tmp/recording.mcap 2>/tmp/record.log &
    RECORDER=$!
    sleep 3
    phase "recording"
}
# statistic NAME: a counter of the kernel, the sum over the processors.
statistic() {
    column=$(head -n 1 /proc/net/stat/nf_conntrack | tr -s ' ' '\n' | grep -n "^$1\$" | cut -d: -f1)
    sum=0
    for value in $(tail -n +2 /proc/net/stat/nf_conntrack | tr -s ' ' | sed 's/^ //' | cut -d' ' -f"$column"); do
        sum=$((sum + 0x$value))
    done
    echo "$sum"
}
# Packets that the kernel dropped because the table was full.
dropped() { statistic drop; }
# never_full: a recording of a table that was full is no recording of a kind that does not fill.
never_full() {
    if [ "$(dropped)" = 0 ] && [ "$(statistic early_drop)" = 0 ]; then return; fi
    echo "FAILED: the table was full"
    exit 1
}
# highest SECONDS: waits so long; HIGHEST is then the highest number of entries, looked at each half second.
highest() {
    HIGHEST=0
    for _ in $(seq $((2 * $1))); do
        entries=$(cat /proc/sys/net/netfilter/nf_conntrack_count)
        if [ "$entries" -gt "$HIGHEST" ]; then HIGHEST=$entries; fi
        sleep 0.5
    done
    phase "at most $HIGHEST entries"
}
# until_dropped SECONDS: waits for the first dropped packet, at most so long, and 8 s more.
until_dropped() {
    for _ in $(seq "$1"); do
        if [ "$(dropped)" -gt 0 ]; then phase "dropped"; sleep 8; return; fi
        sleep 1
    done
    echo "FAILED: nothing was dropped within $1 s"
    exit 1
}
# Ends the recording and hands it out, see xtask/src/files.rs.
finish() {
    kill -TERM $RECORDER
    wait $RECORDER
    cat /tmp/record.log
    phase "dropped packets: $(dropped)"
    xxd -p -c 512 /tmp/recording.mcap | tr -d '\r' | awk '{ print "file recording.mcap", (NR - 1) * 512, $0 }'
    echo "bytes: $(wc -c </tmp/recording.mcap)"
}
