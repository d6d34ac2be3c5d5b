//! Waiting for several things at once.
//!
//! Event counts are slept on together with `futex_waitv`. Descriptors are slept on with `poll`. No system call takes both, so that for
//! a mixture one thread sleeps on the descriptors as long as the wait lasts (`beside.rs`). More than 127 event counts take a thread for
//! each 127, each slice anew. Where the kernel has no `futex_waitv` (before 5.16) it is one for each event count: the named fallback.

use super::EventCount;
use super::wait::{SLICE, Spin};
use crate::arena::Arena;
use crate::error::Error;
use crate::os::clock::{Deadline, milliseconds};
use crate::os::poll;
use crate::primitive::{self, FutexWord};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const SPINS: u32 = 200;
const YIELDS: u32 = 4;
/// How many words the kernel takes at once, but for one that ends the sleep.
const TOGETHER: usize = 127;

/// Something that [`wait`] can wait for: a message or the end of a [`Connection`](crate::Connection), a
/// [`PipeReceiver`](crate::PipeReceiver), a [`Queue`](crate::Queue), a [`Receiver`](crate::Receiver) or a
/// [`JoinableQueue`](crate::JoinableQueue), an [`Event`](crate::Event), the end of a [`Process`](crate::Process) or
/// [`ProcessRef`](crate::ProcessRef). Not to be implemented outside this crate.
pub trait Waitable {
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;
}

/// How something can be waited for.
pub struct Source<'a>(Kind<'a>);

/// One as a rule.
type Events<'a> = [Option<&'a EventCount>; 2];

enum Kind<'a> {
    Events(Events<'a>, Looks<'a>),
    Fd(BorrowedFd<'a>),
    Fixed(bool),
    /// In a process that is no member there is nothing to wait for.
    Foreign,
}

struct Looks<'a> {
    arena: &'a Arena,
    /// Whose end would end the wait, and when that was last asked about.
    spin: Option<&'a Spin>,
    /// It has just been asked about, so that the next look may ask about owners too.
    slow: Cell<bool>,
    /// Whether others may sleep on the same events, and be who a wake-up was for.
    shared: bool,
    ready: Box<dyn Fn(bool) -> bool + 'a>,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    /// Ready when this says so; the event is notified when it may have become so, and when the last holder of what is watched
    /// lets go. Whoever sleeps there is woken each time, or there is only one.
    pub(crate) fn event(
        arena: &'a Arena,
        spin: Option<&'a Spin>,
        event: impl FnOnce() -> &'a EventCount,
        ready: impl Fn() -> bool + 'a,
    ) -> Self {
        let events = || [Some(event()), None];
        Source::new(arena, spin, false, events, move |_| ready())
    }

    /// The same where one is woken for each message. With `ready(true)` it may ask the kernel about owners.
    pub(crate) fn queue(
        arena: &'a Arena,
        spin: &'a Spin,
        events: impl FnOnce() -> Events<'a>,
        ready: impl Fn(bool) -> bool + 'a,
    ) -> Self {
        Source::new(arena, Some(spin), true, events, ready)
    }

    fn new(
        arena: &'a Arena,
        spin: Option<&'a Spin>,
        shared: bool,
        events: impl FnOnce() -> Events<'a>,
        ready: impl Fn(bool) -> bool + 'a,
    ) -> Self {
        if arena.check().is_err() {
            return Source(Kind::Foreign);
        }
        let looks = Looks {
            arena,
            spin,
            slow: Cell::new(false),
            shared,
            ready: Box::new(ready),
        };
        Source(Kind::Events(events(), looks))
    }

    /// Ready when it is readable.
    pub(crate) fn fd(fd: BorrowedFd<'a>) -> Self {
        Source(Kind::Fd(fd))
    }

    /// Ready now and for ever, or never.
    pub(crate) fn fixed(ready: bool) -> Self {
        Source(Kind::Fixed(ready))
    }

    fn is_ready(&self, slow: bool) -> bool {
        match &self.0 {
            Kind::Events(_, looks) => (looks.ready)(slow),
            Kind::Fixed(ready) => *ready,
            Kind::Fd(_) | Kind::Foreign => false,
        }
    }

    fn looks(&self) -> Option<&Looks<'a>> {
        match &self.0 {
            Kind::Events(_, looks) => Some(looks),
            _ => None,
        }
    }

    fn events(&self) -> impl Iterator<Item = (&'a EventCount, &Looks<'a>)> {
        let (events, looks) = match &self.0 {
            Kind::Events(events, looks) => (*events, Some(looks)),
            _ => ([None; 2], None),
        };
        events
            .into_iter()
            .flatten()
            .zip(std::iter::repeat(looks))
            .filter_map(|(event, looks)| Some((event, looks?)))
    }

    /// Nothing is received here: the wake-up that was for a message may be needed by somebody else who sleeps.
    fn pass_on(&self) {
        for (event, looks) in self.events().filter(|(_, looks)| looks.shared) {
            event.notify_one(looks.arena.fences());
        }
    }
}

