//! Eight processes on whatever processors there are use everything at random, and are killed at random. `STORM_SECONDS` says for how
//! long.

use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{
    Barrier, BarrierError, Condition, Event, Guard, Lock, LockError, Process, RLock, RLockGuard,
    Semaphore, Value, family,
};
use serde::{Deserialize, Serialize};

#[path = "../common/children.rs"]
#[allow(dead_code)]
mod children;
#[path = "../common/guard.rs"]
mod guard;

use children::start;
use guard::{LONG, watch_for};

const WORKERS: usize = 8;
const PERMITS: usize = 3;
/// Room for more than there should be.
const SEATS: usize = 2 * PERMITS;

#[derive(Clone, Serialize, Deserialize)]
struct World {
    /// Equal unless somebody died between them.
    pair: Lock<[u64; 2]>,
    recursive: RLock,
    /// Who has the recursive lock; nobody else changes it.
    holder: Value<u32>,
    permits: Semaphore,
    /// The pids of those who have a permit, once for each.
    inside: Lock<[u32; SEATS]>,
    event: Event,
    changed: Condition,
    barrier: Barrier,
    value: Value<[u32; 8]>,
}

fn world() -> World {
    World {
        pair: Lock::new([0; 2]).unwrap(),
        recursive: RLock::new().unwrap(),
        holder: Value::new(0).unwrap(),
        permits: Semaphore::new(PERMITS).unwrap(),
        inside: Lock::new([0; SEATS]).unwrap(),
        event: Event::new().unwrap(),
        changed: Condition::new().unwrap(),
        barrier: Barrier::new(3).unwrap(),
        value: Value::new([0; 8]).unwrap(),
    }
}

/// Numbers without order, always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pause(&mut self) {
        match self.below(16) {
            0 => thread::sleep(Duration::from_micros(self.below(300))),
            1..=4 => thread::yield_now(),
            _ => {}
        }
    }
}

type Pair<'a> = Guard<'a, [u64; 2]>;

/// The pair, put right if somebody died with it.
fn sound<'a>(taken: Result<Pair<'a>, LockError<Pair<'a>>>) -> Option<Pair<'a>> {
    let guard = match taken {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(mut guard)) => {
            assert!(guard[0] - guard[1] <= 1, "one death, one half");
            guard[1] = guard[0];
            guard.mark_consistent();
            guard
        }
        Err(LockError::TimedOut | LockError::WouldBlock) => return None,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(guard[0], guard[1]);
    Some(guard)
}

fn again<'a>(taken: Result<RLockGuard<'a>, LockError<RLockGuard<'a>>>) -> Option<RLockGuard<'a>> {
    match taken {
        Ok(guard) => Some(guard),
        Err(LockError::OwnerDied(guard)) => {
            guard.mark_consistent();
            Some(guard)
        }
        Err(LockError::TimedOut | LockError::WouldBlock) => None,
        Err(error) => panic!("{error}"),
    }
}

fn work((world, seed): (World, u64)) {
    let mut random = Random(seed * 2 + 1);
    loop {
        match random.below(10) {
            0 => use_pair(&world, &mut random),
            1 => wait_with_pair(&world, &mut random),
            2 => use_recursively(&world, &mut random),
            3 => use_permits(&world, &mut random),
            4 => meet(&world, &mut random),
            5 => use_event(&world, &mut random),
            6 => notify(&world, &mut random),
            7 => use_value(&world, &mut random),
            8 => leave_locked(&world, &mut random),
            _ => keep_until_the_end(&world, &mut random),
        }
    }
}

fn use_pair(world: &World, random: &mut Random) {
    let taken = match random.below(3) {
        0 => world.pair.lock(),
        1 => world.pair.try_lock(),
        _ => world
            .pair
            .lock_timeout(Duration::from_micros(random.below(3000))),
    };
    let Some(mut guard) = sound(taken) else {
        return;
    };
    assert!(matches!(world.pair.try_lock(), Err(LockError::Deadlock)));
    guard[0] += 1;
    random.pause();
    guard[1] += 1;
}

