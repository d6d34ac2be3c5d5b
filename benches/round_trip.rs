//! A number there and back: awake on two CPUs, asleep on one and on two.

mod common;

use common::exchange::{Meeting, cache_line, futex};
use common::machine::has_two_cpus;
use common::ours;
use common::rivals::{Kernel, crossbeam_exchange, kernel_exchange};
use common::team::Team;
use criterion::{Criterion, criterion_group, criterion_main};

fn round_trip(c: &mut Criterion) {
    let meetings = [
        (Meeting::OneCpu, "one cpu"),
        (Meeting::Apart, "two cpus"),
        (Meeting::Paused, "two cpus, asleep"),
    ];
    let usable = if has_two_cpus() { 3 } else { 1 };
    for (meeting, name) in &meetings[..usable] {
        let meeting = *meeting;
        let mut group = c.benchmark_group(format!("round trip/{name}"));
        let mut add = |name: &str, mut team: Team| {
            team.check(10);
            group.bench_function(name, |b| b.iter_custom(|n| team.time(n)));
        };
        add("multiprocess", ours::exchange(meeting));
        if meeting == Meeting::Apart {
            add("raw cache line", cache_line());
        }
        add("raw futex", futex(meeting));
        add("crossbeam", crossbeam_exchange(meeting));
        add("pipe", kernel_exchange(Kernel::Pipe, meeting));
        add("unix stream", kernel_exchange(Kernel::Stream, meeting));
    }
}

criterion_group! {
    name = benches;
    config = common::criterion();
    targets = round_trip
}
criterion_main!(benches);
