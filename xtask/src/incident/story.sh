# The table of a node fills.
connect() { ctmon-traffic tcp --hold --flows 1000000 --rate "$1" >/dev/null & }
# Nobody answers: such entries expire after 30 s.
query() { ctmon-traffic udp --flows "$2" --rate "$1" >/dev/null & }

phase "10 connections/s stay open, 60 queries/s expire in 30 s"
connect 10
query 60 1000000
sleep 120
phase "200 queries/s more, for 90 s"
query 200 18000
sleep 90
phase "the burst is over, 100 connections/s more stay"
connect 100
sleep 230
# What it said while all this went on.
cat /tmp/log
