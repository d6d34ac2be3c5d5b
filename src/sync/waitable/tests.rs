use super::*;
use crate::primitive::AtomicU32;
use std::thread;

/// A kernel that has no `futex_waitv`.
fn no_wait_any(_: &[(&FutexWord, u32)], _: Duration) -> io::Result<()> {
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
        .map(|(event, flag)| Source::event(&arena, event, None, || flag.load(Relaxed) != 0))
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

#[test]
fn nothing_to_wait_for() {
    assert_eq!(wait(&[], None).unwrap(), []);
    assert_eq!(wait(&[], Some(SOON)).unwrap(), []);
}
