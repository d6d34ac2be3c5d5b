//! What our queue costs beside ipc-channel, ipmpsc and iceoryx2, between two processes: `cargo run --release`
//!
//! Every contender carries the same messages: the sender copies the bytes in, the receiver reads them all, and what it has
//! read is checked. All take turns, round after round, since absolute figures of two runs do not compare: the ratio of the
//! medians counts.

mod links;

use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use iceoryx2::prelude::{LogLevel, set_log_level};
use links::{Address, Link, Result, sum};
use multiprocess::{Process, Queue};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

const SIZES: [usize; 4] = [64, 1 << 10, 64 << 10, 1 << 20];
const ROUNDS: usize = 15;
/// How long a contender's turn takes, about, in seconds.
const TURN: f64 = 0.06;
/// Nothing takes this long unless somebody hangs.
const STUCK: Duration = Duration::from_secs(600);

/// What the peer is to do next: to send so many messages, or to send them back.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Order {
    count: usize,
    back: bool,
}

/// Messages, each unlike the one before, with their sums. Three, so that none is where it was the last time round.
type Payload = [(Vec<u8>, u64); 3];

fn payload(len: usize) -> Payload {
    [1, 2, 3].map(|n| {
        let bytes: Vec<u8> = (0..len).map(|i| (i * n) as u8 ^ n as u8).collect();
        let sum = sum(&bytes);
        (bytes, sum)
    })
}

/// Keeps this thread on a CPU.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// What a peer is given: also the length of the messages, and its CPU.
type Given = (Address, usize, usize, Queue<Order>, Queue<()>);

/// The other process: does what it is told until nobody tells it anything any more.
fn peer((address, len, cpu, orders, ready): Given) {
    set_log_level(LogLevel::Fatal);
    pin(cpu).expect("a CPU");
    let mut link = links::connect(address).expect("a link");
    let payload = payload(len);
    ready.put(()).expect("room");
    while let Ok(Order { count, back }) = orders.get() {
        for (bytes, sum) in payload.iter().cycle().take(count) {
            if back {
                assert_eq!(link.receive().expect("a message"), *sum);
            }
            link.send(bytes).expect("a reader");
        }
    }
}

/// A contender at one size, with its peer.
struct Contender {
    link: Box<dyn Link>,
    orders: Queue<Order>,
    /// Ends when the peer has ended.
    watch: Option<JoinHandle<()>>,
}

impl Contender {
    fn start(name: &'static str, len: usize, cpu: usize) -> Result<Self> {
        let (address, open) = links::create(name, len)?;
        let (orders, ready) = (Queue::bounded(1)?, Queue::bounded(1)?);
        // A daemon: it ends with this process, however that ends.
        let daemon = Process::builder().daemon(true).name(name);
        let peer = daemon.spawn(peer, (address, len, cpu, orders.clone(), ready.clone()))?;
        let open_orders = orders.clone();
        let watch = thread::spawn(move || {
            let end = peer.wait();
            if !open_orders.is_closed() {
                // The rivals' readers would wait for ever.
                fail(&format!("the peer of {name} ended with {end:?}"));
            }
        });
        let link = open()?;
        ready.get()?;
        let watch = Some(watch);
        Ok(Contender {
            link,
            orders,
            watch,
        })
    }

    /// Seconds for so many messages one way, or there and back.
    fn time(&mut self, payload: &Payload, order: Order) -> Result<f64> {
        let begun = Instant::now();
        self.orders.put(order)?;
        for (bytes, sum) in payload.iter().cycle().take(order.count) {
            if order.back {
                self.link.send(bytes)?;
            }
            assert_eq!(self.link.receive()?, *sum);
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// An order that takes about a turn.
    fn calibrate(&mut self, payload: &Payload, back: bool) -> Result<Order> {
        let count = ((16 << 20) / payload[0].0.len()).clamp(16, 20_000);
        self.time(payload, Order { count, back })?; // from here on all pages are there
        let time = self.time(payload, Order { count, back })?;
        let count = (count as f64 * TURN / time) as usize + 1;
        Ok(Order { count, back })
    }
}

impl Drop for Contender {
    /// The peer ends in order, so that it can take away what it has made.
    fn drop(&mut self) {
        self.orders.close();
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

fn fail(why: &str) -> ! {
    eprintln!("compare: {why}");
    links::sweep();
    std::process::exit(1)
}

/// The median, the least and the greatest.
fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    )
}

/// Measures one size in one direction and prints its lines.
fn case(name: &str, all: &mut [Contender], payload: &Payload, back: bool) -> Result<()> {
    let orders = all.iter_mut().map(|c| c.calibrate(payload, back));
    let orders: Vec<Order> = orders.collect::<Result<_>>()?;
    let mut times = vec![Vec::new(); all.len()];
    for round in 0..ROUNDS {
        for turn in 0..all.len() {
            // The order changes too, so that whatever drifts does not favour one of them.
            let turn = [turn, all.len() - 1 - turn][round % 2];
            let time = all[turn].time(payload, orders[turn])? * 1e6;
            times[turn].push(time / orders[turn].count as f64);
        }
    }
    let (ours, ..) = median(times[0].clone());
    for (rival, theirs) in links::NAMES.iter().zip(&times).skip(1) {
        let ratios = theirs.iter().zip(&times[0]).map(|(b, a)| b / a);
        let (_, least, most) = median(ratios.collect());
        let (time, ..) = median(theirs.clone());
        let range = format!("({least:.2}-{most:.2})");
        let ratio = time / ours;
        println!("{name:<20} {ours:>9.3}   {rival:<12} {time:>9.3}   {ratio:>6.2} {range:>16}");
    }
    Ok(())
}

fn run() -> Result<()> {
    set_log_level(LogLevel::Fatal);
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (Some(mine), Some(other)) = (cpus.next(), cpus.next()) else {
        return Err("two CPUs are needed: iceoryx2 does not sleep".into());
    };
    pin(mine)?;
    println!("case, µs a message        ours   beside                    ratio          (range)");
    for len in SIZES {
        let payload = payload(len);
        let all = links::NAMES.map(|name| Contender::start(name, len, other));
        let mut all: Vec<_> = all.into_iter().collect::<Result<_>>()?;
        case(&format!("{len} B one way"), &mut all, &payload, false)?;
        case(&format!("{len} B round trip"), &mut all, &payload, true)?;
    }
    println!("\nMedians of {ROUNDS} turns; the ratio is the rival's time divided by ours.");
    Ok(())
}

fn main() -> ExitCode {
    thread::spawn(|| {
        thread::sleep(STUCK);
        fail("it hangs");
    });
    let measured = run();
    links::sweep();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}
