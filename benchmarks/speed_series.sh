#!/usr/bin/env bash
# The tables of docs/speed.md, one row after the other, on a quiet machine: about an hour on one
# core, nearly all of it stock's. JSON of every turn goes to runs/speed/.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1
mkdir -p runs/speed
step() { # name of the file, then the options of ppo_step.py
    local name=$1
    shift
    echo "== $name: $*"
    taskset -c 0 python benchmarks/ppo_step.py --repeats 5 --json "runs/speed/$name.json" "$@"
}
step tiny --shape tiny --repeats 15
step tiny-separate --shape tiny --repeats 15 --critic separate
step dialogpt-fp32-head --shape dialogpt-small
step dialogpt-fp32-separate --shape dialogpt-small --critic separate
step dialogpt-medium-head --shape dialogpt-small --matmul medium
step dialogpt-medium-separate --shape dialogpt-small --matmul medium --critic separate
step dialogpt-bf16-head --shape dialogpt-small --dtype bf16
step dialogpt-bf16-separate --shape dialogpt-small --dtype bf16 --critic separate
step blenderbot-fp32 --shape blenderbot-small
step blenderbot-medium --shape blenderbot-small --matmul medium
step blenderbot-bf16 --shape blenderbot-small --dtype bf16
python benchmarks/scaling.py --shape tiny --figure docs/figures/scaling.svg
