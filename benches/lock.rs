//! Locks and semaphores beside what a user would pick instead: free, and contended by 2 and by 8; events, conditions and barriers
//! there and back. Ours between processes, the rivals of one process between threads. Prints ratios of one run, and how evenly the
//! acquisitions are spread.
//!
//! ```sh
//! cargo bench --bench lock             # everything
//! cargo bench --bench lock -- free     # what has that word in its name
//! ```

#![allow(unsafe_code)] // pthread's mutexes and semaphores
#![allow(clippy::disallowed_types)] // no models here, so plain atomics

use multiprocess::{
    Array, Barrier, Condition, Event, Lock, Process, RLock, Semaphore, Value, spawn,
};
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// `free`: nanoseconds of a pair of calls that nobody hinders.
fn free(name: &str, full: bool, sides: &mut [(&str, &mut dyn FnMut(u64))]) {
    let samples = if full { 31 } else { 1 };
    let count = if full { 400_000 } else { 1000 };
    let mut found = vec![Vec::new(); sides.len()];
    for _ in 0..samples {
        for (side, found) in sides.iter_mut().zip(&mut found) {
            let begin = Instant::now();
            side.1(count);
            found.push(begin.elapsed().as_nanos() as f64 / count as f64);
        }
    }
    report(name, "ns", "cost", sides.iter().map(|side| side.0), &found);
}

