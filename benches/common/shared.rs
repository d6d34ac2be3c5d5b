//! A page or more of memory that several processes see.

#![allow(unsafe_code)]

use rustix::fs::{MemfdFlags, Mode, OFlags, ftruncate, memfd_create, open};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use zerocopy::FromZeros;

/// A `T` in an anonymous shared mapping. Children made by `fork` have it too; others map it by [`path`](Self::path).
pub struct Shared<T> {
    fd: OwnedFd,
    at: *mut T,
    holds: PhantomData<T>,
}

// SAFETY: it is a pointer to a `T` that stays mapped, as a `&T` is.
unsafe impl<T: Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Shared<T> {}

impl<T: FromZeros + Sync> Shared<T> {
    /// A new one, all zero.
    pub fn new() -> io::Result<Self> {
        let fd = memfd_create("bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, size_of::<T>() as u64)?;
        Self::map(fd)
    }

    /// The one that another process made, by its [`path`](Self::path).
    pub fn open(path: &str) -> io::Result<Self> {
        Self::map(open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn map(fd: OwnedFd) -> io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED;
        // SAFETY: a new mapping at an address that the kernel picks touches no memory in use.
        let at = unsafe { mmap(ptr::null_mut(), size_of::<T>(), prot, flags, &fd, 0) }?;
        Ok(Self {
            fd,
            at: at.cast(),
            holds: PhantomData,
        })
    }

    /// A name by which other processes of this user can open it while this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }
}

impl<T> Shared<T> {
    /// Where it begins, for those who copy bytes in and out.
    pub fn as_ptr(&self) -> *mut u8 {
        self.at.cast()
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped, aligned to a page, and zeroes are a valid `T`, which only changes through its atomics.
        unsafe { &*self.at }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: no reference into the mapping outlives `self`.
        let _ = unsafe { munmap(self.at.cast(), size_of::<T>()) };
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("at", &self.at).finish()
    }
}
