//! Children of a test: they end with it, whatever fails.

use multiprocess::{ExitCode, Process};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub fn start<A, R>(function: fn(A) -> R, arguments: A) -> Process<R>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned,
{
    let daemon = Process::builder().daemon(true);
    daemon.spawn(function, arguments).unwrap()
}

/// Reaps a process that was killed.
pub fn reap<R>(process: Process<R>) {
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGKILL));
}
