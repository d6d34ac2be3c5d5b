//! The family's shared memory: one mapping, the members table, blocks, and objects that live as long as somebody holds
//! them. See README.md beside this file for how each part survives a process killed at any instruction.
//!
//! An [`Arena`] is this process's view of it, a value that is passed; nothing here is a global.
#![allow(unsafe_code)]

mod alloc;
mod collect;
mod family;
mod held;
mod layout;
mod maintenance;
mod members;
mod object;
mod pages;
mod parcel;
mod parts;
mod runs;
mod watch;
mod words;

#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::os::limits;
use crate::os::memfd::{self, FileId};
use crate::os::mmap::{ForkPage, Mapping};
use crate::primitive::private::AtomicU64 as PrivateU64;
use crate::primitive::{AtomicU64, Fences};
use layout::{CHUNK, Header, Layout, MAGIC, MAX_CHUNKS, MemberRow, PAGE};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

pub(crate) use alloc::{Block, OwnedBlock};
pub(crate) use family::{configure, enter, family};
pub(crate) use held::HeldParcel;
pub(crate) use members::{Dead, Reservation};
pub(crate) use object::HEADER as OBJECT_HEADER;
pub(crate) use object::{Depends, Kind, Local, Object, ObjectSpec, Shared, View, Visitor, Words};
pub(crate) use pages::Page;
pub(crate) use parcel::{Lent, Parcel};
pub(crate) use parts::{LARGEST_SMALL, part_room};
pub(crate) use words::{MAX_MEMBERS, MEMBER_BITS, MemberId};

/// How a family is set up; before its first use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// Bytes of shared memory that blocks may take.
    pub(crate) limit: u64,
    /// The most processes at a time.
    pub(crate) max_members: u32,
}

/// The kinds of objects that this program knows: the same table in every member.
pub(crate) type Kinds = &'static [&'static dyn Kind];

/// This process's view of a family's shared memory. Clones are the same view.
#[derive(Clone)]
pub(crate) struct Arena(Arc<Inner>);

pub(crate) struct Inner {
    mapping: Mapping,
    /// Kept to hand the memory to children; never needed to use it.
    fd: Option<OwnedFd>,
    file: FileId,
    fork_page: ForkPage,
    layout: Layout,
    fences: Fences,
    /// `generation:32 | id` of this process in the members table.
    me: PrivateU64,
    kinds: Kinds,
    caches: alloc::Caches,
    locals: Mutex<HashMap<u32, object::Registered>>,
    trim: maintenance::TrimState,
    /// How many blocks user code holds.
    held: PrivateU64,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("len", &self.0.layout.len)
            .field("me", &self.me())
            .finish_non_exhaustive()
    }
}

