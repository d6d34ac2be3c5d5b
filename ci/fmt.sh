#!/usr/bin/env bash
# Formatting as rustfmt has it.
set -euo pipefail
cd "$(dirname "$0")/.."
set -x
cargo fmt --all --check
