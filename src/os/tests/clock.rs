use std::time::Duration;

use super::within;
use crate::os::clock::Deadline;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn zero_is_now() {
    for deadline in [Deadline::NOW, Deadline::from(Duration::ZERO)] {
        assert!(deadline.expired());
        assert_eq!(deadline.remaining(), Some(Duration::ZERO));
        assert_eq!(deadline.slice(SECOND), Duration::ZERO);
    }
}

#[test]
fn none_and_too_long_are_for_ever() {
    let never = [
        Deadline::NEVER,
        Deadline::from(None),
        Deadline::from(Duration::MAX),
        Deadline::from(Some(Duration::MAX)),
    ];
    for deadline in never {
        assert!(!deadline.expired());
        assert_eq!(deadline.remaining(), None);
        assert_eq!(deadline.slice(SECOND), SECOND);
    }
}

#[test]
fn the_end_comes_nearer_and_stays() {
    within(|| {
        let deadline = Deadline::from(3600 * SECOND);
        assert!(!deadline.expired());
        assert_eq!(deadline.slice(SECOND), SECOND);
        let before = deadline.remaining().unwrap();
        assert!(before <= 3600 * SECOND);
        std::thread::sleep(Duration::from_millis(2));
        assert!(before - deadline.remaining().unwrap() >= Duration::from_millis(2));
        assert!(deadline.slice(4000 * SECOND) < 3600 * SECOND);

        let deadline = Deadline::from(Some(Duration::from_millis(2)));
        std::thread::sleep(Duration::from_millis(3));
        assert!(deadline.expired());
        assert_eq!(deadline.slice(SECOND), Duration::ZERO);
    });
}