fn version() -> u64 {
    fnv(concat!(env!("CARGO_PKG_VERSION"), " 1").as_bytes())
}

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>): a hash that is the same in every member.
pub(crate) const fn fnv(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

impl Arena {
    /// A new family with this process as its first member. The memory is halved until the limits of the process allow it.
    pub(crate) fn create(config: Config, kinds: Kinds, nonce: u64) -> io::Result<Arena> {
        let members = u64::from(config.max_members.clamp(1, MAX_MEMBERS));
        let mut chunks = (config.limit / CHUNK).clamp(1, MAX_CHUNKS);
        let room = limits::address_space_headroom().min(limits::file_size_limit());
        // The mapping must leave the program some of its own address space.
        while chunks > 1 && Layout::new(chunks, members).len > room - room / 4 {
            chunks /= 2;
        }
        loop {
            let layout = Layout::new(chunks, members);
            let made = memfd::create("multiprocess", layout.len).and_then(|fd| {
                let mapping = Mapping::shared(fd.as_fd(), layout.len as usize)?;
                Ok((fd, mapping))
            });
            match made {
                Ok((fd, mapping)) => {
                    let file = memfd::file_id(fd.as_fd())?;
                    return Arena::set_up(mapping, Some(fd), file, layout, kinds, nonce);
                }
                Err(error) if chunks > 64 && is_shortage(&error) => chunks /= 2,
                Err(error) if is_shortage(&error) => return Err(Error::NoMemory.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// An arena on the heap of this process alone.
    #[cfg(test)]
    pub(crate) fn heap(chunks: u64, kinds: Kinds) -> io::Result<Arena> {
        let layout = Layout::new(chunks, 15);
        let mapping = Mapping::heap(layout.len as usize)?;
        Arena::set_up(mapping, None, FileId { dev: 0, ino: 0 }, layout, kinds, 1)
    }

    fn set_up(
        mapping: Mapping,
        fd: Option<OwnedFd>,
        file: FileId,
        layout: Layout,
        kinds: Kinds,
        nonce: u64,
    ) -> io::Result<Arena> {
        let head = layout.block_words_at as usize;
        mapping
            .populate(fd.as_ref().map(AsFd::as_fd), file, 0, head)
            .map_err(no_memory)?;
        let membarrier = fd.is_some() && crate::os::membarrier::supported();
        let words = [
            MAGIC,
            version(),
            nonce,
            layout.chunks,
            layout.max_members,
            membarrier.into(),
        ];
        // SAFETY: the header begins with these six words, on the first page of a fresh mapping that nobody else knows.
        unsafe { mapping.base().cast::<[u64; 6]>().write(words) };
        let arena = Arena::view(mapping, fd, file, layout, membarrier, kinds)?;
        arena.join_first()?;
        Ok(arena)
    }

    /// The arena behind a descriptor that the parent passed on; this process takes the row that was reserved for it.
    pub(crate) fn attach(fd: OwnedFd, kinds: Kinds, seat: Reservation) -> io::Result<Arena> {
        let len = memfd::len(fd.as_fd())?;
        let file = memfd::file_id(fd.as_fd())?;
        let mapping = Mapping::shared(fd.as_fd(), len as usize)?;
        // SAFETY: the file is at least a page long, was sealed by the root, and the first members never change.
        let header = unsafe { &*mapping.base().cast::<Header>() };
        let layout = Layout::new(
            header.chunks.min(MAX_CHUNKS),
            header.max_members.min(u64::from(MAX_MEMBERS)),
        );
        if header.magic != MAGIC || header.version != version() || layout.len != len {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not an arena of this version",
            ));
        }
        let membarrier = header.membarrier == 1;
        let arena = Arena::view(mapping, Some(fd), file, layout, membarrier, kinds)?;
        arena.take_seat(seat)?;
        Ok(arena)
    }

    fn view(
        mapping: Mapping,
        fd: Option<OwnedFd>,
        file: FileId,
        layout: Layout,
        membarrier: bool,
        kinds: Kinds,
    ) -> io::Result<Arena> {
        if membarrier {
            crate::os::membarrier::register()?;
        }
        Ok(Arena(Arc::new(Inner {
            mapping,
            fd,
            file,
            fork_page: ForkPage::new()?,
            layout,
            fences: if membarrier {
                Fences::Membarrier
            } else {
                Fences::Symmetric
            },
            me: PrivateU64::new(0),
            kinds,
            caches: alloc::Caches::default(),
            locals: Mutex::default(),
            trim: maintenance::TrimState::default(),
            held: PrivateU64::new(0),
        })))
    }

    /// Maps the arena again in a child that this crate forked, at the same address, and takes the reserved row. `held` is
    /// what [`hold_for_copy`](Self::hold_for_copy) returned before the fork.
    pub(crate) fn rejoin_after_fork(
        &self,
        seat: Reservation,
        held: &[(u32, u64)],
    ) -> io::Result<()> {
        let fd = self.fd().ok_or(io::ErrorKind::Unsupported)?;
        let mapping = Mapping::shared_at(fd, self.0.mapping.base(), self.0.layout.len as usize)?;
        // The parent's `Mapping` value, copied by the fork, owns these addresses again.
        std::mem::forget(mapping);
        if self.0.fences == Fences::Membarrier {
            crate::os::membarrier::register()?;
        }
        self.take_seat(seat)?;
        self.0.fork_page.rearm();
        self.hold_again(held);
        Ok(())
    }

    /// An error in a process that a foreign `fork` made: the arena is not mapped there.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.fork_page.intact() {
            Ok(())
        } else {
            Err(Error::ForeignFork)
        }
    }

    /// The mode of the store-load handshakes of this family.
    #[inline]
    pub(crate) fn fences(&self) -> Fences {
        self.0.fences
    }

    /// The descriptor of the memory, if it still is that (a program may close all its descriptors).
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.0.fd.as_ref()?.as_fd();
        (memfd::file_id(fd).ok()? == self.0.file).then_some(fd)
    }

    /// Bytes from the start of the arena to `block`'s first byte.
    pub(crate) fn offset_of(&self, block: Block) -> u64 {
        self.address(block) as u64 - self.0.mapping.base() as u64
    }

    pub(crate) fn same(&self, other: &Arena) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[inline]
    fn at(&self, offset: u64) -> *mut u8 {
        self.0.mapping.base().wrapping_add(offset as usize)
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: the header was initialised before the view was made and is only changed through its atomics.
        unsafe { &*self.0.mapping.base().cast::<Header>() }
    }

    #[inline]
    fn row(&self, id: MemberId) -> &MemberRow {
        assert!(u64::from(id) <= self.0.layout.max_members);
        let at = self.0.layout.members_at as usize + usize::from(id) * size_of::<MemberRow>();
        // SAFETY: the row lies in the mapping (checked above) and consists of atomics, for which zero is valid.
        unsafe { &*self.at(at as u64).cast::<MemberRow>() }
    }

    #[inline]
    fn chunk_word(&self, chunk: u64) -> &AtomicU64 {
        debug_assert!(chunk < self.0.layout.chunks);
        let at = self.0.layout.chunk_words_at + chunk * 8;
        // SAFETY: `chunk` is below the number of chunks, so the word lies in the mapping.
        unsafe { &*self.at(at).cast::<AtomicU64>() }
    }

    /// The word of a block of a chunk whose block words are secured.
    #[inline]
    fn block_word(&self, index: u32) -> &AtomicU64 {
        debug_assert!(u64::from(index) / layout::SLOTS < self.0.layout.chunks);
        let at = self.0.layout.block_words_at + u64::from(index) * 8;
        // SAFETY: an index below `chunks * SLOTS` lies in the mapping.
        unsafe { &*self.at(at).cast::<AtomicU64>() }
    }

    #[inline]
    fn chunk_base(&self, chunk: u64) -> *mut u8 {
        let at = self.0.layout.chunks_at + chunk * CHUNK;
        self.at(at)
    }

    /// Makes sure that pages exist, so that touching them is never a SIGBUS.
    fn secure(&self, at: u64, len: u64) -> Result<(), Error> {
        let from = at / PAGE * PAGE;
        let len = (at + len).next_multiple_of(PAGE) - from;
        let fd = self.0.fd.as_ref().map(AsFd::as_fd);
        self.0
            .mapping
            .populate(fd, self.0.file, from as usize, len as usize)
            .map_err(|_| Error::NoMemory)
    }

    fn high_water(&self) -> u64 {
        self.header()
            .high_water
            .load(Acquire)
            .min(self.0.layout.chunks)
    }

    pub(crate) fn count_repair(&self) {
        self.header().repairs.fetch_add(1, Relaxed);
    }

    pub(crate) fn repairs(&self) -> u64 {
        self.header().repairs.load(Relaxed)
    }

    /// Rises whenever a member is found dead.
    #[inline]
    pub(crate) fn deaths(&self) -> u64 {
        self.header().deaths.load(Acquire)
    }

    fn set_me(&self, id: MemberId, generation: u64) {
        self.0.me.store(generation << 32 | u64::from(id), Release);
    }

    /// This process in the members table.
    #[inline]
    pub(crate) fn me(&self) -> MemberId {
        self.0.me.load(Relaxed) as MemberId
    }

    pub(crate) fn my_generation(&self) -> u64 {
        self.my_word() >> 32
    }

    /// `generation:32 | id` of this process: no other member, before or after it, has the same for long.
    #[inline]
    pub(crate) fn my_word(&self) -> u64 {
        self.0.me.load(Relaxed)
    }
}

fn is_shortage(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, StorageFull, WouldBlock};
    matches!(
        error.kind(),
        FileTooLarge | OutOfMemory | StorageFull | WouldBlock
    )
}

fn no_memory(_: io::Error) -> io::Error {
    Error::NoMemory.into()
}
