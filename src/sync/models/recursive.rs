//! Models of a lock that its holder can take again: how often it has is nobody else's business, also after a death.

use super::parties::{Deaths, FENCES, Member, at_each_write, beside, model};
use crate::arena::MemberId;
use crate::os::clock::Deadline;
use crate::sync::owner::Owners;
use crate::sync::raw_lock::Taken;
use crate::sync::recursive::Recursive;
use crate::sync::wait::Patience;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

struct Shared {
    lock: Recursive,
    data: UnsafeCell<u32>,
    deaths: Deaths,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            lock: Recursive::new(),
            data: UnsafeCell::new(0),
            deaths: Deaths::new(),
        })
    }

    fn member(&self, id: MemberId) -> Member<'_> {
        let deaths = &self.deaths;
        Member { id, deaths }
    }

    fn lock(&self, me: &impl Owners) -> Taken {
        let patience = Patience::default();
        self.lock.lock(me, &patience, Deadline::NEVER).unwrap()
    }

    fn raise(&self) {
        self.data.with_mut(|data| {
            // SAFETY: only who holds the lock comes here; loom checks it.
            unsafe { *data += 1 }
        });
    }

    fn raise_twice(&self, id: MemberId) {
        let me = self.member(id);
        self.lock(&me);
        self.lock(&me);
        self.raise();
        self.lock.unlock_once(FENCES);
        self.raise();
        self.lock.unlock_once(FENCES);
    }

    fn is_free(&self) -> bool {
        self.lock.raw.load().owner() == 0
    }
}

#[test]
fn loom_recursive_lock_is_one_members_until_the_last() {
    model(|| {
        let shared = Shared::new();
        let other = beside(&shared, move |shared| shared.raise_twice(2));
        shared.raise_twice(1);
        other.join().unwrap();
        // SAFETY: nobody else is left.
        assert_eq!(shared.data.with(|data| unsafe { *data }), 4);
        assert!(shared.is_free());
    });
}

/// Given up whole for a while and restored, with one of the times left to `release`.
#[test]
fn loom_recursive_lock_given_up_for_a_while() {
    model(|| {
        let shared = Shared::new();
        let other = beside(&shared, move |shared| {
            assert!(!shared.lock.release_kept(&shared.member(2)), "not its own");
            shared.raise_twice(2);
        });
        let (me, lock) = (shared.member(1), &shared.lock);
        (0..3).for_each(|_| _ = shared.lock(&me));
        lock.keep_once();
        let depth = lock.unlock_whole(FENCES);
        let taken = lock.lock_whole(depth, &me, &Patience::default());
        assert_eq!(taken, Taken::Sound);
        shared.raise();
        lock.unlock_once(FENCES);
        lock.unlock_once(FENCES);
        assert!(lock.release_kept(&me));
        assert!(!lock.release_kept(&me));
        other.join().unwrap();
        assert!(shared.is_free());
    });
}

/// Whatever a dead holder left: the next one has it once.
#[test]
fn loom_recursive_lock_of_the_dead() {
    at_each_write(|victim| {
        let shared = Shared::new();
        let dying = beside(&shared, move |shared| {
            let bury = || {
                shared.deaths.add(1);
                shared.lock.raw.expire();
            };
            let work = || {
                let me = shared.member(1);
                shared.lock(&me);
                shared.lock(&me);
                shared.lock.keep_once();
                shared.raise();
                assert!(shared.lock.release_kept(&me));
                shared.raise();
                shared.lock.unlock_once(FENCES);
            };
            victim.live(work, bury).is_none()
        });
        let me = shared.member(2);
        let taken = shared.lock(&me);
        shared.raise();
        shared.lock.raw.mark_consistent();
        assert!(!shared.lock.release_kept(&me), "it has left nothing");
        shared.lock.unlock_once(FENCES);
        let died = dying.join().unwrap();
        assert!(died || taken == Taken::Sound);
        let me = shared.member(3);
        shared.lock(&me);
        shared.lock.unlock_once(FENCES);
        assert!(shared.is_free(), "taken once, and released once");
    });
}
