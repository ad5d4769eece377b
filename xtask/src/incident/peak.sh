# The table of a node is nearly full for two seconds, three times.
peak() {
    phase "$1"
    ctmon-traffic udp --flows 15000 >/dev/null
    sleep 1
    conntrack -F 2>/dev/null
}
sleep 70
peak "first peak"
sleep 70
peak "second peak"
sleep 83
peak "third peak"
sleep 70
cat /tmp/log
