# 300 connections are opened at 30/s, stay for 15 s and are closed, which leaves entries in TIME_WAIT for 120 s, and
# so on for 180 s; then 300 s of rest. Limit 5000.
limit 5000
record
sleep 10
for round in $(seq 12); do
    hold 127.0.1.$round 300 30
    closing=$HELD
    sleep 15
    kill $closing
done
phase "all closed"
sleep 300
never_full
