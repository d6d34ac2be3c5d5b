#!/usr/bin/env bash
# The examples, as the README has them; two of them once undisturbed and once with a worker killed.
set -euo pipefail
cd "$(dirname "$0")/.."
set -x
cargo run --release --example hello
cargo run --release --example survive
cargo run --release --example channel -- src
cargo run --release --example tasks -- src
cargo run --release --example tasks -- src --kill-worker
cargo run --release --example frames
for name in tickets karaoke traffic_light shared_counter prefix_sums; do
  cargo run --release --example "$name"
done
cargo run --release --example tickets -- --kill
cargo run --release --example tickets -- --rush
cargo run --release --example requests -- "6 * 7" "1 / 0" "2 + 2"
cargo run --release --example echo
cargo run --release --example gather -- unsafe src >/dev/null
cargo run --release --example pipeline -- src
cargo run --release --example pipeline -- src --kill-worker
cargo run --release --example fetch
cargo run --release --example five_or_hundred
pool=$(mktemp -d)
trap 'rm -r "$pool"' EXIT
cargo run --release --example copy_tree -- src "$pool/src"
diff -r src "$pool/src"
cargo run --release --example mandelbrot -- "$pool/mandelbrot.ppm"
