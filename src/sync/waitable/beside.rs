//! Event counts and descriptors together: who waits sleeps on the event counts and on one word more, which a helper changes when
//! a descriptor is readable. The helper is a thread that is started with the first sleep and lasts as long as the wait.

use super::{TOGETHER, Together, WaitAny, Words, sleep_in_threads};
use crate::os::poll;
use crate::primitive::FutexWord;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, ScopedJoinHandle};
use std::time::Duration;

/// Ends the helper's sleep, whatever ends the wait.
struct Ring<'a>(&'a OwnedFd);

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        poll::ring(self.0);
    }
}

/// Runs the wait with a way to sleep on event counts and these descriptors.
pub(super) fn with_helper<R>(
    fds: &[BorrowedFd<'_>],
    wait_any: WaitAny,
    run: impl FnOnce(&Together<'_>) -> io::Result<R>,
) -> io::Result<R> {
    let readable = FutexWord::new(0);
    let bell = poll::bell()?;
    let mut all = fds.to_vec();
    all.push(bell.as_fd());
    // At once, since the word does not hold this.
    let supported = wait_any(&[(&readable, 1)], Duration::ZERO).is_ok();
    let sleep_on_descriptors = || {
        let _ = poll::readable(&all, None);
        readable.word().store(1, Relaxed);
        readable.wake(1);
    };
    std::thread::scope(|scope| {
        let helper = RefCell::new(None);
        let sleep = |words: &Words<'_>, slice| {
            if !supported || words.len() > TOGETHER {
                return sleep_in_threads(words, fds, slice, wait_any);
            }
            let mut helper = helper.borrow_mut();
            // It has ended when a descriptor is readable, which is found before the next sleep, or for no reason.
            if helper.as_ref().is_none_or(ScopedJoinHandle::is_finished) {
                readable.word().store(0, Relaxed);
                *helper = Some(Builder::new().spawn_scoped(scope, sleep_on_descriptors)?);
            }
            let mut words = words.to_vec();
            words.push((&readable, 0));
            wait_any(&words, slice)
        };
        let _ring = Ring(&bell);
        run(&sleep)
    })
}
