//! What each worker did, written down where SIGKILL cannot take it back: in memory that is mapped by all, and that knows
//! nothing of the crate under test. A worker writes only to its own part, one word an entry, and an entry is there
//! entirely or not at all.
#![allow(unsafe_code)]
#![allow(
    clippy::disallowed_types,
    reason = "the log is outside the crate under test"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// What an entry says. The `Will` kinds are replaced in place by how it came out; where one stands, the worker was killed
/// inside that call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WillPut = 1,
    Put,
    WillGet,
    Got,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub queue: u8,
    /// How many messages, the first of which follows; in `WillGet` how many at most.
    pub count: u32,
    /// The number of the process that sent the message, and the message's number in this queue. (0 in `WillGet`.)
    pub producer: u32,
    pub seq: u32,
}

impl Entry {
    fn to_word(self) -> u64 {
        let Entry {
            kind,
            queue,
            count,
            producer,
            seq,
        } = self;
        assert!(producer < 1 << 24, "too many processes for an entry");
        assert!(
            seq < 1 << 24 && count < 1 << 8,
            "too many messages for an entry"
        );
        let message = u64::from(producer) << 32 | u64::from(count) << 24 | u64::from(seq);
        (kind as u64) << 60 | u64::from(queue) << 56 | message
    }

    fn from_word(word: u64) -> Option<Entry> {
        let kind = match word >> 60 {
            0 => return None,
            1 => Kind::WillPut,
            2 => Kind::Put,
            3 => Kind::WillGet,
            _ => Kind::Got,
        };
        Some(Entry {
            kind,
            queue: (word >> 56) as u8 & 0xf,
            count: (word >> 24) as u32 & 0xff,
            producer: (word >> 32) as u32 & 0xff_ffff,
            seq: word as u32 & 0xff_ffff,
        })
    }
}

/// Flags in word 0.
const STOP: u64 = 1;
const FAILED: u64 = 2;

/// The mapping: word 0 tells everybody to stop, the parts follow.
pub struct Log {
    file: File,
    words: &'static [AtomicU64],
    /// Entries a part.
    room: usize,
}

impl Log {
    pub fn create(parts: usize, room: usize) -> io::Result<Log> {
        let file = File::from(memfd_create(c"soak", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, ((1 + parts * room) * size_of::<AtomicU64>()) as u64)?;
        Log::map(file, room)
    }

    /// How another process finds the log: it needs no name, nor anything passed on by the crate.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    pub fn open(path: &str, room: usize) -> io::Result<Log> {
        Log::map(OpenOptions::new().read(true).write(true).open(path)?, room)
    }

    fn map(file: File, room: usize) -> io::Result<Log> {
        let len = file.metadata()?.len() as usize;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                access,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let count = len / size_of::<AtomicU64>();
        // SAFETY: the file is as long as that, stays so, and is never unmapped; every word of it is accessed as an
        // atomic, by all processes.
        let words = unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), count) };
        Ok(Log { file, words, room })
    }

    pub fn stop(&self) {
        self.words[0].fetch_or(STOP, Ordering::Release);
    }

    pub fn stopped(&self) -> bool {
        self.words[0].load(Ordering::Acquire) & STOP != 0
    }

    /// A worker has panicked. Said here, as it may be killed before it can exit with a code.
    pub fn fail(&self) {
        self.words[0].fetch_or(FAILED, Ordering::Release);
    }

    pub fn failed(&self) -> bool {
        self.words[0].load(Ordering::Acquire) & FAILED != 0
    }

    fn word(&self, part: usize, at: usize) -> &AtomicU64 {
        assert!(at < self.room, "the log is full");
        &self.words[1 + part * self.room + at]
    }

    pub fn write(&self, part: usize, at: usize, entry: Entry) {
        self.word(part, at)
            .store(entry.to_word(), Ordering::Release);
    }

    pub fn read(&self, part: usize, at: usize) -> Option<Entry> {
        Entry::from_word(self.word(part, at).load(Ordering::Acquire))
    }
}
