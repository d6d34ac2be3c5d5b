//! Models of the event: nobody who waited when it was set goes on waiting, and what was done before is seen.

use super::parties::{Deaths, FENCES, at_each_write, model};
use crate::primitive::AtomicU64;
use crate::sync::event::Flag;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

struct Shared {
    flag: Flag,
    data: AtomicU64,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            flag: Flag::new(),
            data: AtomicU64::new(0),
        })
    }

    /// As `LocalEvent::wait`, for who has seen it clear.
    fn wait(&self, seen: u64) {
        while !self.flag.was_set_since(seen) {
            let key = self.flag.changed().prepare(FENCES);
            if self.flag.was_set_since(seen) {
                break;
            }
            self.flag.changed().sleep(key, Duration::ZERO);
        }
        assert_eq!(self.data.load(Relaxed), 1);
    }
}

#[test]
fn loom_event_wakes_all() {
    model(|| {
        let shared = Shared::new();
        let waiters = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.wait(0))
        });
        shared.data.store(1, Relaxed);
        shared.flag.set(FENCES);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

/// Set and cleared at once: whoever has seen it clear before goes on.
#[test]
fn loom_event_that_is_cleared_at_once() {
    model(|| {
        let shared = Shared::new();
        let waiter = {
            let shared = shared.clone();
            thread::spawn(move || shared.wait(0))
        };
        let clearing = {
            let shared = shared.clone();
            thread::spawn(move || shared.flag.clear())
        };
        shared.data.store(1, Relaxed);
        shared.flag.set(FENCES);
        shared.flag.clear();
        clearing.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(shared.flag.load() & 1, 0);
    });
}

/// Killed between: what is set is seen, and what is not set can be.
#[test]
fn loom_event_dead_setter() {
    at_each_write(|victim| {
        let shared = Shared::new();
        let deaths = Arc::new(Deaths::new());
        shared.data.store(1, Relaxed);
        let setting = {
            let (shared, deaths) = (shared.clone(), deaths.clone());
            thread::spawn(move || {
                let bury = || {
                    deaths.add(1);
                    shared.flag.changed().expire();
                };
                victim.live(|| shared.flag.set(FENCES), bury).is_some()
            })
        };
        loop {
            let key = shared.flag.changed().prepare(FENCES);
            let died = deaths.have(1);
            if shared.flag.was_set_since(0) || died {
                break;
            }
            shared.flag.changed().sleep(key, Duration::ZERO);
        }
        if setting.join().unwrap() {
            assert!(shared.flag.was_set_since(0));
        }
        shared.flag.set(FENCES);
        shared.wait(0);
    });
}
