//! Models of permits: never more at a time than there are, none lost, none found missing that was always there.

use crate::primitive::AtomicU64;
use crate::sync::permits::Permits;
use crate::sync::slots::Slots;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

struct Shared {
    words: Vec<AtomicU64>,
    data: UnsafeCell<u32>,
}

impl Shared {
    fn new(room: usize, permits: usize) -> Arc<Shared> {
        let words: Vec<_> = (0..room).map(|_| AtomicU64::new(0)).collect();
        let shared = Shared {
            words,
            data: UnsafeCell::new(0),
        };
        shared.permits().init(permits);
        Arc::new(shared)
    }

    fn permits(&self) -> Permits<'_> {
        Permits(Slots::fixed(&self.words))
    }

    fn raise(&self) {
        self.data.with_mut(|data| {
            // SAFETY: only who holds the only permit comes here; loom checks it.
            unsafe { *data += 1 }
        });
    }
}

#[test]
fn loom_permit_is_one_persons_at_a_time() {
    loom::model(|| {
        let shared = Shared::new(1, 1);
        let others = [1, 2].map(|me| {
            let shared = shared.clone();
            thread::spawn(move || {
                let Some(slot) = shared.permits().take(me, 0) else {
                    return 0;
                };
                shared.raise();
                Permits::give_back(slot);
                1
            })
        });
        let done: u32 = others.map(|other| other.join().unwrap()).iter().sum();
        assert!(done >= 1);
        let slot = shared.permits().take(3, 0).expect("it was given back");
        // SAFETY: the permit is held.
        shared.data.with(|data| assert_eq!(unsafe { *data }, done));
        Permits::give_back(slot);
    });
}

/// Two permits for two: each finds one, wherever the other is.
#[test]
fn loom_permit_that_is_always_there_is_found() {
    loom::model(|| {
        let shared = Shared::new(2, 2);
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                for from in [0, 1] {
                    let slot = shared.permits().take(1, from).expect("two for two");
                    Permits::give_back(slot);
                }
            })
        };
        let slot = shared.permits().take(2, 0).expect("two for two");
        Permits::give_back(slot);
        other.join().unwrap();
        assert_eq!(shared.permits().count(), 2);
    });
}

/// What a dead member held goes to one: to who takes it over, or to who finds it repaired.
#[test]
fn loom_permit_of_the_dead_comes_back_once() {
    loom::model(|| {
        let shared = Shared::new(1, 1);
        shared.permits().take(1, 0).expect("the only one");
        shared.raise();
        let over = {
            let shared = shared.clone();
            thread::spawn(move || {
                let slot = shared.permits().take_over(2, |owner| owner == 1);
                slot.map(|_| shared.raise()).is_some()
            })
        };
        let repaired = shared.permits().repair(|owner| owner == 1);
        let taken = shared
            .permits()
            .take(3, 0)
            .map(|_| shared.raise())
            .is_some();
        let over = over.join().unwrap();
        assert_eq!(u32::from(over) + repaired as u32, 1);
        assert_eq!(taken, repaired == 1);
    });
}

/// Permits that are made nobody's leave room for as many.
#[test]
fn loom_permit_forgotten_is_added_again() {
    loom::model(|| {
        let shared = Shared::new(1, 1);
        let slot = shared.permits().take(1, 0).expect("the only one");
        shared.raise();
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                if !shared.permits().add() {
                    return false;
                }
                assert!(!shared.permits().add(), "there is room for one");
                true
            })
        };
        Permits::forget(slot);
        let added = other.join().unwrap() || shared.permits().add();
        assert!(added);
        shared.permits().take(2, 0).expect("it was added");
        shared.raise();
    });
}
