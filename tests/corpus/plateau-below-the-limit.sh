# UDP datagrams without an answer at 100/s: their entries expire after 30 s and stay until the collector passes. The same
# traffic runs before, for 150 s: the limit is its highest number of entries divided by 0.95.
limit 20000
send udp 127.0.0.5 15000 100
highest 150
limit $((HIGHEST * 100 / 95))
# Until all of that has expired and is collected.
sleep 100
phase "begins"
record
sleep 10
send udp 127.0.0.7 33000 100
highest 325
never_full
