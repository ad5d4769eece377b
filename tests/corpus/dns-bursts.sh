# 800 UDP datagrams without an answer at 400/s, once each 40 s, five times; 10 of them a second all the time. Then 300 s
# of only these. Limit 3000.
limit 3000
record
send udp 127.0.0.5 5150 10
sleep 15
for burst in 1 2 3 4 5; do
    send udp 127.0.1.$burst 800 400
    sleep 40
done
sleep 260
never_full