/// Prints the medians, and ours (the first) as a part of each of the others': of the ratios of each sample the median and the extremes.
fn report<'a>(
    name: &str,
    unit: &str,
    what: &str,
    sides: impl Iterator<Item = &'a str>,
    found: &[Vec<f64>],
) {
    let ours = median(&mut found[0].clone());
    println!("{name:<34} {ours:>8.2} {unit}");
    for (rival, theirs) in sides.zip(found).skip(1) {
        let mut ratios: Vec<f64> = found[0].iter().zip(theirs).map(|(a, b)| a / b).collect();
        let theirs = median(&mut theirs.clone());
        let ratio = median(&mut ratios);
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        println!(
            "    beside {rival:<26} {theirs:>6.2} {unit}   {what} {ratio:.2} ({low:.2}-{high:.2})"
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A mutex of pthread's, shared between processes: what crates that offer one (`raw_sync`) call behind a pointer.
struct Pthread(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a mutex.
unsafe impl Sync for Pthread {}
// SAFETY: as above; it is initialised where it stays.
unsafe impl Send for Pthread {}

impl Pthread {
    fn new(robust: bool) -> Box<Pthread> {
        let mutex = Box::new(Pthread(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        let mut attributes = MaybeUninit::uninit();
        let at = attributes.as_mut_ptr();
        // SAFETY: makes attributes out of the memory.
        unsafe { libc::pthread_mutexattr_init(at) };
        // SAFETY: they were just made.
        unsafe { libc::pthread_mutexattr_setpshared(at, libc::PTHREAD_PROCESS_SHARED) };
        if robust {
            // SAFETY: as above.
            unsafe { libc::pthread_mutexattr_setrobust(at, libc::PTHREAD_MUTEX_ROBUST) };
        }
        // SAFETY: nobody uses the mutex yet.
        unsafe { libc::pthread_mutex_init(mutex.0.get(), at) };
        mutex
    }

    #[inline]
    fn with(&self, f: impl FnOnce()) {
        // SAFETY: it was initialised.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
        f();
        // SAFETY: locked just before by this thread.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
}

fn free_locks(full: bool) {
    let ours = Lock::new(0_u64).unwrap();
    let value = Value::new(0_u64).unwrap();
    let standard = std::sync::Mutex::new(0_u64);
    let parking = parking_lot::Mutex::new(0_u64);
    let (plain, robust) = (Pthread::new(false), Pthread::new(true));
    let mut data = 0_u64;
    let mut other = 0_u64;
    let mut sides: [(&str, &mut dyn FnMut(u64)); 6] = [
        ("ours", &mut |n| {
            for _ in 0..n {
                *black_box(&ours).lock().unwrap() += 1;
            }
        }),
        ("std::sync::Mutex", &mut |n| {
            for _ in 0..n {
                *black_box(&standard).lock().unwrap() += 1;
            }
        }),
        ("parking_lot", &mut |n| {
            for _ in 0..n {
                *black_box(&parking).lock() += 1;
            }
        }),
        ("pthread, process-shared", &mut |n| {
            for _ in 0..n {
                black_box(&plain).with(|| data += 1);
            }
        }),
        ("pthread, robust", &mut |n| {
            for _ in 0..n {
                black_box(&robust).with(|| other += 1);
            }
        }),
        ("our Value::update", &mut |n| {
            for _ in 0..n {
                black_box(&value).update(|v| *v += 1).unwrap();
            }
        }),
    ];
    free("lock + unlock, free", full, &mut sides);
    let ours = RLock::new().unwrap();
    let parking = parking_lot::ReentrantMutex::new(());
    let mut sides: [(&str, &mut dyn FnMut(u64)); 2] = [
        ("ours", &mut |n| {
            for _ in 0..n {
                drop(black_box(&ours).lock().unwrap());
            }
        }),
        ("parking_lot", &mut |n| {
            for _ in 0..n {
                drop(black_box(&parking).lock());
            }
        }),
    ];
    free("recursive lock + unlock, free", full, &mut sides);
}

/// A semaphore of POSIX, shared between processes.
struct Posix(Box<UnsafeCell<libc::sem_t>>);

impl Posix {
    fn new(count: u32) -> Posix {
        // SAFETY: all zero bytes are a `sem_t` that is still to be initialised.
        let made = Posix(Box::new(UnsafeCell::new(unsafe { std::mem::zeroed() })));
        // SAFETY: the memory is there and nobody uses it yet.
        unsafe { libc::sem_init(made.0.get(), 1, count) };
        made
    }

    #[inline]
    fn cycle(&self) {
        // SAFETY: it was initialised.
        unsafe { libc::sem_wait(self.0.get()) };
        // SAFETY: as above.
        unsafe { libc::sem_post(self.0.get()) };
    }
}

fn free_semaphores(full: bool) {
    let ours = Semaphore::new(4).unwrap();
    let posix = Posix::new(4);
    let mut sides: [(&str, &mut dyn FnMut(u64)); 2] = [
        ("ours", &mut |n| {
            for _ in 0..n {
                drop(black_box(&ours).acquire().unwrap());
            }
        }),
        ("sem_t", &mut |n| {
            for _ in 0..n {
                black_box(&posix).cycle();
            }
        }),
    ];
    free("acquire + give back, free", full, &mut sides);
}

/// So many turns of busy work.
fn work(turns: u64) {
    for i in 0..turns {
        black_box(i);
    }
}

/// What a worker does again and again: so much with the lock, so much without.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Load {
    inside: u64,
    outside: u64,
}

const GO: usize = 0;
const STOP: usize = 1;
/// Where the workers' numbers begin, each in a cache line of its own.
const COUNTS: usize = 16;

fn slot(worker: usize) -> usize {
    COUNTS + worker * 16
}

fn run(board: &[AtomicU64], worker: usize, mut turn: impl FnMut()) {
    while board[GO].load(Acquire) == 0 {
        thread::yield_now();
    }
    let mut count = 0;
    while board[STOP].load(Relaxed) == 0 {
        turn();
        count += 1;
    }
    board[slot(worker)].store(count, Release);
}

type Seat<G> = (G, Array<AtomicU64>, usize, Load);

fn locker((lock, board, worker, load): Seat<Lock<u64>>) {
    run(board.as_atomics(), worker, || {
        let mut guard = lock.lock().unwrap();
        *guard += 1;
        work(load.inside);
        drop(guard);
        work(load.outside);
    });
}

fn visitor((permits, board, worker, load): Seat<Semaphore>) {
    run(board.as_atomics(), worker, || {
        let permit = permits.acquire().unwrap();
        work(load.inside);
        drop(permit);
        work(load.outside);
    });
}

/// How many acquisitions each worker made.
fn measured(board: &[AtomicU64], workers: usize, time: Duration, join: impl FnOnce()) -> Vec<u64> {
    for at in board {
        at.store(0, Relaxed);
    }
    board[GO].store(1, Release);
    thread::sleep(time);
    board[STOP].store(1, Release);
    join();
    (0..workers).map(|w| board[slot(w)].load(Acquire)).collect()
}

fn team<G>(gate: &G, worker: fn(Seat<G>), workers: usize, load: Load, time: Duration) -> Vec<u64>
where
    G: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    let board = Array::<AtomicU64>::zeroed(slot(workers)).unwrap();
    let team: Vec<Process<()>> = (0..workers)
        .map(|w| spawn(worker, (gate.clone(), board.clone(), w, load)).unwrap())
        .collect();
    measured(board.as_atomics(), workers, time, || {
        team.into_iter().for_each(|p| p.join().unwrap());
    })
}

fn processes(workers: usize, load: Load, time: Duration) -> Vec<u64> {
    let lock = Lock::new(0_u64).unwrap();
    let counts = team(&lock, locker, workers, load, time);
    assert_eq!(*lock.lock().unwrap(), counts.iter().sum::<u64>());
    counts
}

/// The same with a semaphore that has one permit.
fn permits(workers: usize, load: Load, time: Duration) -> Vec<u64> {
    team(&Semaphore::new(1).unwrap(), visitor, workers, load, time)
}

fn threads(workers: usize, time: Duration, turn: impl Fn() + Send + Sync + 'static) -> Vec<u64> {
    let board: Arc<Vec<AtomicU64>> = Arc::new((0..slot(workers)).map(|_| 0.into()).collect());
    let turn = Arc::new(turn);
    let team: Vec<_> = (0..workers)
        .map(|w| {
            let (board, turn) = (board.clone(), turn.clone());
            thread::spawn(move || run(&board, w, || turn()))
        })
        .collect();
    measured(&board, workers, time, || {
        team.into_iter().for_each(|t| t.join().unwrap());
    })
}

fn parking_lot_threads(workers: usize, load: Load, time: Duration) -> Vec<u64> {
    let lock = parking_lot::Mutex::new(0_u64);
    threads(workers, time, move || {
        let mut guard = lock.lock();
        *guard += 1;
        work(load.inside);
        drop(guard);
        work(load.outside);
    })
}

fn std_threads(workers: usize, load: Load, time: Duration) -> Vec<u64> {
    let lock = std::sync::Mutex::new(0_u64);
    threads(workers, time, move || {
        let mut guard = lock.lock().unwrap();
        *guard += 1;
        work(load.inside);
        drop(guard);
        work(load.outside);
    })
}

fn pthread_threads(workers: usize, load: Load, time: Duration) -> Vec<u64> {
    let lock = Pthread::new(false);
    threads(workers, time, move || {
        lock.with(|| work(load.inside));
        work(load.outside);
    })
}

type Contender = fn(usize, Load, Duration) -> Vec<u64>;

fn contended(name: &str, full: bool, workers: usize, load: Load) {
    let samples = if full { 9 } else { 1 };
    let time = Duration::from_millis(if full { 200 } else { 2 });
    let sides: [(&str, Contender); 4] = [
        ("ours", processes),
        ("parking_lot", parking_lot_threads),
        ("std::sync::Mutex", std_threads),
        ("pthread, process-shared", pthread_threads),
    ];
    let mut found = vec![Vec::new(); sides.len()];
    for _ in 0..samples {
        for ((_, side), found) in sides.iter().zip(&mut found) {
            let counts = side(workers, load, time);
            let total = counts.iter().sum::<u64>();
            found.push(total as f64 / time.as_secs_f64() / 1e6);
        }
    }
    report(
        name,
        "M/s",
        "speed",
        sides.iter().map(|side| side.0),
        &found,
    );
}

/// Two that take turns: the time of a round, there and back, after so many to warm up.
fn timed_rounds(count: u64, mut round: impl FnMut()) -> f64 {
    (0..WARM_UP).for_each(|_| round());
    let begin = Instant::now();
    (0..count).for_each(|_| round());
    begin.elapsed().as_nanos() as f64 / count as f64 / 1e3
}

const WARM_UP: u64 = 100;

type Events = (Event, Event, u64);

fn answer_events((there, back, count): Events) {
    for _ in 0..count + WARM_UP {
        there.wait();
        there.clear();
        back.set();
    }
}

fn events(count: u64) -> f64 {
    let (there, back) = (Event::new().unwrap(), Event::new().unwrap());
    let child = spawn(answer_events, (there.clone(), back.clone(), count)).unwrap();
    let time = timed_rounds(count, || {
        there.set();
        back.wait();
        back.clear();
    });
    child.join().unwrap();
    time
}

type Turns = (Lock<u64>, Condition, u64);

fn answer_turns((turn, changed, count): Turns) {
    for _ in 0..count + WARM_UP {
        take_turn(&turn, &changed, 1);
    }
}

/// Waits for one's turn and gives it to the other.
fn take_turn(turn: &Lock<u64>, changed: &Condition, mine: u64) {
    let turn = turn.lock().unwrap();
    let mut turn = changed.wait_while(turn, |turn| **turn != mine).unwrap();
    *turn = 1 - mine;
    drop(turn);
    changed.notify_one();
}

fn conditions(count: u64) -> f64 {
    let (turn, changed) = (Lock::new(0).unwrap(), Condition::new().unwrap());
    let child = spawn(answer_turns, (turn.clone(), changed.clone(), count)).unwrap();
    let time = timed_rounds(count, || take_turn(&turn, &changed, 0));
    child.join().unwrap();
    time
}

fn std_condvar(count: u64) -> f64 {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let take = |shared: &(Mutex<u64>, Condvar), mine: u64| {
        let turn = shared.0.lock().unwrap();
        let mut turn = shared.1.wait_while(turn, |turn| *turn != mine).unwrap();
        *turn = 1 - mine;
        drop(turn);
        shared.1.notify_one();
    };
    let other = {
        let shared = shared.clone();
        thread::spawn(move || (0..count + WARM_UP).for_each(|_| take(&shared, 1)))
    };
    let time = timed_rounds(count, || take(&shared, 0));
    other.join().unwrap();
    time
}

fn parking_lot_condvar(count: u64) -> f64 {
    let shared = Arc::new((parking_lot::Mutex::new(0), parking_lot::Condvar::new()));
    let take = |shared: &(parking_lot::Mutex<u64>, parking_lot::Condvar), mine: u64| {
        let mut turn = shared.0.lock();
        shared.1.wait_while(&mut turn, |turn| *turn != mine);
        *turn = 1 - mine;
        drop(turn);
        shared.1.notify_one();
    };
    let other = {
        let shared = shared.clone();
        thread::spawn(move || (0..count + WARM_UP).for_each(|_| take(&shared, 1)))
    };
    let time = timed_rounds(count, || take(&shared, 0));
    other.join().unwrap();
    time
}

fn meet((barrier, count): (Barrier, u64)) {
    for _ in 0..count + WARM_UP {
        barrier.wait().unwrap();
    }
}

fn barriers<const PARTIES: usize>(count: u64) -> f64 {
    let barrier = Barrier::new(PARTIES).unwrap();
    let others: Vec<Process<()>> = (1..PARTIES)
        .map(|_| spawn(meet, (barrier.clone(), count)).unwrap())
        .collect();
    let time = timed_rounds(count, || _ = barrier.wait().unwrap());
    others.into_iter().for_each(|p| p.join().unwrap());
    time
}

fn std_barriers<const PARTIES: usize>(count: u64) -> f64 {
    let barrier = Arc::new(std::sync::Barrier::new(PARTIES));
    let others: Vec<_> = (1..PARTIES)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || (0..count + WARM_UP).for_each(|_| _ = barrier.wait()))
        })
        .collect();
    let time = timed_rounds(count, || _ = barrier.wait());
    others.into_iter().for_each(|t| t.join().unwrap());
    time
}

type Rounds = fn(u64) -> f64;

fn rounds(name: &str, full: bool, sides: &[(&str, Rounds)]) {
    let (samples, count) = if full { (9, 5000) } else { (1, 20) };
    let mut found = vec![Vec::new(); sides.len()];
    for _ in 0..samples {
        for ((_, side), found) in sides.iter().zip(&mut found) {
            found.push(side(count));
        }
    }
    report(name, "us", "cost", sides.iter().map(|side| side.0), &found);
}

fn spread(full: bool) {
    let time = if full {
        Duration::from_secs(5)
    } else {
        Duration::from_millis(5)
    };
    let load = Load {
        inside: 20,
        outside: 20,
    };
    for (name, side) in [
        ("ours", processes as Contender),
        ("parking_lot", parking_lot_threads),
        ("std::sync::Mutex", std_threads),
    ] {
        let counts = side(8, load, time);
        let mean = counts.iter().sum::<u64>() as f64 / 8.0;
        let shares: Vec<String> = counts
            .iter()
            .map(|&c| format!("{:.2}", c as f64 / mean))
            .collect();
        println!("spread over 8 in 5 s, {name:<17} {}", shares.join(" "));
    }
}

/// Sections so long that who waits sleeps: whoever leaves one is the first to come again.
fn long_spread(full: bool) {
    let (time, inside) = match full {
        true => (Duration::from_secs(4), 20_000_000),
        false => (Duration::from_millis(4), 20),
    };
    for workers in [2, 4] {
        for (name, side) in [
            ("ours", processes as Contender),
            ("our semaphore", permits),
            ("parking_lot", parking_lot_threads),
            ("std::sync::Mutex", std_threads),
        ] {
            let outside = 0;
            let counts = side(workers, Load { inside, outside }, time);
            println!("spread over {workers}, long sections, {name:<17} {counts:?}");
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|a| a == "--bench");
    let words: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| words.is_empty() || words.iter().any(|w| name.contains(w.as_str()));
    if wants("free") {
        free_locks(full);
        free_semaphores(full);
    }
    for (name, workers, inside, outside) in [
        ("contended by 2, short", 2, 0, 20),
        ("contended by 2, long", 2, 2000, 200),
        ("contended by 8, short", 8, 0, 20),
        ("contended by 8, long", 8, 2000, 200),
    ] {
        if wants(name) {
            contended(name, full, workers, Load { inside, outside });
        }
    }
    let threads: [(&str, Rounds); 2] = [
        ("std::sync::Condvar", std_condvar),
        ("parking_lot::Condvar", parking_lot_condvar),
    ];
    for (name, ours) in [
        ("event, there and back", events as Rounds),
        ("condition, there and back", conditions),
    ] {
        if wants(name) {
            rounds(name, full, &[("ours", ours), threads[0], threads[1]]);
        }
    }
    for (name, ours, rival) in [
        (
            "barrier of 2",
            barriers::<2> as Rounds,
            std_barriers::<2> as Rounds,
        ),
        ("barrier of 8", barriers::<8>, std_barriers::<8>),
    ] {
        if wants(name) {
            rounds(name, full, &[("ours", ours), ("std::sync::Barrier", rival)]);
        }
    }
    if wants("spread") {
        spread(full);
        long_spread(full);
    }
}
