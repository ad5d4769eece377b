# UDP datagrams without an answer at 60/s: their entries expire after 30 s. The hash has 256 buckets: lookups meet most expired
# entries and remove them, so that the level stays nearly the same, as on a busy node. The same traffic runs before, for 120 s:
# the limit is its highest number of entries divided by 0.95.
echo 256 >/proc/sys/net/netfilter/nf_conntrack_buckets
limit 20000
send udp 127.0.0.6 7200 60
highest 120
limit $((HIGHEST * 100 / 95))
sleep 100
phase "begins"
record
sleep 10
send udp 127.0.0.7 19800 60
highest 325
never_full