/// Waits until one of these is ready, and tells which are, by their places. Nothing is received. Ready is a connection, queue or
/// receiver with a message, or a part of a long one, or at its end; an event that is set, or was during the call; a process that
/// has ended. What several take from may be empty again when this one comes. The same may be there several times. With a timeout it
/// may be that none is; `None` waits for ever, and an empty list is waited for like one that never gets ready, but not for ever.
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
/// [`Error::ForeignFork`] when something of the family is among these in a process that is no member of it. What the system says about
/// descriptors and threads that it has none left of.
pub fn wait(items: &[&dyn Waitable], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    let deadline = Deadline::from(timeout);
    let sources: Vec<Source<'_>> = items.iter().map(|item| item.source()).collect();
    if sources
        .iter()
        .any(|source| matches!(source.0, Kind::Foreign))
    {
        return Err(Error::ForeignFork.into());
    }
    wait_for(&sources, deadline, primitive::wait_any)
}

type WaitAny = fn(&Words<'_>, Duration) -> io::Result<()>;

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
    let now = milliseconds();
    ask(sources, now, false);
    let ready = look(sources, &fds)?;
    if !ready.is_empty() {
        return Ok(ready);
    }
    if fds.len() < sources.len() && !deadline.expired() {
        spin(sources);
    }
    if deadline.expired() || fds.is_empty() || fds.len() == sources.len() {
        let together = |words: &Words<'_>, slice| sleep_together(words, &fds, slice, wait_any);
        return sleep_and_look(sources, &fds, deadline, now, &together);
    }
    beside::with_helper(&fds, wait_any, |together| {
        sleep_and_look(sources, &fds, deadline, now, together)
    })
}

/// The words to sleep on, and what they hold.
type Words<'a> = [(&'a FutexWord, u32)];
/// Sleeps on the words, and on the descriptors of the wait, at most for a slice.
type Together<'a> = dyn Fn(&Words<'_>, Duration) -> io::Result<()> + 'a;

fn sleep_and_look(
    sources: &[Source<'_>],
    fds: &[BorrowedFd<'_>],
    deadline: Deadline,
    mut now: u64,
    together: &Together<'_>,
) -> io::Result<Vec<usize>> {
    let mut slept = false;
    loop {
        let last = deadline.expired();
        ask(sources, now, last);
        let ready = look(sources, fds)?;
        if !ready.is_empty() && slept {
            ready.iter().for_each(|&place| sources[place].pass_on());
        }
        if !ready.is_empty() || last {
            return Ok(ready);
        }
        sleep(sources, fds, deadline, now, together)?;
        slept = true;
        now = milliseconds();
    }
}

/// Sees to it that deaths become known, a slice after that was done last, in whatever call. The last look of a wait comes after
/// the first question at least.
fn ask(sources: &[Source<'_>], now: u64, last: bool) {
    let looks = || sources.iter().filter_map(Source::looks);
    let mut any = false;
    for looks in looks() {
        looks.slow.set(false);
        if let Some(spin) = looks.spin {
            spin.asked.begin(now);
            any |= spin.asked.age(now) >= SLICE || (last && spin.asked.is_due(now));
        }
    }
    let Some(first) = looks().find(|_| any) else {
        return;
    };
    // Those that would be due soon come along: else a wait for many would be woken for one after the other.
    let mut watched = Vec::new();
    for looks in looks() {
        let due =
            |spin: &&Spin| spin.asked.age(now) >= SLICE / 2 || (last && spin.asked.is_due(now));
        if let Some(spin) = looks.spin.filter(due) {
            looks.slow.set(true);
            spin.asked.note(now);
            watched.extend(spin.watched());
        }
    }
    first.arena.tend_all(watched.into_iter());
}

/// How long from `now` on nobody need be asked about.
fn rest(sources: &[Source<'_>], now: u64) -> Duration {
    let spins = sources.iter().filter_map(|source| source.looks()?.spin);
    let oldest = spins.map(|spin| spin.asked.age(now)).max();
    SLICE.saturating_sub(oldest.unwrap_or_default())
}

fn spin(sources: &[Source<'_>]) {
    for turn in 0..SPINS + YIELDS {
        if sources.iter().any(|source| source.is_ready(false)) {
            return;
        }
        match turn < SPINS {
            true => std::hint::spin_loop(),
            false => std::thread::yield_now(),
        }
    }
}

fn fd_of<'a>(source: &Source<'a>) -> Option<BorrowedFd<'a>> {
    match source.0 {
        Kind::Fd(fd) => Some(fd),
        _ => None,
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
        } else if source.is_ready(source.looks().is_some_and(|looks| looks.slow.get())) {
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
    now: u64,
    together: &Together<'_>,
) -> io::Result<()> {
    let mut words = Vec::new();
    let mut fences = None;
    for (event, looks) in sources.iter().flat_map(Source::events) {
        words.push(event.announce());
        fences = Some(looks.arena.fences());
    }
    // (W) of each event count at once, then the look behind it.
    if let Some(fences) = fences {
        fences.heavy();
    }
    if sources.iter().any(|source| source.is_ready(false)) {
        return Ok(());
    }
    if words.is_empty() {
        return poll::readable(fds, deadline.remaining()).map(drop);
    }
    together(&words, deadline.slice(rest(sources, now)))
}

fn sleep_together(
    words: &Words<'_>,
    fds: &[BorrowedFd<'_>],
    slice: Duration,
    wait_any: WaitAny,
) -> io::Result<()> {
    if fds.is_empty() && words.len() <= TOGETHER {
        match wait_any(words, slice) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            done => return done,
        }
    }
    sleep_in_threads(words, fds, slice, wait_any)
}

/// For what no single system call sleeps on.
fn sleep_in_threads(
    words: &Words<'_>,
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
    let doze = |group: &Words<'_>| {
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

mod beside;

#[cfg(all(test, not(loom)))]
mod tests;
