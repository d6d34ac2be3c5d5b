//! A pool at 100,000 trivial tasks, and at one at a time; beside it rayon between threads, a queue's round trip, and a process a
//! task.
//!
//! Figures are for one task. Two workers, as CPUs are two at least where this is looked at; `POOL_WORKERS` says another number.

mod common;

use common::start;
use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use multiprocess::{Pool, Queue, spawn};
use std::hint::black_box;
use std::sync::mpsc;

fn add_one(n: u64) -> u64 {
    n + 1
}

fn workers() -> usize {
    let number = std::env::var("POOL_WORKERS").ok();
    number.map_or(2, |number| number.parse().expect("a number"))
}

/// How many tasks: few in a test run.
fn tasks() -> u64 {
    if std::env::args().any(|a| a == "--bench") {
        100_000
    } else {
        1000
    }
}

fn many(c: &mut Criterion) {
    let (tasks, pool) = (tasks(), Pool::new(workers()).unwrap());
    let expected: u64 = (0..tasks).map(add_one).sum();
    let mut group = c.benchmark_group("many trivial tasks");
    group
        .throughput(Throughput::Elements(tasks))
        .sample_size(10);
    group.bench_function("map, chunks of 1", |b| {
        b.iter(|| {
            let results = pool.map_chunked(add_one, 0..tasks, 1).unwrap();
            assert_eq!(results.iter().sum::<u64>(), expected);
        });
    });
    group.bench_function("map", |b| {
        b.iter(|| {
            let results = pool.map(add_one, 0..tasks).unwrap();
            assert_eq!(results.iter().sum::<u64>(), expected);
        });
    });
    group.bench_function("imap", |b| {
        b.iter(|| {
            let results = pool.imap(add_one, 0..tasks);
            assert_eq!(results.flatten().sum::<u64>(), expected);
        });
    });
    group.bench_function("apply_async", |b| {
        b.iter(|| {
            let results: Vec<_> = (0..tasks).map(|n| pool.apply_async(add_one, n)).collect();
            let sum: u64 = results.iter().map(|result| result.get().unwrap()).sum();
            assert_eq!(sum, expected);
        });
    });
    let threads = rayon::ThreadPoolBuilder::new().num_threads(workers());
    let threads = threads.build().unwrap();
    group.bench_function("rayon, spawn and a channel", |b| {
        b.iter(|| {
            let (sender, results) = mpsc::channel();
            threads.in_place_scope(|scope| {
                for n in 0..tasks {
                    let sender = sender.clone();
                    scope.spawn(move |_| sender.send(add_one(black_box(n))).unwrap());
                }
                drop(sender);
                assert_eq!(results.iter().sum::<u64>(), expected);
            });
        });
    });
    group.finish();
}

fn echo((from, to): (Queue<u64>, Queue<u64>)) {
    for n in from.iter().flatten() {
        to.put(n + 1).unwrap();
    }
}

fn one(c: &mut Criterion) {
    let mut group = c.benchmark_group("one task at a time");
    let pool = Pool::new(1).unwrap();
    group.bench_function("apply", |b| b.iter(|| pool.apply(add_one, 1).unwrap()));
    drop(pool);
    let (there, back) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let worker = spawn(echo, (there.clone(), back.clone())).unwrap();
    group.bench_function("a queue's round trip", |b| {
        b.iter(|| {
            there.put(1).unwrap();
            back.get().unwrap()
        });
    });
    there.close();
    worker.join().unwrap();
    group.bench_function("a process a task", |b| {
        b.iter(|| spawn(add_one, 1).unwrap().join().unwrap());
    });
    group.finish();
}

fn hundred(c: &mut Criterion) {
    let mut group = c.benchmark_group("a hundred tasks, all told");
    group.sample_size(10);
    group.bench_function("a pool of five", |b| {
        b.iter_batched(
            || (),
            |()| {
                let pool = Pool::new(5).unwrap();
                assert_eq!(pool.map_chunked(add_one, 0..100, 1).unwrap().len(), 100);
                // Its end is not measured.
                pool
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a hundred processes", |b| {
        b.iter(|| {
            let all: Vec<_> = (0..100).map(|n| spawn(add_one, n).unwrap()).collect();
            for process in all {
                process.join().unwrap();
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = many, one, hundred
}

fn main() {
    start::exit_if_asked();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
