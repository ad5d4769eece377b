# 60 + 5 * SEED per cent of the limit are held, then held connections at 10 + 5 * SEED a second; the recording starts
# 10 s after the first of these.
MAX=$((4000 + 500 * SEED)) RATE=$((10 + 5 * SEED))
limit $MAX
hold 127.0.0.4 $((MAX * (60 + 5 * SEED) / 100)) 200
held 127.0.0.4
sleep 20
hold 127.0.0.3 $MAX $RATE
sleep 10
record
until_dropped 240
