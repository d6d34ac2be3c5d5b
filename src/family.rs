//! The family: this process, if it was the first to use the crate, and every process started through it.
#![forbid(unsafe_code)]

use crate::arena;
use std::collections::BTreeMap;
use std::io;

/// How the family's shared memory is set up. `None` keeps the default.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// Bytes that shared objects and messages may take together. Default: half of the smaller of the machine's memory and
    /// what the control group leaves. It is lowered further where the process's own limits ask for it.
    pub arena_limit: Option<u64>,
    /// The most processes at a time, this one included; 1 to 4095, default 1024.
    pub max_members: Option<u32>,
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Config::default()
    }

    /// Sets [`arena_limit`](Self::arena_limit).
    pub fn arena_limit(mut self, bytes: u64) -> Self {
        self.arena_limit = Some(bytes);
        self
    }

    /// Sets [`max_members`](Self::max_members).
    pub fn max_members(mut self, members: u32) -> Self {
        self.max_members = Some(members);
        self
    }
}

/// Sets up the family before its first use.
///
/// ```
/// use multiprocess::{Error, family};
///
/// family::configure(family::Config::new().arena_limit(64 << 20))?;
/// let queue = multiprocess::Queue::<u8>::bounded(1)?;
/// let error = family::configure(family::Config::new()).unwrap_err();
/// assert_eq!(Error::from_io(&error), Some(Error::AlreadyConfigured));
/// # drop(queue);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// [`Error::AlreadyConfigured`](crate::Error::AlreadyConfigured) after the first use or a first call (a child is always configured),
/// [`Error::InvalidConfig`](crate::Error::InvalidConfig), [`Error::ForeignFork`](crate::Error::ForeignFork).
pub fn configure(config: Config) -> io::Result<()> {
    Ok(arena::configure(config.arena_limit, config.max_members)?)
}

/// What the family uses at one moment.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes in blocks that belong to a living object, message or process.
    pub bytes_in_use: u64,
    /// Bytes that blocks may take.
    pub limit: u64,
    /// Living processes of the family, those included that are just starting.
    pub members: usize,
    /// Living objects by kind, `queue` and `process` for instance.
    pub objects: BTreeMap<&'static str, usize>,
    /// How many things left by dead processes were put right since the family began.
    pub repairs: u64,
}

/// Collects what dead members left, then counts. In a process that is no member, or where the family cannot be set up,
/// everything is zero.
pub fn stats() -> Stats {
    let stats = arena::family().map(arena::Arena::stats).unwrap_or_default();
    Stats {
        bytes_in_use: stats.bytes_in_use,
        limit: stats.limit,
        members: stats.members,
        objects: stats.objects,
        repairs: stats.repairs,
    }
}
