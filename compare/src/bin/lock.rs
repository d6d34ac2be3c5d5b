//! Our lock beside raw_sync's, both between processes: `cargo run --release --bin lock`
//!
//! Both lie in the same shared memory. Free, a pair of calls by one process; contended, two processes that raise a number under the
//! lock as often as they can; and a process that is killed while it holds it. The contenders take turns; medians count.

#![allow(unsafe_code, reason = "raw_sync's constructors")]

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{Array, Event, Lock, LockError, spawn};
use raw_sync::Timeout;
use raw_sync::locks::{LockImpl, LockInit, Mutex};
use serde::{Deserialize, Serialize};

const ROUNDS: usize = 15;
const COUNT: u64 = 1_000_000;
const TIME: Duration = Duration::from_millis(200);

/// A contender: the lock, or the memory in which it is.
#[derive(Clone, Serialize, Deserialize)]
enum Side {
    Ours(Lock),
    Theirs(Array<AtomicU64>),
}

enum Opened {
    Ours(Lock),
    Theirs(Box<dyn LockImpl>, #[allow(dead_code)] Array<AtomicU64>),
}

impl Side {
    fn ours() -> Result<Side, Box<dyn Error>> {
        Ok(Side::Ours(Lock::new(())?))
    }

    fn theirs() -> Result<Side, Box<dyn Error>> {
        let memory = Array::<AtomicU64>::zeroed(64)?;
        let at = memory.as_atomics().as_ptr().cast_mut().cast::<u8>();
        // SAFETY: 512 bytes that nobody else knows yet, and that stay as long as `memory`.
        unsafe { Mutex::new(at, at) }?;
        Ok(Side::Theirs(memory))
    }

    fn open(self) -> Opened {
        match self {
            Side::Ours(lock) => Opened::Ours(lock),
            Side::Theirs(memory) => {
                let at = memory.as_atomics().as_ptr().cast_mut().cast::<u8>();
                // SAFETY: `theirs` has made one there.
                let (mutex, _) = unsafe { Mutex::from_existing(at, at) }.expect("a mutex");
                Opened::Theirs(mutex, memory)
            }
        }
    }
}

impl Opened {
    #[inline]
    fn with(&self, f: impl FnOnce()) {
        match self {
            Opened::Ours(lock) => {
                let _guard = lock.lock().expect("nobody dies here");
                f();
            }
            Opened::Theirs(mutex, _) => {
                let _guard = mutex.lock().expect("nobody dies here");
                f();
            }
        }
    }
}

/// Nanoseconds of a pair of calls that nobody hinders.
fn free(side: &Side) -> f64 {
    let lock = side.clone().open();
    let begin = Instant::now();
    for n in 0..COUNT {
        lock.with(|| _ = black_box(n));
    }
    begin.elapsed().as_nanos() as f64 / COUNT as f64
}

/// Whether it begins, whether it is over, and what the lock guards; each in a cache line of its own.
type Board = Array<AtomicU64>;
const GO: usize = 0;
const STOP: usize = 16;
const RAISED: usize = 32;

fn raise((side, board): (Side, Board)) -> u64 {
    let (lock, board) = (side.open(), board.as_atomics());
    while board[GO].load(Acquire) == 0 {
        thread::yield_now();
    }
    let mut count = 0;
    while board[STOP].load(Relaxed) == 0 {
        lock.with(|| {
            let raised = &board[RAISED];
            raised.store(raised.load(Relaxed) + 1, Relaxed);
        });
        count += 1;
    }
    count
}

/// Millions of times a second that two processes had it.
fn contended(side: &Side) -> Result<f64, Box<dyn Error>> {
    let board = Board::zeroed(48)?;
    let mut two = Vec::new();
    for _ in 0..2 {
        two.push(spawn(raise, (side.clone(), board.clone()))?);
    }
    board.as_atomics()[GO].store(1, Release);
    thread::sleep(TIME);
    board.as_atomics()[STOP].store(1, Release);
    let mut sum = 0;
    for process in two {
        sum += process.join()?;
    }
    assert_eq!(
        sum,
        board.as_atomics()[RAISED].load(Acquire),
        "one got lost"
    );
    Ok(sum as f64 / TIME.as_secs_f64() / 1e6)
}

fn keep((side, held): (Side, Event)) {
    side.open().with(|| {
        held.set();
        thread::sleep(Duration::from_secs(100));
    });
}

/// What the next one is told whose predecessor was killed with the lock.
fn after_death(side: &Side) -> Result<&'static str, Box<dyn Error>> {
    let held = Event::new()?;
    let holder = spawn(keep, (side.clone(), held.clone()))?;
    held.wait();
    holder.kill()?;
    holder.wait();
    let patience = Duration::from_secs(2);
    Ok(match side.clone().open() {
        Opened::Ours(lock) => match lock.lock_timeout(patience) {
            Err(LockError::OwnerDied(_)) => "it has the lock, and is told so",
            Ok(_) => "it has the lock",
            Err(_) => "it waits for ever",
        },
        Opened::Theirs(mutex, _) => match mutex.try_lock(Timeout::Val(patience)) {
            Ok(_) => "it has the lock",
            Err(_) => "it waits for ever",
        },
    })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let sides = [Side::ours()?, Side::theirs()?];
    let (mut pairs, mut rates) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 0..ROUNDS {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            pairs[which].push(free(&sides[which]));
            rates[which].push(contended(&sides[which])?);
        }
    }
    let ([ours, theirs], [our_rate, their_rate]) = (pairs.map(median), rates.map(median));
    let (cost, speed) = (ours / theirs, our_rate / their_rate);
    println!("free: ours {ours:.1} ns, raw_sync {theirs:.1} ns, cost {cost:.2}");
    println!("by 2: ours {our_rate:.1} M/s, raw_sync {their_rate:.1} M/s, speed {speed:.2}");
    for (name, side) in ["ours", "raw_sync"].into_iter().zip(&sides) {
        println!(
            "after the holder was killed, {name}: {}",
            after_death(side)?
        );
    }
    Ok(())
}
