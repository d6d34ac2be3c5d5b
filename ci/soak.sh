#!/usr/bin/env bash
# Processes at random work while one is killed every few milliseconds: at queues, in a pool, and at locks (STORM_SECONDS). SOAK_MESSAGES each run, SOAK_RUNS runs; SOAK_SEED
# repeats a choice (each run prints its own).
set -euo pipefail
cd "$(dirname "$0")/.."
export SOAK_MESSAGES="${SOAK_MESSAGES:-1000000}"
runs="${1:-${SOAK_RUNS:-1}}"
set -x
cargo test --locked --release --test soak --test pool_soak --test lock_soak --no-run
for ((run = 1; run <= runs; run++)); do
  cargo test --quiet --locked --release --test soak --test pool_soak --test lock_soak -- --nocapture
done
