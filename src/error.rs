//! Every error of the crate that is not tied to a running process.
#![forbid(unsafe_code)]

mod lock;

pub use lock::{AcquireError, ItemError, LockError, ReleaseError};

use std::fmt;
use std::io;

/// What can go wrong outside the messages themselves. Constructors wrap it in an [`io::Error`], from which it can be
/// taken back with [`Error::from_io`] or by downcasting [`io::Error::get_ref`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// The arena's limit or the machine's memory is used up.
    NoMemory,
    /// The family has as many members as its table holds.
    TooManyMembers,
    /// This process is a copy made by a `fork` outside this crate: it is no member of the family.
    ForeignFork,
    /// A capacity of zero, or one beyond what can be addressed.
    InvalidCapacity,
    /// A handle to an object that no longer exists.
    StaleHandle,
    /// A handle to an object of another kind or of other messages.
    WrongType,
    /// A handle or descriptor was serialised outside a message of this crate.
    NotInMessage,
    /// The family was configured after its first use.
    AlreadyConfigured,
    /// A configuration value that cannot work.
    InvalidConfig,
    /// The function lies outside the program's own image (in a library loaded at run time, say).
    NotInProgram,
    /// A fork was asked for while the process has more than one thread.
    MoreThreads,
    /// A fork was asked for while a loan, a borrowed message, a guard, a permit or the end of a pipe is alive (or was forgotten).
    Borrowed,
    /// The end of a pipe is in the message twice, or was passed on before.
    Moved,
    /// A daemon asked for a child that is no daemon.
    DaemonChild,
    /// A name with a NUL byte, or one that is too long.
    InvalidName,
    /// The start method does not go with the call.
    WrongStartMethod,
}

impl Error {
    /// The error inside an [`io::Error`] made by this crate.
    pub fn from_io(error: &io::Error) -> Option<Error> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NoMemory => "no shared memory left",
            Error::TooManyMembers => "the family has no room for another member",
            Error::ForeignFork => {
                "this process was forked by other code and is no member of the family"
            }
            Error::InvalidCapacity => "the capacity is zero or too large",
            Error::StaleHandle => "the shared object no longer exists",
            Error::WrongType => "the shared object has another type",
            Error::NotInMessage => {
                "handles can only be serialised inside a message or as arguments"
            }
            Error::AlreadyConfigured => "the family is already in use",
            Error::InvalidConfig => "the configuration cannot work",
            Error::NotInProgram => "the function is not part of the program's own image",
            Error::MoreThreads => "a process with more than one thread cannot be forked",
            Error::Borrowed => {
                "a process with loans, borrowed messages, guards, permits or ends of pipes cannot be forked"
            }
            Error::Moved => "the end of the pipe has another owner",
            Error::DaemonChild => "a daemon can only have daemon children",
            Error::InvalidName => "the name is not usable",
            Error::WrongStartMethod => "the start method does not go with this call",
        })
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::NoMemory => io::ErrorKind::OutOfMemory,
            Error::TooManyMembers => io::ErrorKind::QuotaExceeded,
            Error::InvalidCapacity
            | Error::InvalidConfig
            | Error::NotInProgram
            | Error::InvalidName => io::ErrorKind::InvalidInput,
            Error::StaleHandle | Error::WrongType => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Unsupported,
        };
        io::Error::new(kind, error)
    }
}

/// A value could not be turned into bytes.
#[derive(Debug, Clone)]
pub struct EncodeError(pub(crate) String);

/// Bytes could not be turned into a value. Only this message is affected.
#[derive(Debug, Clone)]
pub struct DecodeError(pub(crate) String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value cannot be encoded: {}", self.0)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message cannot be decoded: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}
impl std::error::Error for DecodeError {}

/// Why an item was not put. The item is inside.
#[non_exhaustive]
pub enum PutError<T> {
    /// No room: at once for `try_put`, for the whole time for `put_timeout`.
    Full(T),
    /// The queue is closed.
    Closed(T),
    /// No shared memory left for the message.
    NoMemory(T),
    /// The item's `Serialize` failed.
    Encode(T, EncodeError),
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork(T),
}

impl<T> PutError<T> {
    /// The item that was not put.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item)
            | PutError::Closed(item)
            | PutError::NoMemory(item)
            | PutError::Encode(item, _)
            | PutError::ForeignFork(item) => item,
        }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, PutError::Full(_))
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, PutError::Closed(_))
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("Full(..)"),
            PutError::Closed(_) => f.write_str("Closed(..)"),
            PutError::NoMemory(_) => f.write_str("NoMemory(..)"),
            PutError::Encode(_, error) => write!(f, "Encode(.., {error:?})"),
            PutError::ForeignFork(_) => f.write_str("ForeignFork(..)"),
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("the queue is full"),
            PutError::Closed(_) => f.write_str("the queue is closed"),
            PutError::NoMemory(_) => Error::NoMemory.fmt(f),
            PutError::Encode(_, error) => error.fmt(f),
            PutError::ForeignFork(_) => Error::ForeignFork.fmt(f),
        }
    }
}

impl<T> std::error::Error for PutError<T> {}

/// Why there is no item.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum GetError {
    /// Nothing there: at once for `try_get`, for the whole time for `get_timeout`.
    Empty,
    /// The queue is closed and everything put before has been taken.
    Closed,
    /// A message was taken, but its bytes are no `T`. The next call gets the next message.
    Decode(DecodeError),
    /// This process is no member of the family (see [`Error::ForeignFork`]).
    ForeignFork,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Empty => f.write_str("the queue is empty"),
            GetError::Closed => f.write_str("the queue is closed"),
            GetError::Decode(error) => error.fmt(f),
            GetError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for GetError {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Opaque;

    #[test]
    fn errors_need_nothing_of_the_item() {
        fn is_error<E: std::error::Error + Send + Sync>() {}
        is_error::<PutError<u8>>();
        let error = PutError::Full(Opaque);
        assert_eq!(format!("{error:?}"), "Full(..)");
        assert_eq!(format!("{error}"), "the queue is full");
        let Opaque = error.into_inner();
    }

    #[test]
    fn an_io_error_gives_the_cause_back() {
        let error = io::Error::from(Error::NoMemory);
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert_eq!(Error::from_io(&error), Some(Error::NoMemory));
        assert_eq!(Error::from_io(&io::Error::other("else")), None);
    }
}
