# UDP datagrams without an answer (entries of 30 s) at 30 + 10 * SEED a second and TCP connections that are reset
# (entries of 10 s) at 20 + 10 * SEED a second. After 60 s held connections at 15 + 5 * SEED a second beside them.
MAX=$((5400 + 1300 * SEED)) RATE=$((15 + 5 * SEED))
limit $MAX
record
send udp 127.0.0.5 1000000 $((30 + 10 * SEED))
send tcp 127.0.0.6 1000000 $((20 + 10 * SEED))
sleep 60
hold 127.0.0.3 $((MAX + 500)) $RATE
until_dropped 360
