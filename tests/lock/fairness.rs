//! Nobody starves: who has just released something and comes again at once is not first every time.

use std::thread;
use std::time::Duration;

use multiprocess::{Barrier, Lock, RLock, Semaphore, Value};
use serde::{Deserialize, Serialize};

use crate::{start, watch};

/// Long enough for who waits to sleep.
const SECTION: Duration = Duration::from_millis(20);
const ROUNDS: u32 = 60;
/// The lesser of two had 1 round of 60 where nothing was done for it; where it is, nearly half, and 11 on a machine that lets who was
/// woken wait for a processor for long.
const FAIR: u32 = ROUNDS / 12;

#[derive(Clone, Serialize, Deserialize)]
enum Gate {
    Lock(Lock),
    RLock(RLock),
    Permits(Semaphore),
}

impl Gate {
    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        match self {
            Gate::Lock(lock) => {
                let _guard = lock.lock().unwrap();
                section()
            }
            Gate::RLock(lock) => {
                let _guard = lock.lock().unwrap();
                section()
            }
            Gate::Permits(permits) => {
                let _permit = permits.acquire().unwrap();
                section()
            }
        }
    }
}

/// How often the lesser of two processes was inside, which come again and again without a pause.
fn lesser(gate: Gate) -> u32 {
    fn work((gate, begin, rounds): (Gate, Barrier, Value<u32>)) -> u32 {
        begin.wait().unwrap();
        let mut mine = 0;
        loop {
            let is_over = gate.with(|| {
                thread::sleep(SECTION);
                let round = rounds.get().unwrap() + 1;
                rounds.set(round).unwrap();
                round >= ROUNDS
            });
            mine += 1;
            if is_over {
                return mine;
            }
        }
    }
    let shared = (gate, Barrier::new(2).unwrap(), Value::new(0).unwrap());
    let two = [(); 2].map(|()| start(work, shared.clone()));
    let counts = two.map(|process| process.join().unwrap());
    assert!(counts.iter().sum::<u32>() >= ROUNDS, "{counts:?}");
    counts[0].min(counts[1])
}

#[test]
fn nobody_starves_before_a_lock() {
    let _watch = watch();
    for gate in [
        Gate::Lock(Lock::new(()).unwrap()),
        Gate::RLock(RLock::new().unwrap()),
    ] {
        let count = lesser(gate);
        assert!(count >= FAIR, "{count} of {ROUNDS}");
    }
}

#[test]
fn nobody_starves_before_a_semaphore() {
    let _watch = watch();
    let count = lesser(Gate::Permits(Semaphore::new(1).unwrap()));
    assert!(count >= FAIR, "{count} of {ROUNDS}");
}