fn wait_with_pair(world: &World, random: &mut Random) {
    let Some(guard) = sound(world.pair.lock()) else {
        return;
    };
    let seen = guard[0];
    let patience = Duration::from_micros(random.below(4000));
    let waited = world
        .changed
        .wait_timeout_while(guard, patience, |guard| guard[0] == seen);
    let mut guard = match waited {
        Ok((guard, _)) => guard,
        Err(error) => sound(Err(LockError::OwnerDied(error.into_guard()))).expect("a guard"),
    };
    guard[0] += 1;
    guard[1] += 1;
}

/// Three times, dropped in whatever order, and given up whole for a wait.
fn use_recursively(world: &World, random: &mut Random) {
    let Some(first) = again(world.recursive.lock_timeout(Duration::from_millis(5))) else {
        return;
    };
    let me = std::process::id();
    world.holder.set(me).unwrap();
    let second = again(world.recursive.try_lock()).expect("its own");
    let third = again(world.recursive.lock()).expect("its own");
    let mut guards = vec![first, second];
    match random.below(2) {
        0 => guards.push(third),
        _ => {
            let patience = Duration::from_micros(random.below(2000));
            let guard = match world.changed.wait_timeout(third, patience) {
                Ok((guard, _)) => guard,
                Err(error) => {
                    let guard = error.into_guard();
                    guard.mark_consistent();
                    guard
                }
            };
            world.holder.set(me).unwrap();
            guards.push(guard);
        }
    }
    if random.below(3) == 0 {
        guards.swap_remove(random.below(3) as usize).forget();
    }
    while !guards.is_empty() {
        random.pause();
        assert!(world.recursive.is_locked());
        assert_eq!(left(world), me, "somebody else was there");
        drop(guards.swap_remove(random.below(guards.len() as u64) as usize));
    }
    let _ = world.recursive.release();
    assert!(world.recursive.release().is_err(), "one was left at most");
}

fn left(world: &World) -> u32 {
    match world.holder.get() {
        Ok(pid) => pid,
        Err(LockError::OwnerDied(pid)) => pid,
        Err(error) => panic!("{error}"),
    }
}

/// Those who are inside. Each change is one word: whoever died, the table is right but for the dead.
fn inside(world: &World) -> Guard<'_, [u32; SEATS]> {
    match world.inside.lock() {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(guard)) => {
            guard.mark_consistent();
            guard
        }
        Err(error) => panic!("{error}"),
    }
}

fn has_died(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}

/// Enters itself, with a permit in hand. Nobody leaves meanwhile, so that there is room but for the dead.
fn enter(world: &World) {
    let mut inside = inside(world);
    for patience in (0..1000).rev() {
        for pid in inside.iter_mut().filter(|pid| **pid != 0) {
            if has_died(*pid) {
                *pid = 0;
            }
        }
        let count = inside.iter().filter(|pid| **pid != 0).count();
        if count < PERMITS {
            break;
        }
        // One whose permit has come back may not have quite ended for others.
        assert!(patience > 0, "{PERMITS} permits for more: {inside:?}");
        thread::sleep(Duration::from_millis(1));
    }
    let seat = inside.iter().position(|pid| *pid == 0).expect("a seat");
    inside[seat] = std::process::id();
}

/// Before it gives its permit back.
fn leave(world: &World) {
    let me = std::process::id();
    let mut inside = inside(world);
    let seat = inside.iter().position(|pid| *pid == me);
    inside[seat.expect("it has entered itself")] = 0;
}

fn use_permits(world: &World, random: &mut Random) {
    let count = 1 + random.below(2);
    let mut permits = Vec::new();
    for _ in 0..count {
        let patience = Duration::from_micros(random.below(3000));
        if let Ok(permit) = world.permits.acquire_timeout(patience) {
            enter(world);
            permits.push(permit);
        }
    }
    random.pause();
    while !permits.is_empty() {
        leave(world);
        drop(permits.swap_remove(random.below(permits.len() as u64) as usize));
    }
}

fn meet(world: &World, random: &mut Random) {
    let patience = Duration::from_micros(random.below(8000));
    match world.barrier.wait_timeout(patience) {
        Ok(number) => assert!(number < 3),
        Err(BarrierError::Broken | BarrierError::TimedOut) => match random.below(8) {
            0 => world.barrier.abort(),
            _ => world.barrier.reset(),
        },
        Err(error) => panic!("{error}"),
    }
}

