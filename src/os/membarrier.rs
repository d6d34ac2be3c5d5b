//! A memory barrier in every running thread of every registered process.
//!
//! Kernels: `GLOBAL_EXPEDITED` is 4.16, so that what can be missing is the permission (a seccomp
//! filter) or the configuration. Then both sides of each handshake pay for a fence.

use std::io;

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

/// `membarrier(MEMBARRIER_CMD_QUERY)`: whether [`register`] and [`barrier`] exist here.
pub(crate) fn supported() -> bool {
    membarrier_query()
        .contains(MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED)
}

/// `membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)`
///
/// From here on this process takes part in the barriers of all others. May be repeated; an `exec`
/// undoes it.
pub(crate) fn register() -> io::Result<()> {
    Ok(membarrier(MembarrierCommand::RegisterGlobalExpedited)?)
}

/// `membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED)`
///
/// A full fence here and in every running thread of each registered process. Aborts when the
/// kernel refuses: it does not once [`register`] has succeeded, and going on without the fence
/// would lose wake-ups.
pub(crate) fn barrier() {
    if let Err(error) = membarrier(MembarrierCommand::GlobalExpedited) {
        eprintln!("multiprocess: membarrier was registered, but fails: {error}");
        std::process::abort();
    }
}
