//! The table of ratios: what this crate costs beside what a user would pick instead, and beside the machine itself.
//!
//! `cargo bench --bench ratios` prints it in about two minutes; `cargo bench --bench ratios -- 4to4 start` only the cases
//! whose names contain one of the words. The two sides of a case take turns and their medians are compared, since
//! absolute figures of two runs do not compare. Without `--bench` (under `cargo test --benches`) all cases run once,
//! shortly.

mod common;

use common::copy::{self, LARGE};
use common::exchange::{Meeting, cache_line, futex};
use common::growth::{self, Idle};
use common::machine::{cpus, has_two_cpus};
use common::message::{Block, Heap, Message};
use common::rivals::{
    Kernel, crossbeam, crossbeam_exchange, crossbeam_unbounded, kernel, kernel_exchange,
};
use common::team::Team;
use common::whole::{self, Plain};
use common::{CAPACITY, CAPACITY_LARGE, ours, pipes, start};
use serde_bytes::ByteArray;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What is promised for a case.
#[derive(Clone, Copy, Debug)]
enum Bar {
    /// At least so much: the rival's time divided by ours.
    Speed(f64),
    /// At most so much: our time divided by the rival's.
    Cost(f64),
    /// Nothing, but the rival's time divided by ours is told.
    AnySpeed,
    /// Nothing, but our time divided by the rival's is told.
    AnyCost,
}

use Bar::{AnyCost, AnySpeed, Cost, Speed};

/// One side of a case: nanoseconds for one message, round trip, process...
type Side<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// How thoroughly to measure, and what came of it.
#[derive(Debug)]
struct Table {
    full: bool,
    /// Samples a side.
    samples: usize,
    /// How long one sample takes.
    sample_time: Duration,
    words: Vec<String>,
    failed: bool,
    missed: u32,
}

fn main() -> ExitCode {
    start::exit_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|a| a == "--bench");
    let mut table = Table {
        full,
        samples: if full { 15 } else { 1 },
        sample_time: Duration::from_millis(if full { 80 } else { 1 }),
        words: arguments
            .into_iter()
            .filter(|a| !a.starts_with('-'))
            .collect(),
        failed: false,
        missed: 0,
    };
    table.base();
    table.head();
    table.throughput();
    table.plain_and_batches();
    table.large();
    table.in_place();
    table.round_trips();
    table.pipes();
    table.processes();
    table.growth();
    table.foot();
    ExitCode::from(u8::from(table.failed))
}

