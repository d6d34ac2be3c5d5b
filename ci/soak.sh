#!/usr/bin/env bash
# Processes at random work while one is killed every few milliseconds: at queues, in a pool, at locks, at pipes whose ends go around.
# SOAK_MESSAGES, STORM_SECONDS and PIPE_SOAK_KILLS each run, SOAK_RUNS runs; SOAK_SEED repeats a choice (each run prints its own).
set -euo pipefail
cd "$(dirname "$0")/.."
export SOAK_MESSAGES="${SOAK_MESSAGES:-1000000}" PIPE_SOAK_KILLS="${PIPE_SOAK_KILLS:-2000}"
runs="${1:-${SOAK_RUNS:-1}}"
soaks=(--test soak --test pool_soak --test lock_soak --test pipe_soak)
set -x
cargo test --locked --release "${soaks[@]}" --no-run
for ((run = 1; run <= runs; run++)); do
  cargo test --quiet --locked --release "${soaks[@]}" -- --nocapture
done
