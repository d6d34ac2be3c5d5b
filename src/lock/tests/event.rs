#![forbid(unsafe_code)]

use super::{LONG, SOON, arena};
use crate::{Event, Lock, codec};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn it_is_set_until_it_is_cleared() {
    let arena = arena();
    let event = Event::new_in(&arena).unwrap();
    assert!(!event.is_set());
    event.clear();
    let begin = Instant::now();
    assert!(!event.wait_timeout(SOON));
    assert!(begin.elapsed() >= SOON);
    assert!(!event.wait_timeout(Duration::ZERO));
    event.set();
    event.set();
    assert!(event.is_set() && event.wait() && event.wait_timeout(Duration::MAX));
    assert_eq!(format!("{event:?}"), "Event { set: true, .. }");
    event.clear();
    assert!(!event.is_set());
    drop(event);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn everybody_who_waits_is_woken() {
    let arena = arena();
    let event = Event::new_in(&arena).unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            let waiters = [(); 3].map(|()| scope.spawn(|| event.wait_timeout(LONG)));
            thread::sleep(Duration::from_millis(2));
            event.set();
            for waiter in waiters {
                assert!(waiter.join().unwrap());
            }
        });
        event.clear();
    }
}

/// Set and cleared at once: who waited when it was set goes on.
#[test]
fn a_moment_is_enough() {
    let arena = arena();
    for _ in 0..50 {
        let event = Event::new_in(&arena).unwrap();
        thread::scope(|scope| {
            let waiters = [(); 2].map(|()| scope.spawn(|| event.wait_timeout(LONG)));
            thread::sleep(Duration::from_millis(2));
            event.set();
            event.clear();
            assert!(!event.is_set());
            // One that came too late is let go.
            let late = Instant::now();
            while waiters.iter().any(|waiter| !waiter.is_finished()) {
                if late.elapsed() > SOON * 20 {
                    event.set();
                }
                thread::yield_now();
            }
            for waiter in waiters {
                assert!(waiter.join().unwrap());
            }
        });
    }
}

#[test]
fn an_event_travels_as_what_it_is() {
    let arena = arena();
    let event = Event::new_in(&arena).unwrap();
    event.set();
    let parcel = codec::encode_parcel(&arena, &event, None).unwrap();
    assert!(codec::decode_parcel::<Lock>(&arena, &parcel, Vec::new()).is_err());
    let same: Event = codec::decode_parcel(&arena, &parcel, Vec::new()).unwrap();
    assert!(same.is_set());
    event.clear();
    assert!(!same.is_set());
}
