//! Waiting for several things at once.
//!
//! Event counts are slept on together with `futex_waitv`. Descriptors are slept on with `poll`. No system call takes both, so that for
//! a mixture a thread sleeps on the event counts while this one sleeps on the descriptors. Where the kernel has no `futex_waitv`
//! (before 5.16) it is a thread for each event count, and one for each 127 of more than that elsewhere: the named fallback.

use super::EventCount;
use crate::arena::{Arena, Block};
use crate::os::clock::Deadline;
use crate::os::poll;
use crate::primitive::{self, FutexWord};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// As for every sleep: what a wake-up lost by a kill can cost.
const SLICE: Duration = Duration::from_millis(100);
const SPINS: u32 = 200;
const YIELDS: u32 = 4;
/// How many words the kernel takes at once, but for one that ends the sleep.
const TOGETHER: usize = 127;

/// Something that [`wait`] can wait for: the end of a [`Process`](crate::Process), a message or the end of a
/// [`Connection`](crate::Connection) or [`PipeReceiver`](crate::PipeReceiver). Not to be implemented outside this crate.
pub trait Waitable {
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;
}

/// How something can be waited for.
pub struct Source<'a>(Kind<'a>);

enum Kind<'a> {
    Event {
        arena: &'a Arena,
        event: &'a EventCount,
        /// Whose end would end the wait.
        watched: Option<Block>,
        ready: Box<dyn Fn() -> bool + 'a>,
    },
    Fd(BorrowedFd<'a>),
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    /// Ready when this says so; the event is notified when it may have become so, and when the last holder of the watched
    /// object lets go.
    pub(crate) fn event(
        arena: &'a Arena,
        event: &'a EventCount,
        watched: Option<Block>,
        ready: impl Fn() -> bool + 'a,
    ) -> Self {
        Source(Kind::Event {
            arena,
            event,
            watched,
            ready: Box::new(ready),
        })
    }

    /// Ready when it is readable.
    pub(crate) fn fd(fd: BorrowedFd<'a>) -> Self {
        Source(Kind::Fd(fd))
    }

    fn is_ready(&self) -> bool {
        match &self.0 {
            // In a process that is no member there is nothing to wait for.
            Kind::Event { arena, ready, .. } => arena.check().is_err() || ready(),
            Kind::Fd(_) => false,
        }
    }

    /// Sees to it that the death of the other side becomes known.
    fn tend(&self) {
        if let Kind::Event {
            arena,
            watched: Some(watched),
            ..
        } = self.0
        {
            arena.tend(watched);
        }
    }
}

/// Waits until one of these is ready, and tells which are, by their places. Nothing is received. Ready is a connection or
/// receiver with a message, or a part of a long one, or at its end; a process that has ended. The same may be there several
/// times. With a timeout it may be that none is; `None` waits for ever, and an empty list is waited for like one that never
/// gets ready, but not for ever.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiprocess::{Pipe, spawn, wait};
/// use std::time::Duration;
///
/// let (first, _sender) = Pipe::simplex::<u8>()?;
/// let (mut second, mut sender) = Pipe::simplex::<u8>()?;
/// assert_eq!(wait(&[&first, &second], Some(Duration::ZERO))?, []);
/// sender.send(7)?;
/// assert_eq!(wait(&[&first, &second], None)?, [1]);
/// second.recv()?;
///
/// let process = spawn(|()| (), ())?;
/// assert_eq!(wait(&[&first, &second, &process], None)?, [2]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What the system says about descriptors and threads that it has none left of.
pub fn wait(items: &[&dyn Waitable], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    let deadline = Deadline::from(timeout);
    let sources: Vec<Source<'_>> = items.iter().map(|item| item.source()).collect();
    wait_for(&sources, deadline, primitive::wait_any)
}

type WaitAny = fn(&[(&FutexWord, u32)], Duration) -> io::Result<()>;

