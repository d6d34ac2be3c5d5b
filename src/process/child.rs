//! What happens in the child: it becomes a member, takes its arguments, calls the function, leaves the outcome and exits.
#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Arc;
use std::thread::{self, ThreadId};
use zerocopy::IntoBytes;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::arena::{self, Block, Reservation};
use crate::codec::{self, Failure};
use crate::error::{DecodeError, EncodeError};
use crate::os::entry::Start;
use crate::os::fds;

use super::error::JoinError;
use super::me::{self, Introduction};
use super::record::{Buffer, Record};

/// What a process leaves to its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Outcome<R> {
    Returned(R),
    Panicked {
        message: String,
        location: Option<String>,
    },
    Encode(String),
    Decode(String),
}

impl<R> Outcome<R> {
    pub(super) fn into_result(self) -> Result<R, JoinError> {
        match self {
            Outcome::Returned(value) => Ok(value),
            Outcome::Panicked { message, location } => {
                Err(JoinError::Panicked { message, location })
            }
            Outcome::Encode(text) => Err(JoinError::Encode(EncodeError(text))),
            Outcome::Decode(text) => Err(JoinError::Decode(DecodeError(text))),
        }
    }
}

/// The exit code of a process whose outcome could not be passed on; that of one that panicked is Rust's usual one.
const FAILED: i32 = 1;
const PANICKED: i32 = 101;

/// What the parent has to say to a fresh child: its seat in the family, its record, itself.
pub(super) fn tail(seat: Reservation, record: Block, introduction: &Introduction) -> String {
    let Reservation { id, generation } = seat;
    let text = introduction.to_text();
    format!(
        "{id}/{generation}/{}/{}/{text}",
        record.index, record.generation
    )
}

fn read_tail(tail: &str) -> Option<(Reservation, Block, Introduction)> {
    let mut parts = tail.splitn(5, '/');
    let mut next = || parts.next();
    let seat = Reservation {
        id: next()?.parse().ok()?,
        generation: next()?.parse().ok()?,
    };
    let record = Block {
        index: next()?.parse().ok()?,
        generation: next()?.parse().ok()?,
    };
    Some((seat, record, Introduction::from_text(next()?)?))
}

/// Where a fresh child begins.
///
/// Inlined into the caller's crate, so that it is in the program's own image even when this crate is a shared library.
#[inline]
pub(super) fn begin<A: DeserializeOwned, R: Serialize>(
    target: fn(A) -> R,
    start: Start,
) -> io::Result<()> {
    let (record, fds) = enter(start)?;
    work(record, fds, target)
}

fn enter(start: Start) -> io::Result<(Record, Vec<OwnedFd>)> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the form of the start text");
    let (seat, record, introduction) = read_tail(&start.tail).ok_or_else(broken)?;
    let mut fds = start.fds.into_iter();
    let memory = fds.next().ok_or_else(broken)?;
    if introduction.daemon {
        fds::die_with(fds.next().ok_or_else(broken)?)?;
    }
    let arena = arena::enter(memory, seat)?;
    let record = Record::attach(arena, record)?;
    me::introduce(introduction);
    Ok((record, fds.collect()))
}

/// Calls the function with the arguments in the record and leaves the outcome there.
pub(super) fn work<A: DeserializeOwned, R: Serialize>(
    record: Record,
    fds: Vec<OwnedFd>,
    call: impl FnOnce(A) -> R,
) -> ! {
    let record = Arc::new(record);
    install_hook(record.clone());
    let code = match panic::catch_unwind(AssertUnwindSafe(|| run(&record, fds, call))) {
        Ok(code) => code,
        Err(payload) => {
            let (message, location) = panicked(&*payload);
            leave(&record, &Outcome::<()>::Panicked { message, location });
            // Dropping what user code threw could throw again.
            mem::forget(payload);
            PANICKED
        }
    };
    std::process::exit(code)
}

fn run<A: DeserializeOwned, R: Serialize>(
    record: &Record,
    fds: Vec<OwnedFd>,
    call: impl FnOnce(A) -> R,
) -> i32 {
    let decoded = match record.take_args() {
        Some(parcel) => codec::decode_parcel(record.arena(), &parcel, fds),
        None => Err(DecodeError("the arguments are gone".into())),
    };
    let args = match decoded {
        Ok(args) => args,
        Err(DecodeError(text)) => {
            leave(record, &Outcome::<()>::Decode(text));
            return FAILED;
        }
    };
    if leave(record, &Outcome::Returned(call(args))) {
        0
    } else {
        FAILED
    }
}

/// Says whether the outcome is there as it is.
fn leave<R: Serialize>(record: &Record, outcome: &Outcome<R>) -> bool {
    let text = match try_leave(record, outcome) {
        Ok(()) => return true,
        Err(Failure::Encode(EncodeError(text))) => text,
        Err(Failure::NoMemory) => crate::error::Error::NoMemory.to_string(),
    };
    if try_leave(record, &Outcome::<()>::Encode(text)).is_err() {
        record.set_no_memory();
    }
    false
}

fn try_leave<R: Serialize>(record: &Record, outcome: &Outcome<R>) -> Result<(), Failure> {
    let mut buffer = Buffer::default();
    match codec::encode(outcome, buffer.as_mut_bytes())? {
        Some(len) => record.set_small_outcome(&buffer, len),
        None => record.set_outcome(codec::encode_parcel(record.arena(), outcome, None)?),
    }
    Ok(())
}

thread_local! {
    /// Message and place of this thread's last panic.
    static LAST_PANIC: RefCell<Option<(String, Option<String>)>> = const { RefCell::new(None) };
}

/// Notes message and place of panics, names the process on standard error, and lets the hook that was there go on.
///
/// In a program that aborts on panic this is the last that happens in the process, so the outcome is left here.
fn install_hook(record: Arc<Record>) {
    let main: ThreadId = thread::current().id();
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let message = text_of(info.payload());
        let location = info.location().map(ToString::to_string);
        if thread::current().id() == main && cfg!(panic = "abort") {
            let (message, location) = (message.clone(), location.clone());
            leave(&record, &Outcome::<()>::Panicked { message, location });
        }
        LAST_PANIC.set(Some((message, location)));
        let me = me::me();
        // Nobody may be listening.
        let _ = writeln!(
            io::stderr(),
            "Process {} ({}):",
            me.name,
            std::process::id()
        );
        previous(info);
    }));
}

/// Message and place of the panic that this thread has just caught.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> (String, Option<String>) {
    let message = text_of(payload);
    // The hook may have noted another panic that was caught, or none when the function has replaced it.
    let noted = LAST_PANIC.take().filter(|(noted, _)| *noted == message);
    (message, noted.and_then(|(_, location)| location))
}

/// Drops what a panic has thrown, which may throw again.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(thrown) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(thrown);
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "Box<dyn Any>".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_read_as_it_was_written() {
        let seat = Reservation {
            id: 4095,
            generation: u32::MAX,
        };
        let record = Block {
            index: 7,
            generation: 1 << 29,
        };
        let introduction = Introduction {
            name: "a/b".to_string(),
            daemon: false,
            path: "3".to_string(),
            parent_pid: 1,
            parent_name: "MainProcess".to_string(),
            parent_daemon: false,
        };
        let text = tail(seat, record, &introduction);
        assert_eq!(read_tail(&text), Some((seat, record, introduction)));
        assert_eq!(read_tail("1/2/3"), None);
    }
}
