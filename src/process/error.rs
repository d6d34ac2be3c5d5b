//! How a process ended, and why there is none or no result.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::error::{DecodeError, EncodeError};

/// How a process has ended.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// It ended by itself with this code: 0 when its function returned, 101 when it panicked, 70 when it could not be
    /// started as it was meant, otherwise what it passed to [`std::process::exit`].
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It has ended, but somebody else was told how: `SIGCHLD` is ignored, or other code waits for children of any kind.
    Unknown,
}

impl ExitCode {
    /// Python's number: the exit code, or `-N` for signal `N`.
    pub fn code(self) -> Option<i32> {
        match self {
            ExitCode::Exited(code) => Some(code),
            ExitCode::Signaled(signal) => Some(-signal),
            ExitCode::Unknown => None,
        }
    }

    /// Whether it ended by itself with code 0.
    pub fn success(self) -> bool {
        self == ExitCode::Exited(0)
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitCode::Exited(code) => write!(f, "exit code {code}"),
            ExitCode::Signaled(signal) => write!(f, "signal {signal}"),
            ExitCode::Unknown => f.write_str("unknown exit code"),
        }
    }
}

/// Why a process has left no result.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub enum JoinError {
    /// Its function panicked.
    Panicked {
        /// What the panic said; for a payload that is no string only that.
        message: String,
        /// Where, as `file:line:column`. `None` when the function had replaced the panic hook.
        location: Option<String>,
    },
    /// It ended by itself with this code before its function returned.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// There is no result, and nobody knows why (see [`ExitCode::Unknown`]).
    Lost,
    /// The function returned a value that could not be encoded.
    Encode(EncodeError),
    /// The arguments could not be decoded in the process, or the result here.
    Decode(DecodeError),
}

impl From<ExitCode> for JoinError {
    /// For a process that has left no result.
    fn from(code: ExitCode) -> JoinError {
        match code {
            ExitCode::Exited(code) => JoinError::Exited(code),
            ExitCode::Signaled(signal) => JoinError::Signaled(signal),
            ExitCode::Unknown => JoinError::Lost,
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked {
                message,
                location: Some(location),
            } => {
                write!(f, "the process panicked at {location}: {message}")
            }
            JoinError::Panicked {
                message,
                location: None,
            } => {
                write!(f, "the process panicked: {message}")
            }
            JoinError::Exited(code) => write!(f, "the process exited with code {code}"),
            JoinError::Signaled(signal) => write!(f, "the process was ended by signal {signal}"),
            JoinError::Lost => f.write_str("the process has left no result"),
            JoinError::Encode(error) => write!(f, "the result was lost: {error}"),
            JoinError::Decode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::Encode(error) => Some(error),
            JoinError::Decode(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a process could not be started. The arguments are inside.
pub struct SpawnError<A> {
    error: io::Error,
    args: A,
}

impl<A> SpawnError<A> {
    pub(super) fn new(error: io::Error, args: A) -> Self {
        SpawnError { error, args }
    }

    /// The cause.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// The arguments that were not used.
    pub fn into_inner(self) -> A {
        self.args
    }

    /// The cause and the arguments.
    pub fn into_parts(self) -> (io::Error, A) {
        (self.error, self.args)
    }
}

impl<A> From<SpawnError<A>> for io::Error {
    fn from(error: SpawnError<A>) -> io::Error {
        error.error
    }
}

impl<A> fmt::Debug for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<A> fmt::Display for SpawnError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the process could not be started: {}", self.error)
    }
}

impl<A> std::error::Error for SpawnError<A> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_python_s() {
        assert_eq!(ExitCode::Exited(3).code(), Some(3));
        assert_eq!(ExitCode::Signaled(9).code(), Some(-9));
        assert_eq!(ExitCode::Unknown.code(), None);
        assert!(ExitCode::Exited(0).success());
        assert!(!ExitCode::Unknown.success());
    }

    #[test]
    fn texts() {
        struct Opaque;
        let error = SpawnError::new(io::Error::other("no"), Opaque);
        assert_eq!(error.to_string(), "the process could not be started: no");
        let Opaque = error.into_inner();
        let location = Some("a.rs:1:2".to_string());
        let error = JoinError::Panicked {
            message: "oh".into(),
            location,
        };
        assert_eq!(error.to_string(), "the process panicked at a.rs:1:2: oh");
        assert_eq!(
            JoinError::from(ExitCode::Unknown).to_string(),
            "the process has left no result"
        );
    }
}
