//! What the rest of the crate needs from the operating system: Linux, 64 bits, 5.4 or later.
//!
//! One file a family of system calls. Nothing here knows a type of another module of the crate;
//! results are `io::Result`, descriptors are owned, and the first line of each function's doc is
//! the C call that it makes.
//!
//! - `memfd`: a sealed file in memory that no name leads to, and a file's identity
//! - `mmap`: that file as shared memory which a foreign `fork` does not copy, pages secured before
//!   they are touched and given back, and a page that tells of a `fork`
//! - `limits`: how much memory, address space and file size may be used
//! - `futex`: sleeping on a word, across processes
//! - `membarrier`: a fence in every member at the cost of one
//! - `clock`: the time, and the end of a bounded wait
//! - `bell`: a descriptor that another process makes readable
//! - `interrupt`: standing a Ctrl-C
//! - `pidfd`: a process as a descriptor: await, signal, reap
//! - `poll`: sleeping on several descriptors
//! - `liveness`: whether a process that was written down is still a member
//! - `spawn`: this program, executed afresh
//! - `entry`: how the fresh program finds its target
//! - `fds`: descriptors passed between processes

pub(crate) mod bell;
pub(crate) mod clock;
pub(crate) mod entry;
pub(crate) mod fds;
pub(crate) mod futex;
pub(crate) mod interrupt;
pub(crate) mod limits;
pub(crate) mod liveness;
pub(crate) mod membarrier;
pub(crate) mod memfd;
pub(crate) mod mmap;
pub(crate) mod pidfd;
pub(crate) mod poll;
pub(crate) mod spawn;

#[cfg(test)]
mod tests;

/// `sysconf(_SC_PAGESIZE)`. Not from the auxiliary vector as rustix reads it: that fails under valgrind.
#[allow(unsafe_code, reason = "one call")]
pub(crate) fn page_size() -> usize {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// `gettid()`: the calling thread; below 2^22 on Linux.
pub(crate) fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// `sysconf(_SC_NPROCESSORS_ONLN)`: of the machine. Where this process may run says nothing about where its peers do.
#[allow(unsafe_code, reason = "one call")]
pub(crate) fn online_cpus() -> usize {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) as usize }
}
