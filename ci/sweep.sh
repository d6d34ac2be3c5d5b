#!/usr/bin/env bash
# Kills a process at every instruction of every operation, on the release build (`cargo test --test sweep` takes a thinned
# choice of the instructions). SWEEP_STRIDE thins here too. Arguments are names of tests.
set -euo pipefail
cd "$(dirname "$0")/.."
export SWEEP_STRIDE="${SWEEP_STRIDE:-1}" RUST_BACKTRACE="${RUST_BACKTRACE:-0}"
set -x
cargo test --locked --release --test sweep -- --nocapture --test-threads 1 "$@"
