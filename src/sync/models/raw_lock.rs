//! Models of the lock: exclusion, what its holders pass on to each other, wake-ups, and deaths.

use super::parties::{Deaths, FENCES, at_each_write, large_model, model};
use crate::arena::MemberId;
use crate::os::clock::Deadline;
use crate::primitive::Fences;
use crate::sync::owner::{Me, Owners};
use crate::sync::raw_lock::{RawLock, Refused, Taken};
use crate::sync::wait::Patience;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

struct Shared {
    lock: RawLock,
    /// What it guards: loom says when two are at it.
    data: UnsafeCell<u32>,
    deaths: Deaths,
}

/// One member with one thread.
struct Member {
    shared: Arc<Shared>,
    id: MemberId,
    patience: Patience,
}

impl Owners for Member {
    fn me(&self) -> Me {
        Me {
            member: self.id,
            thread: 1,
        }
    }

    fn fences(&self) -> Fences {
        FENCES
    }

    fn is_dead(&self, member: MemberId) -> bool {
        self.shared.deaths.have(member)
    }
}

impl Member {
    fn lock_until(&self, deadline: Deadline) -> Result<Taken, Refused> {
        self.shared.lock.lock(self, &self.patience, deadline)
    }

    fn lock(&self) -> Taken {
        self.lock_until(Deadline::NEVER).unwrap()
    }

    fn raise(&self) {
        self.shared.data.with_mut(|data| {
            // SAFETY: only who holds the lock comes here; loom checks it.
            unsafe { *data += 1 }
        });
    }

    fn count(&self) {
        self.lock();
        self.raise();
        self.shared.lock.unlock(FENCES);
    }

    /// Ends here, whatever it holds.
    fn die(&self) {
        self.shared.deaths.add(self.id);
        self.shared.lock.expire();
    }
}

fn members<const N: usize>() -> [Member; N] {
    let shared = Arc::new(Shared {
        lock: RawLock::new(),
        data: UnsafeCell::new(0),
        deaths: Deaths::new(),
    });
    std::array::from_fn(|i| Member {
        shared: shared.clone(),
        id: i as MemberId + 1,
        patience: Patience::default(),
    })
}

/// Takes the lock at last, and looks at what was done.
fn settled(member: &Member, count: u32) -> Taken {
    let taken = member.lock();
    // SAFETY: the lock is held.
    let data = member.shared.data.with(|data| unsafe { *data });
    assert_eq!(data, count);
    member.shared.lock.unlock(FENCES);
    taken
}

#[test]
fn loom_lock_one_at_a_time() {
    model(|| {
        let [a, b] = members();
        let other = thread::spawn(move || {
            b.count();
            b.count();
        });
        a.count();
        other.join().unwrap();
        assert_eq!(settled(&a, 3), Taken::Sound);
    });
}

#[test]
fn loom_lock_wakes_all_one_after_the_other() {
    large_model(|| {
        let [a, b, c] = members();
        let others = [b, c].map(|member| thread::spawn(move || member.count()));
        a.count();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(settled(&a, 3), Taken::Sound);
    });
}

#[test]
fn loom_lock_that_cannot_be_had_now() {
    model(|| {
        let [a, b, c] = members();
        let trying = thread::spawn(move || match b.lock_until(Deadline::NOW) {
            Ok(_) => {
                b.raise();
                b.shared.lock.unlock(FENCES);
                1
            }
            Err(refused) => {
                assert_eq!(refused, Refused::NotNow);
                0
            }
        });
        let other = thread::spawn(move || c.count());
        a.count();
        other.join().unwrap();
        let tried = trying.join().unwrap();
        assert_eq!(settled(&a, 2 + tried), Taken::Sound);
    });
}

