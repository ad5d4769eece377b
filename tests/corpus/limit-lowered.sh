# Held connections at 30 + 10 * SEED a second. 60 + 10 * SEED seconds after the first the limit is lowered from
# 10000 to 5000 + 500 * SEED.
RATE=$((30 + 10 * SEED)) LOW=$((5000 + 500 * SEED))
limit 10000
record
sleep 15
hold 127.0.0.3 $((LOW + 1000)) $RATE
sleep $((60 + 10 * SEED))
limit $LOW
until_dropped 240
