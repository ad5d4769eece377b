# A table that fills: tracking begins with a rule that needs it, and UDP to the loopback makes one entry a flow.
nft add table ip demo
nft add chain ip demo out '{ type filter hook output priority 0; }'
nft add rule ip demo out ct state new counter
sysctl -q -w net.netfilter.nf_conntrack_max=20000
ctmon-traffic udp --flows 100000 --rate 1000 >/tmp/traffic 2>&1 &
