#!/usr/bin/env bash
# The models of the rings and of waiting (modules named `models`), in loom. LOOM_MAX_PREEMPTIONS bounds the search: 2
# takes moments, 3 is what CI runs, more is for a night. Builds beside the rest: `--cfg loom` reaches every dependency.
set -euo pipefail
cd "$(dirname "$0")/.."
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"
export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
set -x
models=$(cargo test --locked --release --lib -- --list models | grep -c ': test$')
[ "$models" -gt 0 ]
cargo test --locked --release --lib models
