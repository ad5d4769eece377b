# SYNs that nobody answers (entries of 120 s) at 25/s for 40 s, then none for 40 s, three times; 5 UDP datagrams a
# second all the time. Then 300 s without SYNs. Limit 4500.
limit 4500
record
send udp 127.0.0.5 2700 5
sleep 15
for on in 1 2 3; do
    send tcp 127.0.1.$on 1000 25 --to 127.0.0.9 --exchange syn
    sleep 80
done
sleep 260
never_full
