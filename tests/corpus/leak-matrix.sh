# A cell of the matrix: BURSTS bursts of BURST held connections each, as fast as they go, 10 s apart; then held
# connections at RATE a second. The recording starts before all of it, or, with LATE above 0, LATE seconds after the
# first leaked connection.
limit $MAX
if [ "$LATE" = 0 ]; then record; fi
sleep 15
for burst in $(seq $BURSTS); do
    hold 127.0.1.$burst $BURST
    held 127.0.1.$burst
    sleep 10
done
sleep 10
hold 127.0.0.3 $((MAX + 500)) $RATE
if [ "$LATE" != 0 ]; then sleep $LATE; record; fi
until_dropped 300
