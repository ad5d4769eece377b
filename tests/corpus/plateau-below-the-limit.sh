# 2400 connections are held. After 40 s UDP datagrams without an answer at 50/s: their entries expire after 30 s and
# stay until the collector passes. Limit 5200.
limit 5200
record
sleep 10
hold 127.0.0.4 2400 300
held 127.0.0.4
sleep 30
send udp 127.0.0.5 16500 50
sleep 330
