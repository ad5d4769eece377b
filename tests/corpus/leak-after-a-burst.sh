# A burst of 60 % of the limit, as fast as it goes, is held. 20 s after it held connections at 10 + 5 * SEED a second;
# the limit leaves room for 140 + 10 * SEED seconds of these.
RATE=$((10 + 5 * SEED)) MAX=$((RATE * (140 + 10 * SEED) * 100 / 40))
limit $MAX
record
sleep 15
hold 127.0.0.4 $((MAX * 60 / 100))
held 127.0.0.4
sleep 20
hold 127.0.0.3 $MAX $RATE
until_dropped 240