fn wait_for(
    sources: &[Source<'_>],
    deadline: Deadline,
    wait_any: WaitAny,
) -> io::Result<Vec<usize>> {
    let fds: Vec<BorrowedFd<'_>> = sources.iter().filter_map(fd_of).collect();
    if sources.is_empty() {
        std::thread::sleep(deadline.remaining().unwrap_or(Duration::ZERO));
        return Ok(Vec::new());
    }
    let mut turns = 0;
    let mut slow = false;
    loop {
        if slow {
            sources.iter().for_each(Source::tend);
        }
        let ready = look(sources, &fds)?;
        if !ready.is_empty() || (deadline.expired() && slow) {
            return Ok(ready);
        }
        if deadline.expired() {
            // The last look comes after the dead were asked about.
            slow = true;
        } else if turns < SPINS + YIELDS && fds.is_empty() {
            turns += 1;
            match turns <= SPINS {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        } else {
            let since = std::time::Instant::now();
            sleep(sources, &fds, deadline, wait_any)?;
            slow = since.elapsed() >= SLICE;
        }
    }
}

fn fd_of<'a>(source: &Source<'a>) -> Option<BorrowedFd<'a>> {
    match source.0 {
        Kind::Fd(fd) => Some(fd),
        Kind::Event { .. } => None,
    }
}

fn look(sources: &[Source<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<Vec<usize>> {
    let readable = match fds.is_empty() {
        true => Vec::new(),
        false => poll::readable(fds, Some(Duration::ZERO))?,
    };
    let mut fd = 0;
    let mut ready = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        if fd_of(source).is_some() {
            if readable[fd] {
                ready.push(place);
            }
            fd += 1;
        } else if source.is_ready() {
            ready.push(place);
        }
    }
    Ok(ready)
}

/// Sleeps until something may be ready; at most for a slice.
fn sleep(
    sources: &[Source<'_>],
    fds: &[BorrowedFd<'_>],
    deadline: Deadline,
    wait_any: WaitAny,
) -> io::Result<()> {
    let mut words = Vec::new();
    let mut fences = None;
    for source in sources {
        if let Kind::Event { arena, event, .. } = &source.0 {
            words.push(event.announce());
            fences = Some(arena.fences());
        }
    }
    // (W) of each event count at once, then the look behind it.
    if let Some(fences) = fences {
        fences.heavy();
    }
    if sources.iter().any(Source::is_ready) {
        return Ok(());
    }
    let slice = deadline.slice(SLICE);
    if words.is_empty() {
        return poll::readable(fds, deadline.remaining()).map(drop);
    }
    if fds.is_empty() && words.len() <= TOGETHER {
        match wait_any(&words, slice) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            done => return done,
        }
    }
    sleep_in_threads(&words, fds, slice, wait_any)
}

/// For what no single system call sleeps on.
fn sleep_in_threads(
    words: &[(&FutexWord, u32)],
    fds: &[BorrowedFd<'_>],
    slice: Duration,
    wait_any: WaitAny,
) -> io::Result<()> {
    let over = FutexWord::new(0);
    let bell = poll::bell()?;
    let end = || {
        over.word().store(1, Relaxed);
        over.wake(u32::MAX >> 1);
        poll::ring(&bell);
    };
    let groups: Vec<_> = words.chunks(TOGETHER).collect();
    let doze = |group: &[(&FutexWord, u32)]| {
        let mut all = group.to_vec();
        all.push((&over, 0));
        let done = wait_any(&all, slice);
        end();
        done
    };
    let supported = wait_any(&[(&over, 1)], Duration::ZERO).is_ok();
    std::thread::scope(|scope| {
        let mut asleep = Vec::new();
        for &group in &groups {
            if supported {
                asleep.push(std::thread::Builder::new().spawn_scoped(scope, move || {
                    let _ = doze(group);
                }));
                continue;
            }
            for &(word, key) in group {
                asleep.push(std::thread::Builder::new().spawn_scoped(scope, move || {
                    word.wait(key, slice);
                    end();
                }));
            }
        }
        let started = asleep.into_iter().try_for_each(|thread| thread.map(drop));
        let woken = match started {
            Ok(()) => {
                let mut all = fds.to_vec();
                all.push(bell.as_fd());
                poll::readable(&all, Some(slice)).map(drop)
            }
            Err(error) => Err(error),
        };
        end();
        if !supported {
            // Others who sleep there look again and go on sleeping.
            for (word, _) in words {
                word.wake(u32::MAX >> 1);
            }
        }
        woken
    })
}

#[cfg(all(test, not(loom)))]
mod tests;
