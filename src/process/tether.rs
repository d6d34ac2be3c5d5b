//! The pipe by which a daemon ends with its parent: the parent alone has the end to write, and the kernel closes that however
//! the parent ends. A copy of it in another process would keep the daemon alive, so every `fork` of this process, also one
//! by somebody else's code, closes its copies; programs started from here never get one (close-on-exec).
//!
//! What the handlers of a `fork` do, they do between it and the program's next step, where only atomics and system calls are
//! allowed.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::os::clock::Deadline;
use crate::os::fds;
use crate::os::spawn::fork;
use crate::primitive::private::{AtomicU32, AtomicU64};

/// The end to write of a pipe; closed when dropped.
#[derive(Debug)]
pub(super) struct Tether {
    place: &'static Place,
    fd: RawFd,
    inode: u64,
}

/// A place in the list of all ends to write of this process. The list only grows.
#[derive(Debug)]
struct Place {
    /// [`FREE`], [`TAKEN`], [`LOST`], or the descriptor + [`OPEN`].
    word: AtomicU64,
    /// Of the pipe: the program may have closed what is not its own, and the number means something else now.
    inode: AtomicU64,
    next: OnceLock<&'static Place>,
}

const FREE: u64 = 0;
const TAKEN: u64 = 1;
/// Its descriptor was closed in a copy of the process, where a tether to it may be dropped yet: not used again.
const LOST: u64 = 2;
const OPEN: u64 = 3;

static FIRST: Place = Place::new();
/// Forks that have begun, and that are over.
static BEGUN: AtomicU32 = AtomicU32::new(0);
static OVER: AtomicU32 = AtomicU32::new(0);

/// How long one waits for a moment without a fork.
const PATIENCE: Duration = Duration::from_secs(1);

impl Tether {
    /// A pipe: the end to read, which is for one child, and the other.
    ///
    /// # Errors
    ///
    /// No descriptors are left; no memory.
    pub(super) fn new() -> io::Result<(OwnedFd, Tether)> {
        handle_forks()?;
        let deadline = Deadline::from(PATIENCE);
        loop {
            let over = OVER.load(SeqCst);
            let begun = BEGUN.load(SeqCst);
            let (read, write) = fds::pipe()?;
            let tether = Tether::list(write)?;
            // A fork in between has copied a descriptor that was not on the list.
            let none_runs = begun.wrapping_sub(over) as i32 <= 0;
            if (none_runs && BEGUN.load(SeqCst) == begun) || deadline.expired() {
                return Ok((read, tether));
            }
            drop((read, tether));
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn list(pipe: OwnedFd) -> io::Result<Tether> {
        let inode = fds::inode(pipe.as_fd())?;
        let place = Place::take();
        place.inode.store(inode, SeqCst);
        let fd = pipe.into_raw_fd();
        place.word.store(fd as u64 + OPEN, SeqCst);
        Ok(Tether { place, fd, inode })
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        let open = self.fd as u64 + OPEN;
        // Off the list first: the number may be another's as soon as it is closed.
        let word = &self.place.word;
        if word.compare_exchange(open, FREE, SeqCst, SeqCst).is_ok() {
            fds::close_pipe(self.fd, self.inode);
        }
    }
}

impl Place {
    const fn new() -> Place {
        Place {
            word: AtomicU64::new(FREE),
            inode: AtomicU64::new(0),
            next: OnceLock::new(),
        }
    }

    fn take() -> &'static Place {
        let mut place = &FIRST;
        loop {
            let word = &place.word;
            if word.compare_exchange(FREE, TAKEN, SeqCst, SeqCst).is_ok() {
                return place;
            }
            place = place.next.get_or_init(|| Box::leak(Box::new(Place::new())));
        }
    }
}

/// `pthread_atfork`, once.
fn handle_forks() -> io::Result<()> {
    static HANDLED: OnceLock<()> = OnceLock::new();
    if HANDLED.get().is_none() {
        // Two threads may both do it: the handlers may run twice.
        fork::at_fork(before, after, in_copy)?;
        let _ = HANDLED.set(());
    }
    Ok(())
}

extern "C" fn before() {
    BEGUN.fetch_add(1, SeqCst);
}

extern "C" fn after() {
    OVER.fetch_add(1, SeqCst);
}

extern "C" fn in_copy() {
    let mut place = Some(&FIRST);
    while let Some(at) = place {
        let word = at.word.load(SeqCst);
        if word != FREE {
            at.word.store(LOST, SeqCst);
        }
        if word >= OPEN {
            fds::close_pipe((word - OPEN) as RawFd, at.inode.load(SeqCst));
        }
        place = at.next.get().copied();
    }
    OVER.store(BEGUN.load(SeqCst), SeqCst);
}
