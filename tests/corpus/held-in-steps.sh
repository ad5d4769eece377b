# Held connections are opened in 4 + SEED equal steps, one each 40 - 5 * SEED seconds; a step takes half of that time.
# The last step asks for 200 connections more than there is room for.
MAX=$((3000 + 1000 * SEED)) STEPS=$((4 + SEED)) GAP=$((40 - 5 * SEED))
limit $MAX
record
sleep 15
for step in $(seq $STEPS); do
    flows=$((MAX / STEPS)) rate=$((2 * MAX / STEPS / GAP))
    if [ "$step" = $STEPS ]; then flows=$((flows + 200)); fi
    hold 127.0.1.$step $flows $rate
    if [ "$step" != $STEPS ]; then sleep $GAP; fi
done
until_dropped 60
