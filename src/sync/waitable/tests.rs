use super::*;
use crate::primitive::AtomicU32;
use std::thread;
use std::time::Instant;

/// A kernel that has no `futex_waitv`.
fn no_wait_any(_: &Words<'_>, _: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

const SOON: Duration = Duration::from_millis(10);

/// Waits for the last of `count` event counts, or for the bell, in each way.
fn wake_up(count: usize, wait_any: WaitAny, with_fd: bool, ring: bool) {
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let events: Vec<EventCount> = (0..count).map(|_| EventCount::new()).collect();
    let flags: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
    let bell = poll::bell().unwrap();
    let mut sources: Vec<Source<'_>> = events
        .iter()
        .zip(&flags)
        .map(|(event, flag)| Source::event(&arena, None, || event, || flag.load(Relaxed) != 0))
        .collect();
    if with_fd {
        sources.push(Source::fd(bell.as_fd()));
    }
    let none = wait_for(&sources, Deadline::from(SOON), wait_any).unwrap();
    assert_eq!(none, []);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(SOON);
            if ring {
                poll::ring(&bell);
            } else {
                flags[count - 1].store(1, Relaxed);
                events[count - 1].notify_one(arena.fences());
            }
        });
        let ready = wait_for(&sources, Deadline::NEVER, wait_any).unwrap();
        assert_eq!(ready, [if ring { count } else { count - 1 }]);
    });
    // All that are ready are told.
    flags[0].store(1, Relaxed);
    let ready = wait_for(&sources, Deadline::NEVER, wait_any).unwrap();
    assert_eq!(ready.len(), if count == 1 && !ring { 1 } else { 2 });
}

#[test]
fn any_of_several_wakes() {
    for count in [1, 3, 127, 130, 300] {
        wake_up(count, primitive::wait_any, false, false);
    }
}

#[test]
fn events_and_descriptors_together() {
    for count in [1, 3, 130] {
        wake_up(count, primitive::wait_any, true, false);
        wake_up(count, primitive::wait_any, true, true);
    }
}

#[test]
fn without_the_system_call() {
    for count in [1, 3] {
        wake_up(count, no_wait_any, false, false);
        wake_up(count, no_wait_any, true, false);
        wake_up(count, no_wait_any, true, true);
    }
}

/// By then it hangs.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn nothing_to_wait_for() {
    assert_eq!(wait(&[], None).unwrap(), []);
    assert_eq!(wait(&[], Some(SOON)).unwrap(), []);
}

/// Who waits for a message and does not take it passes the wake-up on.
#[test]
fn a_wake_up_is_not_kept() {
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let (event, flag, spin) = (EventCount::new(), AtomicU32::new(0), Spin::default());
    let (woken, said) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let ready = |_| flag.load(Relaxed) != 0;
            let source = Source::queue(&arena, &spin, || [Some(&event), None], ready);
            let place = wait_for(&[source], Deadline::NEVER, primitive::wait_any).unwrap();
            assert_eq!(place, [0]);
        });
        // Behind the one who only waits.
        thread::sleep(SOON);
        scope.spawn(|| {
            let key = event.prepare(arena.fences());
            event.sleep(key, LONG);
            woken.send(()).unwrap();
        });
        thread::sleep(SOON);
        flag.store(1, Relaxed);
        event.notify_one(arena.fences());
        let passed_on = said.recv_timeout(LONG / 2);
        event.notify_all(arena.fences());
        assert!(passed_on.is_ok());
    });
}

/// One sleep a slice, and as many looks: nothing is polled.
#[test]
fn a_wait_sleeps() {
    static SLEEPS: AtomicU32 = AtomicU32::new(0);
    fn count(_: &Words<'_>, slice: Duration) -> io::Result<()> {
        SLEEPS.fetch_add(1, Relaxed);
        thread::sleep(slice);
        Ok(())
    }
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let (event, looks) = (EventCount::new(), AtomicU32::new(0));
    let source = Source::event(
        &arena,
        None,
        || &event,
        || {
            looks.fetch_add(1, Relaxed);
            false
        },
    );
    let time = SLICE * 5 / 2;
    assert_eq!(
        wait_for(&[source], Deadline::from(time), count).unwrap(),
        []
    );
    assert!((1..=3).contains(&SLEEPS.load(Relaxed)));
    assert!(looks.load(Relaxed) <= 2 * 3 + 2 + SPINS + YIELDS);
}

/// A helper sleeps on the descriptors, slice after slice; who waits sleeps on the rest himself.
#[test]
fn a_mixture_takes_one_thread_for_the_whole_wait() {
    static ELSEWHERE: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static HERE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    fn count(words: &Words<'_>, slice: Duration) -> io::Result<()> {
        HERE.set(HERE.get() + 1);
        if HERE.get() == 1 {
            ELSEWHERE.fetch_add(1, Relaxed);
        }
        primitive::wait_any(words, slice)
    }
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let (event, bell) = (EventCount::new(), poll::bell().unwrap());
    let enough = std::cell::Cell::new(4);
    let sources = [
        Source::event(&arena, None, || &event, || HERE.get() >= enough.get()),
        Source::fd(bell.as_fd()),
    ];
    let after_some = wait_for(&sources, Deadline::from(LONG), count).unwrap();
    assert_eq!(after_some, [0], "who waits does not sleep himself");
    assert_eq!(ELSEWHERE.load(Relaxed), 1, "nobody else does");
    enough.set(u32::MAX);
    // It ends when the descriptor is readable, and the wait with it.
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(SOON);
            poll::ring(&bell);
        });
        assert_eq!(wait_for(&sources, Deadline::NEVER, count).unwrap(), [1]);
    });
}

/// However short each call is, and whatever ends it: owners are asked about once a slice, and not more often.
#[test]
fn short_waits_ask_now_and_then() {
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let event = EventCount::new();
    for is_ready in [true, false] {
        let (spin, asked) = (Spin::default(), AtomicU32::new(0));
        let (begin, mut calls) = (Instant::now(), 0);
        while asked.load(Relaxed) < 3 {
            let ready = |slow| {
                asked.fetch_add(u32::from(slow), Relaxed);
                is_ready
            };
            let source = Source::queue(&arena, &spin, || [Some(&event), None], ready);
            let told = wait_for(&[source], Deadline::NOW, primitive::wait_any).unwrap();
            assert_eq!(told.len(), usize::from(is_ready));
            calls += 1;
            assert!(begin.elapsed() < 1000 * SLICE, "it does not ask");
        }
        // Who finds nothing asks the first time as well. Time is counted in whole milliseconds.
        let slices = begin.elapsed().as_millis() / (SLICE.as_millis() - 1) + 1;
        assert!(u128::from(asked.load(Relaxed)) <= slices, "{calls} calls");
    }
}

/// What comes between the last look and the announcement is seen before the sleep, and not a slice later.
#[test]
fn a_wait_looks_again_before_it_sleeps() {
    fn never(_: &Words<'_>, _: Duration) -> io::Result<()> {
        panic!("it sleeps on what is ready")
    }
    let arena = Arena::heap(8, crate::KINDS).unwrap();
    let event = EventCount::new();
    let word = event.announce().0.word();
    // Nobody sleeps, so the mark goes.
    event.notify_all(arena.fences());
    let is_announced = || word.load(Relaxed) & 1 != 0;
    assert!(!is_announced());
    // Ready as soon as somebody says that he will sleep.
    let source = Source::event(&arena, None, || &event, is_announced);
    let ready = wait_for(&[source], Deadline::NEVER, never).unwrap();
    assert_eq!(ready, [0]);
}
