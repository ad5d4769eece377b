# UDP datagrams without an answer at 60/s: their entries expire after 30 s and stay until the collector passes. The same
# traffic runs twice before, for 60 s and for 150 s, each time until 100 s after its end: how often the collector passes depends
# on what was there before. The limit is the highest number of entries of the second time, divided by 0.95.
limit 20000
send udp 127.0.0.5 3600 60
sleep 160
send udp 127.0.0.6 9000 60
highest 150
limit $((HIGHEST * 100 / 95))
sleep 100
phase "begins"
record
sleep 10
send udp 127.0.0.7 19800 60
highest 325
never_full
