//! A file that lives in memory, has no name and cannot change its size.
//!
//! Kernels: `MFD_NOEXEC_SEAL` is 6.3. Without it the file may be made executable; nothing else
//! is lost.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::limits;

/// Which file a descriptor or a mapping belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    /// The device, as `st_dev` gives it.
    pub(crate) dev: u64,
    /// The inode number on that device.
    pub(crate) ino: u64,
}

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// `memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)`, `ftruncate(len)`,
/// `fcntl(F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)`
///
/// The file is sparse: `len` costs nothing until pages are touched. The name is for people who
/// read `/proc`. A length above `RLIMIT_FSIZE` is `EFBIG`, without the SIGXFSZ that goes with it.
pub(crate) fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    if len > limits::file_size_limit() {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Before 6.3 the flag is unknown.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        created => created?,
    };
    rustix::fs::ftruncate(&fd, len)?;
    rustix::fs::fcntl_add_seals(&fd, SEALS)?;
    Ok(fd)
}

/// `fstat(fd)`: which file this is.
pub(crate) fn file_id(fd: impl AsFd) -> io::Result<FileId> {
    let stat = rustix::fs::fstat(fd)?;
    Ok(FileId {
        dev: stat.st_dev,
        ino: stat.st_ino,
    })
}

/// `fstat(fd)`: how many bytes the file has.
pub(crate) fn len(fd: impl AsFd) -> io::Result<u64> {
    let size = rustix::fs::fstat(fd)?.st_size;
    u64::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// `fcntl(fd, F_GET_SEALS)`: whether the descriptor is a memfd whose size is fixed for ever.
pub(crate) fn is_sealed_memfd(fd: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SEALS))
}
