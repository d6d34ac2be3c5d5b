//! What can become of a task but a result.
#![forbid(unsafe_code)]

use crate::codec::Failure;
use crate::error::{DecodeError, EncodeError, Error};
use crate::process::ExitCode;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a task has no result.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum TaskError {
    /// The function panicked, or decoding its arguments did, or encoding or dropping its result.
    Panicked {
        /// The panic's message, if it is text.
        message: String,
        /// Where, as `file:line:column`, if that is known.
        location: Option<String>,
    },
    /// The worker died while it ran this task: it was killed, aborted, or exited.
    WorkerDied {
        /// Which process that was.
        pid: u32,
        /// How it ended.
        exit: ExitCode,
    },
    /// The task was cancelled, or the pool terminated.
    Cancelled,
    /// The pool takes no tasks any more.
    Closed,
    /// The arguments could not be encoded, or the result.
    Encode(EncodeError),
    /// The arguments could not be decoded in the worker, or the result here.
    Decode(DecodeError),
    /// The pool's initializer has failed, and with it the pool.
    Initializer(Box<TaskError>),
    /// The time is over, and the task is not.
    TimedOut,
    /// No shared memory left for the arguments or the result; or no thread could be started.
    NoMemory,
    /// A chunk of no tasks.
    InvalidChunk,
    /// No worker could be started: 16 in a row could not, or ended before they were at work (killed from outside, by a constructor of the
    /// program, without memory), none was left, and this went on for 2 seconds or more. The pauses between them grow to 1.3 s. The pool takes no
    /// more tasks.
    NoWorker,
    /// The function is not part of the program's own image (see [`Error::NotInProgram`]).
    NotInProgram,
    /// This process is not the one that made the pool, but a copy of it.
    ForeignFork,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Panicked {
                message,
                location: Some(location),
            } => write!(f, "the task panicked at {location}: {message}"),
            TaskError::Panicked { message, .. } => write!(f, "the task panicked: {message}"),
            TaskError::WorkerDied { pid, exit } => {
                write!(f, "the worker {pid} died in the task: ")?;
                match exit {
                    ExitCode::Exited(code) => write!(f, "it exited with code {code}"),
                    ExitCode::Signaled(signal) => write!(f, "it was ended by signal {signal}"),
                    ExitCode::Unknown => f.write_str("nobody knows how"),
                }
            }
            TaskError::Cancelled => f.write_str("the task was cancelled"),
            TaskError::Closed => f.write_str("the pool is closed"),
            TaskError::Encode(error) => error.fmt(f),
            TaskError::Decode(error) => error.fmt(f),
            TaskError::Initializer(error) => write!(f, "the pool's initializer failed: {error}"),
            TaskError::TimedOut => f.write_str("the task is not finished"),
            TaskError::NoMemory => Error::NoMemory.fmt(f),
            TaskError::InvalidChunk => f.write_str("a chunk has one task at least"),
            TaskError::NoWorker => f.write_str("the pool cannot start a worker"),
            TaskError::NotInProgram => Error::NotInProgram.fmt(f),
            TaskError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TaskError::Encode(error) => Some(error),
            TaskError::Decode(error) => Some(error),
            TaskError::Initializer(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoMemory => TaskError::NoMemory,
            Failure::Encode(error) => TaskError::Encode(error),
        }
    }
}

impl From<Error> for TaskError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoMemory => TaskError::NoMemory,
            Error::ForeignFork => TaskError::ForeignFork,
            other => TaskError::Encode(EncodeError(other.to_string())),
        }
    }
}

/// What a worker says of a task that has no result.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fault {
    Panicked {
        message: String,
        location: Option<String>,
    },
    Encode(String),
    Decode(String),
}

impl From<Fault> for TaskError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Panicked { message, location } => TaskError::Panicked { message, location },
            Fault::Encode(text) => TaskError::Encode(EncodeError(text)),
            Fault::Decode(text) => TaskError::Decode(DecodeError(text)),
        }
    }
}

/// Why [`Pool::join`](crate::Pool::join) did not wait.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolJoinError {
    /// The pool still takes tasks: [`close`](crate::Pool::close) or [`terminate`](crate::Pool::terminate) it first.
    StillRunning,
    /// A callback of this pool cannot wait for itself.
    InCallback,
    /// This process is not the one that made the pool, but a copy of it.
    ForeignFork,
}

impl fmt::Display for PoolJoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolJoinError::StillRunning => f.write_str("the pool still takes tasks"),
            PoolJoinError::InCallback => f.write_str("a callback cannot wait for itself"),
            PoolJoinError::ForeignFork => Error::ForeignFork.fmt(f),
        }
    }
}

impl std::error::Error for PoolJoinError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let died = TaskError::WorkerDied {
            pid: 7,
            exit: ExitCode::Signaled(9),
        };
        assert_eq!(
            died.to_string(),
            "the worker 7 died in the task: it was ended by signal 9"
        );
        let failed = TaskError::Initializer(Box::new(TaskError::Cancelled));
        assert_eq!(
            failed.to_string(),
            "the pool's initializer failed: the task was cancelled"
        );
        assert!(std::error::Error::source(&failed).is_some());
    }
}
