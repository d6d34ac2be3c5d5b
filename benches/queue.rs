//! Messages one way through a queue, beside the kernel's channels between processes and crossbeam-channel between
//! threads.

mod common;

use common::copy::{self, LARGE};
use common::message::{Block, Heap, Message};
use common::rivals::{Kernel, crossbeam, kernel};
use common::team::Team;
use common::{CAPACITY, CAPACITY_LARGE, ours};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use serde_bytes::ByteArray;

fn add(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, pairs: u8, mut team: Team) {
    team.check(20);
    group.bench_function(name, |b| {
        b.iter_custom(|n| team.time(n.div_ceil(pairs.into())))
    });
}

fn add_kernel<M: Message>(group: &mut BenchmarkGroup<'_, WallTime>, kinds: &[Kernel]) {
    for kind in kinds {
        add(group, kind.name(), 1, kernel::<M>(*kind));
    }
}

const KINDS: [Kernel; 3] = [Kernel::Pipe, Kernel::Stream, Kernel::SeqPacket];

fn number(c: &mut Criterion) {
    for pairs in [1, 2, 4] {
        let mut group = c.benchmark_group(format!("queue/u64, {pairs} to {pairs}"));
        group.throughput(Throughput::Elements(1));
        add(
            &mut group,
            "multiprocess",
            pairs,
            ours::queue::<u64>(pairs, CAPACITY),
        );
        add(
            &mut group,
            "crossbeam",
            pairs,
            crossbeam::<u64>(pairs, CAPACITY),
        );
        if pairs == 1 {
            add_kernel::<u64>(&mut group, &KINDS);
        }
    }
}

fn small(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue/64 B");
    group.throughput(Throughput::Bytes(64));
    add(
        &mut group,
        "multiprocess",
        1,
        ours::queue::<ByteArray<64>>(1, CAPACITY),
    );
    add(
        &mut group,
        "multiprocess, Vec",
        1,
        ours::queue::<Heap<64>>(1, CAPACITY),
    );
    add(
        &mut group,
        "crossbeam",
        1,
        crossbeam::<ByteArray<64>>(1, CAPACITY),
    );
    add_kernel::<ByteArray<64>>(&mut group, &KINDS);
}

fn medium(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue/1 KiB");
    group.throughput(Throughput::Bytes(1024));
    add(
        &mut group,
        "multiprocess",
        1,
        ours::queue::<Block<1024>>(1, CAPACITY),
    );
    add(
        &mut group,
        "crossbeam, Vec",
        1,
        crossbeam::<Heap<1024>>(1, CAPACITY),
    );
    add_kernel::<Block<1024>>(&mut group, &KINDS);
}

fn large(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue/1 MiB");
    group.throughput(Throughput::Bytes(LARGE as u64));
    let queue = ours::queue::<Block<LARGE>>(1, CAPACITY_LARGE);
    add(&mut group, "multiprocess", 1, queue);
    let threads = crossbeam::<Heap<LARGE>>(1, CAPACITY_LARGE);
    add(&mut group, "crossbeam, Vec", 1, threads);
    add_kernel::<Block<LARGE>>(&mut group, &KINDS[..2]); // a packet of 1 MiB needs privileges
    group.bench_function("memcpy, in and out", |b| b.iter_custom(copy::alone));
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = number, small, medium, large
}
criterion_main!(benches);
