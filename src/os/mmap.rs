//! Shared memory, and a page that tells of a `fork`.
//!
//! Kernels: `MADV_POPULATE_WRITE` is 5.14; before, pages are secured with `fallocate`, or one
//! system call each where the descriptor is gone.
#![allow(unsafe_code)]
#![allow(clippy::disallowed_types, reason = "below `primitive`")]

use core::ffi::c_void;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::thread::futex::{self, Flags, WakeOp, WakeOpCmp};

use super::memfd::{self, FileId};

/// A range of address space, unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    heap: bool,
    /// Who mapped it: in a forked child there is nothing at `base`, or something else.
    owner: u32,
}

// SAFETY: the mapping is of the process, not of a thread, and hands out nothing but its address.
unsafe impl Send for Mapping {}
// SAFETY: as above; its methods are system calls, which may run side by side.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `mmap(NULL, len, PROT_NONE, MAP_SHARED, fd, 0)`, `munlock`,
    /// `mprotect(PROT_READ | PROT_WRITE)`, `madvise(MADV_DONTFORK)`, `madvise(MADV_DONTDUMP)`
    ///
    /// In this order, so that a process under `mlockall(MCL_FUTURE)` does not fill the sparse file
    /// with pages: one that cannot be accessed is not filled, and one that is unlocked stays sparse.
    pub(crate) fn shared(fd: impl AsFd, len: usize) -> io::Result<Mapping> {
        Mapping::map_shared(fd.as_fd(), ptr::null_mut(), len, MapFlags::SHARED)
    }

    /// `mmap(base, len, PROT_NONE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0)`, then as [`shared`]
    ///
    /// For a forked child, where `MADV_DONTFORK` has left a hole at `base`. `EEXIST` when the hole
    /// is not free.
    ///
    /// [`shared`]: Mapping::shared
    pub(crate) fn shared_at(fd: impl AsFd, base: *mut u8, len: usize) -> io::Result<Mapping> {
        let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
        let mapping = Mapping::map_shared(fd.as_fd(), base, len, flags)?;
        // An emulated kernel that does not know the flag takes the address for a hint.
        if mapping.base() != base {
            return Err(Errno::EXIST.into());
        }
        Ok(mapping)
    }

    fn map_shared(
        fd: BorrowedFd<'_>,
        at: *mut u8,
        len: usize,
        flags: MapFlags,
    ) -> io::Result<Mapping> {
        // SAFETY: the flags never replace what is mapped.
        let base = unsafe { rustix::mm::mmap(at.cast(), len, ProtFlags::empty(), flags, fd, 0) }?;
        let mapping = Mapping::own(base, len, false)?;
        // SAFETY: the range is ours, locking moves no byte.
        unsafe { rustix::mm::munlock(base, len) }?;
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: the range is ours and nobody knows it yet.
        unsafe { rustix::mm::mprotect(base, len, access) }?;
        // SAFETY: the range is ours, the advice moves no byte.
        unsafe { rustix::mm::madvise(base, len, Advice::LinuxDontFork) }?;
        // SAFETY: the range is ours, the advice moves no byte.
        unsafe { rustix::mm::madvise(base, len, Advice::LinuxDontDump) }?;
        Ok(mapping)
    }

    /// `mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)`
    ///
    /// Zero pages of this process alone, for tests.
    #[cfg(test)]
    pub(crate) fn heap(len: usize) -> io::Result<Mapping> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel picks a free range.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, access, flags) }?;
        Mapping::own(base, len, true)
    }

    fn own(base: *mut c_void, len: usize, heap: bool) -> io::Result<Mapping> {
        // Only with `vm.mmap_min_addr` at 0 could the kernel pick the null page.
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Mapping {
            base,
            len,
            heap,
            owner: std::process::id(),
        })
    }

    /// Where the mapping starts; aligned to a page.
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// How many bytes it has.
    #[inline]
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// `madvise(base + offset, len, MADV_POPULATE_WRITE)`, or `fallocate(fd, 0, offset, len)`
    ///
    /// Makes sure that the pages of this range exist, contents untouched, so that no later access
    /// raises SIGBUS; that they do not, for want of memory, is `ENOMEM` here. Before 5.14 the file
    /// is asked instead, when `fd` still is `expected`: the number may have been closed and reused
    /// behind our back. Pages of [`heap`](Mapping::heap) come by themselves.
    pub(crate) fn populate(
        &self,
        fd: Option<BorrowedFd<'_>>,
        expected: FileId,
        offset: usize,
        len: usize,
    ) -> io::Result<()> {
        let pages = self.pages(offset, len)?;
        if self.heap || pages.is_empty() {
            return Ok(());
        }
        let start = self.base().wrapping_add(pages.start);
        let advice = Advice::LinuxPopulateWrite;
        loop {
            // SAFETY: the range is within the mapping; the advice changes no byte.
            match unsafe { rustix::mm::madvise(start.cast(), pages.len(), advice) } {
                Ok(()) => return Ok(()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::INVAL) => break,
                Err(error) => return Err(shortage(error)),
            }
        }
        match fd.filter(|fd| memfd::file_id(fd).is_ok_and(|id| id == expected)) {
            Some(fd) => allocate(fd, pages),
            None => self.touch(pages),
        }
    }

    /// `futex(.., FUTEX_WAKE_OP, .., word, FUTEX_OP_ADD 0)` on each page
    ///
    /// What is left on an old kernel to a process that has closed all its descriptors: the kernel
    /// adds nothing to a word of the page, atomically, and where there can be no page it says so
    /// instead of raising a signal.
    pub(super) fn touch(&self, pages: Range<usize>) -> io::Result<()> {
        // Nobody waits on this word, so nobody is woken.
        let nobody = AtomicU32::new(0);
        for page in pages.step_by(crate::os::page_size()) {
            let word = self.base().wrapping_add(page).cast::<u32>();
            // SAFETY: the word is aligned and within the mapping, and no instruction accesses it
            // here, only the kernel.
            let word = unsafe { AtomicU32::from_ptr(word) };
            // Only a negative word wakes its waiters (at most one, who looks again).
            let (op, cmp) = (WakeOp::Add, WakeOpCmp::Lt);
            loop {
                match futex::wake_op(&nobody, Flags::empty(), 1, 1, word, op, cmp, 0, 0) {
                    Ok(_) => break,
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(error) => return Err(shortage(error)),
                }
            }
        }
        Ok(())
    }

    /// `madvise(base + offset, len, MADV_REMOVE)`; on the heap `MADV_DONTNEED`
    ///
    /// Gives the pages that lie wholly in this range back to the kernel, for all processes; they
    /// read as zero afterwards. The caller owns these bytes.
    pub(crate) fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        self.pages(offset, len)?;
        let page = crate::os::page_size();
        let (start, end) = (offset.next_multiple_of(page), (offset + len) / page * page);
        if start >= end {
            return Ok(());
        }
        let advice = match self.heap {
            true => Advice::LinuxDontNeed,
            false => Advice::LinuxRemove,
        };
        let at = self.base().wrapping_add(start).cast();
        loop {
            // SAFETY: the pages are within the mapping, and the caller owns their bytes.
            match unsafe { rustix::mm::madvise(at, end - start, advice) } {
                Err(Errno::INTR | Errno::AGAIN) => {}
                done => return Ok(done?),
            }
        }
    }

    /// The whole pages that cover a range, which must be within the mapping.
    fn pages(&self, offset: usize, len: usize) -> io::Result<Range<usize>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => {
                let page = crate::os::page_size();
                let start = offset / page * page;
                // The kernel maps whole pages, so that the last one is ours to its end.
                let end = if len == 0 {
                    start
                } else {
                    end.next_multiple_of(page)
                };
                Ok(start..end)
            }
            _ => Err(Errno::INVAL.into()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        // SAFETY: the range was mapped by this process and is ours until here.
        let unmapped = unsafe { rustix::mm::munmap(self.base().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// `fallocate(fd, 0, offset, len)` in pieces: a signal undoes the piece that it interrupts, so one
/// call for everything might never end under a timer.
fn allocate(fd: BorrowedFd<'_>, pages: Range<usize>) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    for start in pages.clone().step_by(PIECE) {
        let len = PIECE.min(pages.end - start) as u64;
        loop {
            match rustix::fs::fallocate(fd, FallocateFlags::empty(), start as u64, len) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(shortage(error)),
            }
        }
    }
    Ok(())
}

/// All the ways in which the kernel says that there is no page to be had.
fn shortage(error: Errno) -> io::Error {
    match error {
        Errno::FAULT | Errno::NOSPC | Errno::DQUOT => Errno::NOMEM.into(),
        error => error.into(),
    }
}

/// A page that the kernel wipes in a forked child, so that the child can be told from its parent.
#[derive(Debug)]
pub(crate) struct ForkPage {
    word: NonNull<AtomicU32>,
}

// SAFETY: the page is of the process, its word is atomic.
unsafe impl Send for ForkPage {}
// SAFETY: as above.
unsafe impl Sync for ForkPage {}

impl ForkPage {
    /// `mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)`,
    /// `madvise(MADV_WIPEONFORK)`
    pub(crate) fn new() -> io::Result<ForkPage> {
        let len = crate::os::page_size();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE;
        // SAFETY: the kernel picks a free range.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, access, flags) }?;
        let word = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        let page = ForkPage { word };
        // SAFETY: the page is ours.
        unsafe { rustix::mm::madvise(base, len, Advice::LinuxWipeOnFork) }?;
        page.rearm();
        Ok(page)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page lives as long as `self`, zero is a value, and every access is atomic.
        unsafe { self.word.as_ref() }
    }

    /// Whether this is the process that made or re-armed the page, and no `fork` lies between.
    #[inline]
    pub(crate) fn intact(&self) -> bool {
        self.word().load(Ordering::Relaxed) == 1
    }

    /// Makes the page intact in a forked child as well; the children of that child find it wiped.
    pub(crate) fn rearm(&self) {
        self.word().store(1, Ordering::Relaxed);
    }
}

impl Drop for ForkPage {
    fn drop(&mut self) {
        let len = crate::os::page_size();
        // SAFETY: the page is ours, in a forked child as well, until here.
        let unmapped = unsafe { rustix::mm::munmap(self.word.as_ptr().cast(), len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
