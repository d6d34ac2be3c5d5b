//! A process that does nothing, started and joined; also with much memory in use, which must not matter.

mod common;

use common::start;
use criterion::{Criterion, criterion_group};
use std::hint::black_box;

fn start_and_join(c: &mut Criterion) {
    let testing = !std::env::args().any(|a| a == "--bench");
    for (name, megabytes) in [("", 0), (", 500 MiB in use", 500)] {
        let megabytes = if testing { megabytes / 50 } else { megabytes };
        let ballast = start::ballast(megabytes << 20);
        let mut group = c.benchmark_group(format!("start and join{name}"));
        group.bench_function("multiprocess", |b| b.iter(start::ours));
        group.bench_function("Command, this program", |b| b.iter(start::command));
        group.bench_function("fork and wait", |b| b.iter(start::fork));
        group.finish();
        black_box(ballast);
    }
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = start_and_join
}

fn main() {
    start::exit_if_asked();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
