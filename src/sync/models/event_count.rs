//! Models of waiting, run by `ci/loom.sh`. A wake-up that gets lost is a deadlock here: the futex of the models sleeps for ever.

use crate::primitive::{AtomicU64, Fences};
use crate::sync::EventCount;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

const FENCES: Fences = Fences::Symmetric;

struct Shared {
    items: AtomicU64,
    event: EventCount,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            items: AtomicU64::new(0),
            event: EventCount::new(),
        })
    }

    fn put(&self) {
        self.items.fetch_add(1, Release);
        self.event.notify_one(FENCES);
    }

    fn try_take(&self) -> bool {
        self.items
            .fetch_update(Acquire, Relaxed, |items| items.checked_sub(1))
            .is_ok()
    }

    fn take(&self) {
        while !self.try_take() {
            let key = self.event.prepare(FENCES);
            if self.try_take() {
                return;
            }
            self.event.sleep(key, Duration::ZERO);
        }
    }
}

#[test]
fn loom_one_waiter_is_woken() {
    loom::model(|| {
        let shared = Shared::new();
        let waiter = {
            let shared = shared.clone();
            thread::spawn(move || shared.take())
        };
        shared.put();
        waiter.join().unwrap();
    });
}

#[test]
fn loom_two_items_wake_two_waiters() {
    loom::model(|| {
        let shared = Shared::new();
        let waiters = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.take())
        });
        shared.put();
        shared.put();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

/// The flag is cleared by a notifier that finds nobody while another waiter is just going to sleep.
#[test]
fn loom_a_cleared_flag_leaves_nobody_asleep() {
    loom::model(|| {
        let shared = Shared::new();
        let producers = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || shared.put())
        });
        shared.take();
        shared.take();
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn loom_all_are_woken() {
    loom::model(|| {
        let shared = Shared::new();
        let waiters = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || {
                while shared.items.load(Acquire) == 0 {
                    let key = shared.event.prepare(FENCES);
                    if shared.items.load(Acquire) == 0 {
                        shared.event.sleep(key, Duration::ZERO);
                    }
                }
            })
        });
        shared.items.store(1, Release);
        shared.event.notify_all(FENCES);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
