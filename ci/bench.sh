#!/usr/bin/env bash
# Each benchmark once, unmeasured, so that none of them rots. Figures come from `cargo bench`.
set -euo pipefail
cd "$(dirname "$0")/.."
set -x
cargo test --locked --benches
