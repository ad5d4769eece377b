# 10 UDP datagrams a second all the time. Each 60 s a job of 1500 TCP connections at 75/s that are reset (entries of
# 10 s), three times. Then 300 s of quiet. Limit 2500.
limit 2500
record
send udp 127.0.0.5 4950 10
sleep 30
for job in 1 2 3; do
    send tcp 127.0.1.$job 1500 75 --to 127.0.0.1
    sleep 60
done
sleep 260
never_full