#[test]
fn loom_lock_left_locked_is_released_once() {
    model(|| {
        let [a, b, c] = members();
        let others = [b, c].map(|member| {
            thread::spawn(move || {
                let released = member.shared.lock.release_forgotten(&member);
                if released {
                    member.count();
                }
                u32::from(released)
            })
        });
        a.lock();
        a.raise();
        a.shared.lock.forget();
        let mut released: u32 = others.map(|other| other.join().unwrap()).iter().sum();
        if released == 0 {
            assert!(a.shared.lock.release_forgotten(&a));
            a.count();
            released = 1;
        }
        assert_eq!(released, 1);
        assert_eq!(settled(&a, 2), Taken::Sound);
    });
}

/// Who releases it passes on what it did meanwhile, and wakes who sleeps for it.
#[test]
fn loom_lock_left_locked_is_handed_on() {
    model(|| {
        let [a, b, c] = members();
        let third = thread::spawn(move || c.count());
        a.lock();
        a.raise();
        a.shared.lock.forget();
        let second = thread::spawn(move || {
            b.raise();
            assert!(b.shared.lock.release_forgotten(&b));
        });
        second.join().unwrap();
        third.join().unwrap();
        assert_eq!(settled(&a, 3), Taken::Sound);
    });
}

/// Who left it locked dies before it is released, or meanwhile: nobody releases it then, or it was released before. One collects
/// meanwhile.
#[test]
fn loom_lock_left_locked_by_the_dead() {
    for dies_first in [false, true] {
        model(move || {
            let [a, b, c] = members();
            a.lock();
            a.raise();
            a.shared.lock.forget();
            if dies_first {
                a.die();
            }
            let releasing = thread::spawn(move || b.shared.lock.release_forgotten(&b));
            if !dies_first {
                a.die();
            }
            c.shared.lock.repair(|member| member == 1, FENCES);
            let released = releasing.join().unwrap();
            assert!(!(released && dies_first));
            assert_eq!(settled(&c, 1) == Taken::OwnerDied, !released);
        });
    }
}

/// Whoever collects what the dead left wakes those who sleep, long before their time is over.
#[test]
fn loom_lock_collected_wakes_who_sleeps() {
    model(|| {
        let [a, b, c] = members();
        a.lock();
        let other = thread::spawn(move || {
            b.lock();
            b.raise();
            b.shared.lock.unlock(FENCES);
        });
        a.raise();
        a.shared.deaths.add(1);
        c.shared.lock.repair(|member| member == 1, FENCES);
        other.join().unwrap();
        assert_eq!(settled(&c, 2), Taken::OwnerDied);
    });
}

#[test]
fn loom_lock_of_a_dead_member_is_taken_over_once() {
    large_model(|| {
        let [a, b, c] = members();
        let others = [b, c].map(|member| {
            thread::spawn(move || {
                let taken = member.lock();
                member.raise();
                if taken == Taken::OwnerDied {
                    member.shared.lock.mark_consistent();
                }
                member.shared.lock.unlock(FENCES);
                taken
            })
        });
        a.lock();
        a.raise();
        a.die();
        let found = others.map(|other| other.join().unwrap());
        let died = found.iter().filter(|&&taken| taken == Taken::OwnerDied);
        // Who was before the dead one was told of nothing, of the others one.
        assert_eq!(died.count(), usize::from(found != [Taken::Sound; 2]));
        let [last] = [Member {
            shared: a.shared.clone(),
            id: 4,
            patience: Patience::default(),
        }];
        let told = settled(&last, 3);
        assert_eq!(told == Taken::OwnerDied, found == [Taken::Sound; 2]);
    });
}

/// Whoever collects what the dead left frees the lock while others find out themselves.
#[test]
fn loom_lock_repaired_while_others_take_it_over() {
    model(|| {
        let [a, b, c] = members();
        a.lock();
        a.raise();
        a.die();
        let other = thread::spawn(move || {
            let taken = b.lock();
            b.raise();
            b.shared.lock.unlock(FENCES);
            taken
        });
        c.shared.lock.repair(|member| member == 1, FENCES);
        assert_eq!(c.lock(), Taken::OwnerDied, "nobody has said otherwise");
        c.raise();
        c.shared.lock.unlock(FENCES);
        assert_eq!(other.join().unwrap(), Taken::OwnerDied);
    });
}

