#!/usr/bin/env bash
# All tests, as the README has it: unit, integration, documentation, kill sweeps (sampled), soak (short).
set -euo pipefail
cd "$(dirname "$0")/.."
set -x
cargo test
