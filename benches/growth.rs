//! How costs grow: with many queues, many members and many deaths. They should not.

mod common;

use common::growth::{Idle, kill, make_and_drop, put_and_get, queue};
use criterion::{Criterion, criterion_group, criterion_main};

/// The full number for a bench, a small one for a test.
fn many(count: usize) -> usize {
    if std::env::args().any(|a| a == "--bench") {
        count
    } else {
        count / 100 + 2
    }
}

fn queues(c: &mut Criterion) {
    let mut group = c.benchmark_group("make and drop a queue");
    for at_once in [1, 100, 10_000] {
        let count = many(at_once);
        group.bench_function(format!("of {at_once}"), |b| {
            b.iter_custom(|n| {
                let total = make_and_drop(count).mul_f64(1.0 / count as f64);
                let rest = (1..n).map(|_| make_and_drop(count).mul_f64(1.0 / count as f64));
                rest.fold(total, |sum, time| sum + time)
            })
        });
    }
}

fn members(c: &mut Criterion) {
    let mut group = c.benchmark_group("put and get");
    let queue = queue();
    group.bench_function("first", |b| b.iter_custom(|n| put_and_get(&queue, n)));
    let idle = Idle::start(many(64));
    group.bench_function("64 members", |b| b.iter_custom(|n| put_and_get(&queue, n)));
    drop(idle);
    kill(&queue, many(1000));
    group.bench_function("after 1000 kills", |b| {
        b.iter_custom(|n| put_and_get(&queue, n))
    });
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = queues, members
}
criterion_main!(benches);
