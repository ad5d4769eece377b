# A node with a daemon that is scraped. A line `phase: ...` on the output says what begins.
ip addr add $ADDRESS/24 dev eth0
ip link set eth0 up
# Tracking begins with a rule that needs it. The daemon's own connections are not tracked: it is asked while the table
# is full, too.
nft -f - <<RULES
table ip incident {
    chain prerouting { type filter hook prerouting priority raw; tcp dport $PORT notrack; }
    chain output { type filter hook output priority raw; tcp sport $PORT notrack; }
    chain track { type filter hook output priority filter; ct state new counter; }
}
RULES
sysctl -q -w net.netfilter.nf_conntrack_max=20000
ctmon serve --source ebpf --listen $ADDRESS:$PORT --log-format text 2>/tmp/log &
until wget -qO /dev/null http://$ADDRESS:$PORT/readyz; do sleep 1; done 2>/dev/null

phase() { echo "phase: $1"; }
