#!/usr/bin/env bash
# The library builds with the oldest Rust that Cargo.toml names, where that toolchain is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
msrv=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
if ! cargo "+$msrv" --version 2>/dev/null; then
  echo "msrv: Rust $msrv is not installed (rustup toolchain install $msrv); skipped"
  exit 0
fi
set -x
cargo "+$msrv" check --locked --lib --target-dir target/msrv
