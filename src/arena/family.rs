//! The one place where the family's own arena is found.

use super::{Arena, Config, MAX_MEMBERS, Reservation};
use crate::error::Error;
use crate::os::limits;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock};

static FAMILY: OnceLock<Arena> = OnceLock::new();
static CONFIG: Mutex<Option<Config>> = Mutex::new(None);

const DEFAULT_MEMBERS: u32 = 1024;

/// The family's arena; the first use makes this process the root of a family.
pub(crate) fn family() -> io::Result<&'static Arena> {
    if let Some(arena) = FAMILY.get() {
        arena.check()?;
        return Ok(arena);
    }
    let config = CONFIG.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(arena) = FAMILY.get() {
        return Ok(arena);
    }
    let config = config.unwrap_or_else(|| Config {
        limit: limits::default_memory_limit(),
        max_members: DEFAULT_MEMBERS,
    });
    let arena = Arena::create(config, crate::KINDS, nonce())?;
    Ok(FAMILY.get_or_init(|| arena))
}

/// Sets how the family will be made. `None` keeps the default.
pub(crate) fn configure(limit: Option<u64>, max_members: Option<u32>) -> Result<(), Error> {
    // Before the lock: in a foreign fork it may be held for ever.
    if let Some(arena) = FAMILY.get() {
        arena.check()?;
        return Err(Error::AlreadyConfigured);
    }
    let mut config = CONFIG.lock().unwrap_or_else(|e| e.into_inner());
    if FAMILY.get().is_some() || config.is_some() {
        return Err(Error::AlreadyConfigured);
    }
    let members = max_members.unwrap_or(DEFAULT_MEMBERS);
    let limit = limit.unwrap_or_else(limits::default_memory_limit);
    if members == 0 || members > MAX_MEMBERS || limit < super::layout::CHUNK {
        return Err(Error::InvalidConfig);
    }
    *config = Some(Config {
        limit,
        max_members: members,
    });
    Ok(())
}

/// Makes this fresh process a member of its parent's family.
pub(crate) fn enter(fd: OwnedFd, seat: Reservation) -> io::Result<&'static Arena> {
    let arena = Arena::attach(fd, crate::KINDS, seat)?;
    FAMILY.set(arena).map_err(|_| Error::AlreadyConfigured)?;
    FAMILY.get().ok_or_else(|| io::ErrorKind::Other.into())
}

/// A number that another family, or the same one at another time, hardly has.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
