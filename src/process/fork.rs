//! The start method that copies the process.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::os::clock::Deadline;
use crate::os::entry::START_FAILED;
use crate::os::spawn::exit;
use crate::os::spawn::fork::{self, Fork};
use crate::os::{fds, interrupt};

use super::builder::{Prepared, memory_closed};
use super::child;
use super::handle::Process;
use super::me;
use super::registry;

/// How long a thread that was joined may still be counted.
const LEAVING: Duration = Duration::from_millis(100);

/// May this process be copied now?
pub(super) fn is_possible() -> io::Result<()> {
    let deadline = Deadline::from(LEAVING);
    while fork::thread_count()? != 1 {
        if deadline.expired() {
            return Err(Error::MoreThreads.into());
        }
        std::thread::sleep(deadline.slice(Duration::from_millis(1)));
    }
    Ok(())
}

/// Copies the process; the copy calls the function and never returns.
pub(super) fn start<A, R>(
    mut prepared: Prepared,
    call: impl FnOnce(A) -> R,
) -> io::Result<Process<R>>
where
    A: DeserializeOwned,
    R: Serialize,
{
    // Looked at here, where it can be said; the child needs it to map the memory again.
    prepared.record.arena().fd().ok_or_else(memory_closed)?;
    let arena = prepared.record.arena();
    if arena.is_lent() || arena.is_in_use() {
        // The copy would hold the same blocks, locks and permits.
        return Err(Error::Borrowed.into());
    }
    let held = prepared
        .record
        .arena()
        .hold_for_copy(prepared.reservation())?;
    // What is buffered would be written by both.
    let _ = io::stdout().flush();
    match fork::fork()? {
        Fork::Parent(spawned) => Ok(prepared.started(spawned)),
        Fork::Child => {
            if let Err(error) = enter(&mut prepared, &held) {
                let _ = writeln!(
                    io::stderr(),
                    "multiprocess: a child could not start: {error}"
                );
                exit::exit_now(START_FAILED)
            }
            child::work(prepared.record, prepared.fds, call)
        }
    }
}

/// Makes the copy a process of its own.
fn enter(prepared: &mut Prepared, held: &[(u32, u64)]) -> io::Result<()> {
    registry::forget_after_fork();
    // Of a pool's worker it has the handler too, and nobody decides for it.
    interrupt::fall();
    // The other end was closed by the fork.
    if let Some((read, _)) = prepared.death.take() {
        fds::die_with(read)?;
    }
    fds::null_input()?;
    prepared
        .record
        .arena()
        .rejoin_after_fork(prepared.reservation(), held)?;
    me::introduce(prepared.introduction.clone());
    Ok(())
}
