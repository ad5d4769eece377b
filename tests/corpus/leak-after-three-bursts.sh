# Three bursts of 20 % of the limit each, as fast as they go, 10 + 5 * SEED seconds apart, are held. Then held
# connections at 10 + 5 * SEED a second; the limit leaves room for 140 + 10 * SEED seconds of these.
RATE=$((10 + 5 * SEED)) MAX=$((RATE * (140 + 10 * SEED) * 100 / 40)) GAP=$((10 + 5 * SEED))
limit $MAX
record
sleep 15
for burst in 1 2 3; do
    hold 127.0.1.$burst $((MAX * 20 / 100))
    held 127.0.1.$burst
    sleep $GAP
done
hold 127.0.0.3 $MAX $RATE
until_dropped 240
