#!/usr/bin/env bash
# The documentation builds, and its links lead somewhere. (Its examples run with the tests.)
set -euo pipefail
cd "$(dirname "$0")/.."
set -x
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
