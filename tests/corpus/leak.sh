# Held connections at 10 + 10 * SEED a second and nothing else, 15 s after the start of the recording.
MAX=$((3000 + 500 * SEED)) RATE=$((10 + 10 * SEED))
limit $MAX
record
sleep 15
hold 127.0.0.3 $((MAX + 500)) $RATE
until_dropped 300
