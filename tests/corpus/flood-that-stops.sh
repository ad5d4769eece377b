# 800 connections are held. After 30 s UDP datagrams without an answer at 150/s for 20 s, then none. 300 s more.
# Limit 5000.
limit 5000
record
sleep 10
hold 127.0.0.4 800 300
held 127.0.0.4
sleep 30
send udp 127.0.0.5 3000 150
sleep 20
phase "the flood is over"
sleep 300
never_full
