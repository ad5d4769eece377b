# 3000 connections are held by two processes. After 60 s one half is closed (TIME_WAIT, 120 s) and opened to another
# address at 100/s; 300 s after that the recording ends. Limit 5500.
limit 5500
record
sleep 10
hold 127.0.0.4 1500 300
held 127.0.0.4
hold 127.0.0.5 1500 300
half=$HELD
held 127.0.0.5
sleep 60
kill $half
phase "half is closed"
ctmon-traffic tcp --hold --from 127.0.0.6 --to 127.0.0.2 --flows 1500 --rate 100 >/tmp/moved 2>&1 &
sleep 315
never_full
