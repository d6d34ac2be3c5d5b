#!/usr/bin/env bash
# Lints: those of Cargo.toml, and where atomics may be named (clippy.toml).
set -euo pipefail
cd "$(dirname "$0")/.."
set -x
cargo clippy --locked --all-targets -- -D warnings
