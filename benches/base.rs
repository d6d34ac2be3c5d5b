//! What this machine costs in this run: a cache line and a futex between two processes, copying memory.

mod common;

use common::copy;
use common::exchange::{Meeting, cache_line, futex};
use common::machine::has_two_cpus;
use common::team::Team;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("base/round trip");
    let mut add = |name: &str, mut team: Team| {
        team.check(10);
        group.bench_function(name, |b| b.iter_custom(|n| team.time(n)));
    };
    add("futex, one cpu", futex(Meeting::OneCpu));
    if has_two_cpus() {
        add("cache line", cache_line());
        add("futex, two cpus", futex(Meeting::Apart));
        add("futex, two cpus, asleep", futex(Meeting::Paused));
    }
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("base/copy 1 MiB in and out");
    group.throughput(Throughput::Bytes(copy::LARGE as u64));
    group.bench_function("one process", |b| b.iter_custom(copy::alone));
    if has_two_cpus() {
        let mut team = copy::by_two();
        team.check(20);
        group.bench_function("two processes", |b| b.iter_custom(|n| team.time(n)));
    }
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = round_trip, memory
}
criterion_main!(benches);