/// So many nanoseconds, to be read.
fn readable(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.1} ns"),
        _ if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Table {
    fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// `count` for the table, a small one for a test.
    fn many(&self, count: usize) -> usize {
        if self.full { count } else { count / 100 + 2 }
    }

    /// Something that is timed `n` times in a row, with an `n` that gives a sample the right length.
    fn timed<'a>(&self, mut time: impl FnMut(u64) -> Duration + 'a) -> Side<'a> {
        let aim = self.sample_time;
        let mut n = 1u64;
        loop {
            let begin = Instant::now();
            time(n);
            let spent = begin.elapsed();
            if spent >= aim / 4 {
                n = ((n as f64 * aim.as_secs_f64() / spent.as_secs_f64()) as u64).max(1);
                break;
            }
            n *= 2;
        }
        Box::new(move || time(n).as_nanos() as f64 / n as f64)
    }

    /// A team that has checked its messages and is warm.
    fn team<'a>(&self, pairs: u8, mut team: Team) -> Side<'a> {
        team.check(if self.full { 2000 } else { 20 });
        let mut side = self.timed(move |n| team.time(n));
        Box::new(move || side() / f64::from(pairs))
    }

    /// A team of two whose messages are slow.
    fn slow<'a>(&self, mut team: Team) -> Side<'a> {
        team.check(20);
        self.timed(move |n| team.time(n))
    }

    fn head(&self) {
        println!(
            "\n{:<24} {:>10}   {:<24} {:>10}   {:>6} {:>15}   bar",
            "case", "ours", "beside", "", "ratio", "(range)"
        );
    }

    /// Measures a case and prints its line.
    fn case<'a>(
        &mut self,
        name: &str,
        bar: Bar,
        rival: &str,
        sides: impl FnOnce(&Self) -> (Side<'a>, Side<'a>),
    ) {
        if !self.wants(name) {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let (mut ours, mut theirs) = sides(self);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for i in 0..self.samples {
                // The order changes too, so that whatever drifts does not favour one side.
                if i % 2 == 0 {
                    a.push(ours());
                    b.push(theirs());
                } else {
                    b.push(theirs());
                    a.push(ours());
                }
            }
            (a, b)
        }));
        self.report(name, bar, rival, outcome.ok());
    }

    /// Prints the line of a case from the samples of both sides, if it did not fail.
    fn report(&mut self, name: &str, bar: Bar, rival: &str, samples: Option<(Vec<f64>, Vec<f64>)>) {
        let Some((mut ours, mut theirs)) = samples else {
            self.failed = true;
            println!("{name:<24} failed");
            return;
        };
        let ratio = |ours: f64, theirs: f64| match bar {
            Speed(_) | AnySpeed => theirs / ours,
            Cost(_) | AnyCost => ours / theirs,
        };
        let mut range: Vec<f64> = ours
            .iter()
            .zip(&theirs)
            .map(|(a, b)| ratio(*a, *b))
            .collect();
        range.sort_by(f64::total_cmp);
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        let reached = ratio(ours, theirs);
        let (met, bar) = match bar {
            Speed(least) => (reached >= least, format!("speed >= {least}")),
            Cost(most) => (reached <= most, format!("cost <= {most}")),
            AnySpeed => (true, "speed".to_owned()),
            AnyCost => (true, "cost".to_owned()),
        };
        let met = met || !self.full; // one short sample says nothing
        self.missed += u32::from(!met);
        println!(
            "{name:<24} {:>10}   {rival:<24} {:>10}   {reached:>6.2} {:>15}   {bar}{}",
            readable(ours),
            readable(theirs),
            format!("({:.2}-{:.2})", range[0], range[range.len() - 1]),
            if met { "" } else { "  MISSED" },
        );
    }

    fn foot(&self) {
        if self.full {
            println!(
                "\nTimes are medians of {} samples of about {} ms; the ratio is the quotient of the medians, the range that of the pairs. {} bars missed.",
                self.samples,
                self.sample_time.as_millis(),
                self.missed,
            );
        }
    }

    /// What the machine costs in this run.
    fn base(&self) {
        let say = |name: &str, mut side: Side<'_>| {
            let mut values: Vec<f64> = (0..self.samples).map(|_| side()).collect();
            let middle = median(&mut values);
            let last = values[values.len() - 1];
            println!(
                "{name:<48} {:>10}   ({} - {})",
                readable(middle),
                readable(values[0]),
                readable(last)
            );
        };
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        println!("base case, CPUs {:?}, load before {load}", cpus());
        if has_two_cpus() {
            say("cache line, there and back", self.slow(cache_line()));
        }
        say(
            "futex, there and back, one CPU",
            self.slow(futex(Meeting::OneCpu)),
        );
        if has_two_cpus() {
            let asleep = self.slow(futex(Meeting::Paused));
            say("futex, there and back, two CPUs, asleep", asleep);
        }
        say("memcpy of 1 MiB, in and out", self.timed(copy::alone));
        if has_two_cpus() {
            let two = self.slow(copy::by_two());
            say("the same by two processes in turn", two);
        }
    }

    fn throughput(&mut self) {
        let queue = ours::queue::<u64>;
        self.case("u64 1to1", Speed(1.0), "crossbeam threads", |t| {
            let rival = crossbeam::<u64>(1, CAPACITY);
            (t.team(1, queue(1, CAPACITY)), t.team(1, rival))
        });
        self.case("u64 1to1, unbounded", AnySpeed, "crossbeam threads", |t| {
            (
                t.team(1, ours::unbounded::<u64>(1)),
                t.team(1, crossbeam_unbounded::<u64>(1)),
            )
        });
        self.case("u64 1to1, unbounded", AnySpeed, "its own, bounded", |t| {
            (
                t.team(1, ours::unbounded::<u64>(1)),
                t.team(1, queue(1, CAPACITY)),
            )
        });
        self.case("u64 2to2", AnySpeed, "crossbeam threads", |t| {
            let rival = crossbeam::<u64>(2, CAPACITY);
            (t.team(2, queue(2, CAPACITY)), t.team(2, rival))
        });
        self.case("u64 4to4", Speed(1.0), "crossbeam threads", |t| {
            let rival = crossbeam::<u64>(4, CAPACITY);
            (t.team(4, queue(4, CAPACITY)), t.team(4, rival))
        });
        self.case("u64 4to4, own", Speed(0.5), "our own 1to1", |t| {
            let alone = queue(1, CAPACITY);
            (t.team(4, queue(4, CAPACITY)), t.team(1, alone))
        });
        type Small = ByteArray<64>;
        self.case("64B 1to1", Speed(8.0), "pipe", |t| {
            let rival = kernel::<Small>(Kernel::Pipe);
            let ours = ours::queue::<Small>(1, CAPACITY);
            (t.team(1, ours), t.team(1, rival))
        });
        self.case("64B 1to1, Vec", Speed(8.0), "pipe", |t| {
            let rival = kernel::<Small>(Kernel::Pipe);
            let ours = ours::queue::<Heap<64>>(1, CAPACITY);
            (t.team(1, ours), t.team(1, rival))
        });
        for kind in [Kernel::Stream, Kernel::SeqPacket] {
            self.case("64B 1to1", AnySpeed, kind.name(), |t| {
                let ours = ours::queue::<Small>(1, CAPACITY);
                (t.team(1, ours), t.team(1, kernel::<Small>(kind)))
            });
        }
        self.case("64B 1to1", AnySpeed, "crossbeam threads", |t| {
            let rival = crossbeam::<Small>(1, CAPACITY);
            let ours = ours::queue::<Small>(1, CAPACITY);
            (t.team(1, ours), t.team(1, rival))
        });
        self.case("1KiB 1to1", AnySpeed, "pipe", |t| {
            let rival = kernel::<Block<1024>>(Kernel::Pipe);
            let ours = ours::queue::<Block<1024>>(1, CAPACITY);
            (t.team(1, ours), t.team(1, rival))
        });
        self.case("1KiB 1to1", AnySpeed, "crossbeam threads, Vec", |t| {
            let rival = crossbeam::<Heap<1024>>(1, CAPACITY);
            let ours = ours::queue::<Block<1024>>(1, CAPACITY);
            (t.team(1, ours), t.team(1, rival))
        });
    }

    fn plain_and_batches(&mut self) {
        type Small = ByteArray<64>;
        self.case("64B 1to1, Pod", Speed(8.0), "pipe", |t| {
            let rival = kernel::<Small>(Kernel::Pipe);
            (t.team(1, whole::plain(CAPACITY)), t.team(1, rival))
        });
        self.case("64B 1to1, Pod", Speed(1.0), "crossbeam threads", |t| {
            let rival = crossbeam::<Plain>(1, CAPACITY);
            (t.team(1, whole::plain(CAPACITY)), t.team(1, rival))
        });
        type Make = fn(usize) -> Team;
        let kinds: [(&str, Make); 2] = [
            ("64B batches of 64", whole::batches::<Small>),
            ("64B batches of 64, Pod", whole::plain_batches),
        ];
        for (name, ours) in kinds {
            self.case(name, Speed(20.0), "pipe, one by one", |t| {
                let rival = kernel::<Small>(Kernel::Pipe);
                (t.team(1, ours(CAPACITY)), t.team(1, rival))
            });
            self.case(name, Speed(2.0), "crossbeam, one by one", |t| {
                let rival = crossbeam::<Small>(1, CAPACITY);
                (t.team(1, ours(CAPACITY)), t.team(1, rival))
            });
        }
    }

    fn in_place(&mut self) {
        let place = |len| whole::in_place(len, CAPACITY_LARGE);
        self.case("1KiB in place", AnySpeed, "copied", |t| {
            let copied = whole::copied(1024, CAPACITY_LARGE);
            (t.slow(place(1024)), t.slow(copied))
        });
        self.case("1MiB in place", AnySpeed, "copied", |t| {
            (
                t.slow(place(LARGE)),
                t.slow(whole::copied(LARGE, CAPACITY_LARGE)),
            )
        });
        for (name, len) in [("1MiB in place", LARGE), ("64MiB in place", 64 * LARGE)] {
            self.case(name, Cost(1.5), "1KiB in place", |t| {
                (t.slow(place(len)), t.slow(place(1024)))
            });
        }
        self.case("1MiB copied", Speed(1.5), "unix seqpacket", |t| {
            let rival = kernel::<Block<LARGE>>(Kernel::SeqPacket);
            (t.slow(whole::copied(LARGE, CAPACITY_LARGE)), t.slow(rival))
        });
    }

    fn large(&mut self) {
        let queue = || ours::queue::<Block<LARGE>>(1, CAPACITY_LARGE);
        self.case("1MiB 1to1", Speed(0.7), "memcpy in and out", |t| {
            (t.slow(queue()), t.timed(copy::alone))
        });
        if has_two_cpus() {
            self.case("1MiB 1to1", AnySpeed, "memcpy by two", |t| {
                (t.slow(queue()), t.slow(copy::by_two()))
            });
        }
        self.case("1MiB 1to1", AnySpeed, "pipe (1 MiB)", |t| {
            let rival = kernel::<Block<LARGE>>(Kernel::Pipe);
            (t.slow(queue()), t.slow(rival))
        });
        self.case("1MiB 1to1", AnySpeed, "crossbeam threads, Vec", |t| {
            let rival = crossbeam::<Heap<LARGE>>(1, CAPACITY_LARGE);
            (t.slow(queue()), t.slow(rival))
        });
    }

    fn pipes(&mut self) {
        type Small = ByteArray<64>;
        self.case("pipe u64", Speed(0.8), "rtrb threads", |t| {
            let rival = pipes::rtrb::<u64>();
            (t.team(1, pipes::items::<u64>()), t.team(1, rival))
        });
        self.case("pipe 64B", Speed(0.8), "rtrb threads", |t| {
            let rival = pipes::rtrb::<Small>();
            (t.team(1, pipes::bytes::<Small>(None)), t.team(1, rival))
        });
        self.case("pipe 64B", Speed(15.0), "pipe", |t| {
            let rival = kernel::<Small>(Kernel::Pipe);
            (t.team(1, pipes::bytes::<Small>(None)), t.team(1, rival))
        });
        self.case("pipe 64B, value", AnySpeed, "rtrb threads", |t| {
            let rival = pipes::rtrb::<Small>();
            (t.team(1, pipes::items::<Small>()), t.team(1, rival))
        });
        self.pipe_beside::<u64>("pipe 8B");
        self.pipe_beside::<Small>("pipe 64B");
        self.pipe_beside::<Block<1024>>("pipe 1KiB");
        self.pipe_beside::<Block<65536>>("pipe 64KiB");
        self.pipe_beside::<Block<LARGE>>("pipe 1MiB");
        self.case("pipe 1MiB", Speed(0.8), "memcpy in and out", |t| {
            let ours = pipes::bytes::<Block<LARGE>>(None);
            (t.slow(ours), t.timed(copy::alone))
        });
        self.case("pipe 1MiB in place", Cost(1.5), "64KiB in place", |t| {
            let (ours, rival) = (pipes::in_place(LARGE), pipes::in_place(1 << 16));
            (t.slow(ours), t.slow(rival))
        });
        self.case("pipe round trip, one CPU", AnyCost, "pipe", |t| {
            let rival = kernel_exchange(Kernel::Pipe, Meeting::OneCpu);
            (t.slow(pipes::exchange(Meeting::OneCpu)), t.slow(rival))
        });
        if has_two_cpus() {
            self.case("pipe round trip, awake", Cost(2.0), "raw cache line", |t| {
                let ours = pipes::exchange(Meeting::Apart);
                (t.slow(ours), t.slow(cache_line()))
            });
            self.case("pipe round trip, asleep", AnyCost, "pipe", |t| {
                let rival = kernel_exchange(Kernel::Pipe, Meeting::Paused);
                (t.slow(pipes::exchange(Meeting::Paused)), t.slow(rival))
            });
        }
    }

    /// Bytes of one size beside what else carries them.
    fn pipe_beside<M: Message>(&mut self, name: &str) {
        for kind in [Kernel::Pipe, Kernel::Stream, Kernel::SeqPacket] {
            self.case(name, AnySpeed, kind.name(), |t| {
                (t.slow(pipes::bytes::<M>(None)), t.slow(kernel::<M>(kind)))
            });
        }
        self.case(name, AnySpeed, "crossbeam threads", |t| {
            let rival = crossbeam::<M>(1, CAPACITY_LARGE.max(CAPACITY * 64 / M::LEN.max(64)));
            (t.slow(pipes::bytes::<M>(None)), t.slow(rival))
        });
    }

    fn round_trips(&mut self) {
        let mut meetings = vec![("round trip, one CPU", Meeting::OneCpu)];
        if has_two_cpus() {
            self.case("round trip, awake", Cost(3.0), "raw cache line", |t| {
                let ours = ours::exchange(Meeting::Apart);
                (t.slow(ours), t.slow(cache_line()))
            });
            meetings.push(("round trip, two asleep", Meeting::Paused));
        }
        let (samples, sample_time) = (self.samples, self.sample_time);
        for (name, meeting) in meetings {
            if meeting == Meeting::Paused && self.full {
                // How long a CPU takes to wake up changes from one moment to the next.
                (self.samples, self.sample_time) = (samples * 4, sample_time / 4);
            }
            self.case(name, Cost(1.3), "raw futex", |t| {
                (t.slow(ours::exchange(meeting)), t.slow(futex(meeting)))
            });
            self.case(name, AnyCost, "pipe", |t| {
                let rival = kernel_exchange(Kernel::Pipe, meeting);
                (t.slow(ours::exchange(meeting)), t.slow(rival))
            });
            self.case(name, AnyCost, "crossbeam threads", |t| {
                let rival = crossbeam_exchange(meeting);
                (t.slow(ours::exchange(meeting)), t.slow(rival))
            });
        }
        (self.samples, self.sample_time) = (samples, sample_time);
    }

    fn processes(&mut self) {
        let repeat = |act: fn()| {
            move |n| {
                let begin = Instant::now();
                (0..n).for_each(|_| act());
                begin.elapsed()
            }
        };
        self.case("start+join", Cost(1.2), "Command, this program", |t| {
            (
                t.timed(repeat(start::ours)),
                t.timed(repeat(start::command)),
            )
        });
        self.case("start+join", AnyCost, "fork and wait", |t| {
            (t.timed(repeat(start::ours)), t.timed(repeat(start::fork)))
        });
        let megabytes = self.many(500);
        self.grown(
            "start+join, 500 MiB",
            "without them",
            |t| t.timed(repeat(start::ours)),
            || Box::new(start::ballast(megabytes << 20)),
        );
    }

    fn growth(&mut self) {
        let (most, few) = (self.many(10_000), self.many(100));
        self.case("queues, 10000 at once", AnyCost, "100 at once", |_| {
            let each = |count: usize| growth::make_and_drop(count).as_nanos() as f64 / count as f64;
            (Box::new(move || each(most)), Box::new(move || each(few)))
        });
        let members = self.many(64);
        let kills = self.many(1000);
        let exchange = |t: &Self| {
            let queue = growth::queue();
            t.timed(move |n| growth::put_and_get(&queue, n))
        };
        self.grown("put+get, 64 members", "alone", exchange, || {
            Box::new(Idle::start(members))
        });
        self.grown("put+get, 1000 kills", "before", exchange, || {
            growth::kill(&growth::queue(), kills);
            Box::new(())
        });
        let pair = |t: &Self| t.team(1, ours::queue::<u64>(1, CAPACITY));
        self.grown("u64 1to1, 1000 kills", "before", pair, || {
            growth::kill(&growth::queue(), kills);
            Box::new(())
        });
    }

    /// Measures what something costs, and again once `grow` has run and while its result lives.
    fn grown<'a>(
        &mut self,
        name: &str,
        rival: &str,
        side: impl FnOnce(&Self) -> Side<'a>,
        grow: impl FnOnce() -> Box<dyn Any>,
    ) {
        if !self.wants(name) {
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut side = side(self);
            let mut samples = || (0..self.samples).map(|_| side()).collect();
            let before = samples();
            let grown = grow();
            let after = samples();
            drop(grown);
            (after, before)
        }));
        self.report(name, AnyCost, rival, outcome.ok());
    }
}