/// One has waited for long and goes; the lock that is reserved for it goes to who has come meanwhile.
#[test]
fn loom_lock_reserved_for_one_who_has_gone() {
    model(|| {
        let [a, b, c] = members();
        a.lock();
        let other = thread::spawn(move || b.count());
        let going = thread::spawn(move || c.shared.lock.long_for(FENCES));
        a.raise();
        a.shared.lock.unlock(FENCES);
        other.join().unwrap();
        going.join().unwrap();
        a.count();
        assert_eq!(settled(&a, 3), Taken::Sound);
    });
}

/// The one that was woken dies before it takes the lock, which may be reserved for it: the other one finds it free after its time.
#[test]
fn loom_lock_wake_up_of_a_dead_member_is_not_missed() {
    for is_long in [false, true] {
        model(move || {
            let [a, b, c] = members();
            a.lock();
            let other = thread::spawn(move || b.count());
            let dying = thread::spawn(move || {
                c.shared.lock.sleep_once(is_long, FENCES);
                c.die();
            });
            a.raise();
            a.shared.lock.unlock(FENCES);
            dying.join().unwrap();
            other.join().unwrap();
            assert_eq!(settled(&a, 2), Taken::Sound);
        });
    }
}

/// Killed anywhere from before it wants the lock until after it has released it. Two others have it then, and the first of
/// them is told if it died with it.
#[test]
fn loom_lock_of_a_member_that_dies_anywhere() {
    at_each_write(|victim| {
        let [a, b, c] = members();
        let dying = thread::spawn(move || victim.live(|| a.count(), || a.die()).is_none());
        let told = [&b, &c].map(|member| {
            let taken = member.lock();
            member.raise();
            if taken == Taken::OwnerDied {
                member.shared.lock.mark_consistent();
            }
            member.shared.lock.unlock(FENCES);
            taken == Taken::OwnerDied
        });
        assert!(dying.join().unwrap() || told == [false; 2]);
        assert!(told != [true; 2], "one death");
    });
}

/// Who repairs a dead one's lock, takes it over or releases what was left locked is killed on the way.
#[test]
fn loom_lock_of_a_dead_repairer() {
    for which in 0..3 {
        at_each_write(move |victim| {
            let [a, b, c] = members();
            a.lock();
            a.raise();
            match which {
                0 => a.shared.lock.forget(),
                _ => a.die(),
            }
            let dying = thread::spawn(move || {
                let work = || match which {
                    0 => assert!(b.shared.lock.release_forgotten(&b)),
                    1 => _ = b.shared.lock.repair(|member| member == 1, FENCES),
                    _ => b.count(),
                };
                victim.live(work, || b.die()).is_some()
            });
            let taken = match which {
                0 => {
                    if !dying.join().unwrap() {
                        c.shared.lock.release_forgotten(&c);
                    }
                    c.lock()
                }
                _ => {
                    let taken = c.lock();
                    c.raise();
                    c.shared.lock.unlock(FENCES);
                    dying.join().unwrap();
                    assert_eq!(c.lock(), taken, "nobody has said that it is consistent");
                    taken
                }
            };
            assert_eq!(taken == Taken::OwnerDied, which != 0);
            c.raise();
        });
    }
}

/// Whoever has seen the word of a dead member is slow: meanwhile the lock is taken over, and then it is a new member's with the same
/// number. That one is not robbed of it; nor is the one who took it over, whose number was a dead one's before.
#[test]
fn loom_lock_of_a_new_member_with_a_dead_ones_number() {
    model(|| {
        let [a, b, c] = members();
        a.lock();
        a.raise();
        a.die();
        b.shared.deaths.add(2);
        let slow = thread::spawn(move || c.count());
        b.shared.deaths.remove(2);
        b.lock();
        b.raise();
        b.shared.lock.mark_consistent();
        b.shared.lock.unlock(FENCES);
        a.shared.deaths.remove(1);
        a.count();
        slow.join().unwrap();
        settled(&b, 4);
    });
}