fn use_event(world: &World, random: &mut Random) {
    match random.below(3) {
        0 => world.event.set(),
        1 => world.event.clear(),
        _ => {
            _ = world
                .event
                .wait_timeout(Duration::from_micros(random.below(2000)))
        }
    }
}

fn notify(world: &World, random: &mut Random) {
    match random.below(3) {
        0 => world.changed.notify_one(),
        1 => world.changed.notify(2),
        _ => world.changed.notify_all(),
    }
}

fn use_value(world: &World, random: &mut Random) {
    let by = random.below(1000) as u32;
    let updated = world.value.update(|numbers| {
        assert!(numbers.iter().all(|n| *n == numbers[0]), "{numbers:?}");
        numbers.iter_mut().for_each(|n| *n = by);
    });
    if updated.is_err_and(|error| error.is_owner_died()) {
        world.value.set([by; 8]).unwrap();
    }
}

fn leave_locked(world: &World, random: &mut Random) {
    if let Some(guard) = sound(world.pair.lock()) {
        guard.forget();
        random.pause();
        world.pair.release().expect("this process left it locked");
    }
}

/// Now and then one ends with all that it has.
fn keep_until_the_end(world: &World, random: &mut Random) {
    if random.below(200) != 0 {
        return;
    }
    if let Ok(permit) = world.permits.try_acquire() {
        enter(world);
        std::mem::forget(permit);
    }
    std::mem::forget(world.inside.try_lock());
    std::mem::forget(world.recursive.try_lock());
    random.pause();
    match random.below(2) {
        0 => std::process::exit(0),
        _ => std::process::abort(),
    }
}

#[test]
fn nothing_is_lost_in_a_storm() {
    let seconds = std::env::var("STORM_SECONDS").map_or(3, |text| text.parse().unwrap());
    let _watch = watch_for(LONG + Duration::from_secs(seconds));
    // Whatever a family sets up once, it has set up after this.
    start(|()| (), ()).join().unwrap();
    let before = family::stats();
    let world = world();
    let mut random = Random(1);
    let mut seed = 0;
    let mut next = || {
        seed += 1;
        start(work, (world.clone(), seed))
    };
    let mut workers: Vec<Process<()>> = (0..WORKERS).map(|_| next()).collect();
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_micros(random.below(10_000)));
        let worker = workers.swap_remove(random.below(WORKERS as u64) as usize);
        let _ = worker.kill();
        if random.below(2) == 0 {
            let exit = worker.wait();
            let code = exit.code().expect("it ended");
            assert!(
                [0, -libc::SIGKILL, -libc::SIGABRT].contains(&code),
                "{exit:?}"
            );
        } else {
            // A zombie for a while.
            drop(worker);
        }
        workers.push(next());
        kills += 1;
        // One who is not killed gets on.
        let taken = world.pair.lock_timeout(LONG);
        drop(sound(taken).expect("lost"));
        let permit = world.permits.acquire_timeout(LONG).expect("lost");
        enter(&world);
        leave(&world);
        drop(permit);
    }
    for worker in workers {
        let _ = worker.kill();
        worker.wait();
    }
    println!("{kills} kills");
    drop(sound(world.pair.lock_timeout(LONG)).expect("lost"));
    drop(again(world.recursive.lock_timeout(LONG)).expect("lost"));
    assert!(!world.recursive.is_locked());
    let permits = [(); PERMITS].map(|()| world.permits.acquire_timeout(LONG).expect("lost"));
    assert!(world.permits.try_acquire().is_err(), "one too many");
    drop(permits);
    world.barrier.reset();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| world.barrier.wait_timeout(LONG).expect("whole again"));
        }
    });
    assert_eq!(world.barrier.waiting(), 0);
    world.value.set([1; 8]).unwrap();
    drop(world);
    // Of those whose handles were dropped, one or the other may still be about to end.
    let mut after = family::stats();
    while after.members > before.members {
        thread::sleep(Duration::from_millis(1));
        after = family::stats();
    }
    assert_eq!(after.objects, before.objects);
    assert_eq!(after.bytes_in_use, before.bytes_in_use);
}
