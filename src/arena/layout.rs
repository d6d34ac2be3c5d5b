//! Where everything lies in the arena, from the number of chunks and members alone:
//!
//! ```text
//! 0         header, one page
//!           members table      max_members + 1 rows
//!           chunk words        8 bytes a chunk
//!           block words        a page a chunk, exists once the chunk was used
//!           chunks             64 KiB each
//! ```

use crate::primitive::{AtomicU32, AtomicU64};
use crossbeam_utils::CachePadded;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const CHUNK: u64 = 64 * 1024;
/// The smallest block; a chunk has at most this many of them, and as many block words.
pub(crate) const MIN_BLOCK: u64 = 128;
pub(crate) const SLOTS: u64 = CHUNK / MIN_BLOCK;
/// So that a block's index fits into 30 bits.
pub(crate) const MAX_CHUNKS: u64 = 1 << 21;

/// Block sizes within a chunk; larger blocks are runs of whole chunks. All are multiples of 128, so
/// that every block is aligned to two cache lines.
pub(crate) const CLASSES: [u64; 16] = [
    128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10880, 16384, 21760, 32768,
];
/// The largest block within a chunk.
pub(crate) const MAX_SMALL: u64 = CLASSES[CLASSES.len() - 1];

/// The smallest class for `len` bytes, which are at most [`MAX_SMALL`].
#[inline]
pub(crate) fn class_of(len: u64) -> usize {
    CLASSES
        .iter()
        .position(|&size| len <= size)
        .expect("no class is that large")
}

/// How many blocks of a class a chunk holds.
#[inline]
pub(crate) fn blocks_in(class: usize) -> u64 {
    CHUNK / CLASSES[class]
}

/// The first page. Written by the root before anybody else maps the arena; the atomics change later.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) magic: u64,
    /// A hash of the crate's version: members run the same code.
    pub(crate) version: u64,
    pub(crate) nonce: u64,
    pub(crate) chunks: u64,
    pub(crate) max_members: u64,
    pub(crate) membarrier: u64,
    /// Rises before a member is marked dead: who sees it look again for what the dead may have held.
    pub(crate) deaths: CachePadded<AtomicU64>,
    /// Chunks from here on were never used (a hint that only rises).
    pub(crate) high_water: CachePadded<AtomicU64>,
    /// Who collects, destroys objects and returns memory: `generation:32 | member`, see `maintenance.rs`.
    pub(crate) maintenance: CachePadded<AtomicU64>,
    /// Somebody who did not get the above left work.
    pub(crate) maintenance_wanted: AtomicU32,
    /// How many times something that a dead member left was repaired.
    pub(crate) repairs: CachePadded<AtomicU64>,
}

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"multproc");

/// A row of the members table.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct MemberRow {
    pub(crate) word: AtomicU64,
    /// pid, pid namespace, inode of the pidfd, start time; valid while the word says `ALIVE` or `DEAD`.
    pub(crate) identity: [AtomicU64; 4],
}

#[cfg(not(all(test, loom)))]
const _: () = {
    assert!(size_of::<Header>() <= PAGE as usize);
    assert!(size_of::<MemberRow>() == 64);
    assert!(SLOTS * 8 == PAGE, "a chunk's block words are one page");
};

/// Offsets of the parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) chunks: u64,
    pub(crate) max_members: u64,
    pub(crate) members_at: u64,
    pub(crate) chunk_words_at: u64,
    pub(crate) block_words_at: u64,
    pub(crate) chunks_at: u64,
    pub(crate) len: u64,
}

impl Layout {
    pub(crate) fn new(chunks: u64, max_members: u64) -> Layout {
        let members_at = PAGE;
        let rows = (max_members + 1) * size_of::<MemberRow>() as u64;
        let chunk_words_at = (members_at + rows).next_multiple_of(PAGE);
        let block_words_at = (chunk_words_at + chunks * 8).next_multiple_of(PAGE);
        let chunks_at = (block_words_at + chunks * PAGE).next_multiple_of(CHUNK);
        let len = chunks_at + chunks * CHUNK;
        Layout {
            chunks,
            max_members,
            members_at,
            chunk_words_at,
            block_words_at,
            chunks_at,
            len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_aligned_and_fill_the_chunk() {
        for (class, &size) in CLASSES.iter().enumerate() {
            assert_eq!(size % 128, 0);
            assert_eq!(class_of(size), class);
            assert_eq!(class_of(size - 1), class);
            assert!(
                blocks_in(class) * size > CHUNK - size,
                "no room for one more"
            );
        }
        assert_eq!(class_of(0), 0);
    }

    #[test]
    fn parts_follow_each_other() {
        let layout = Layout::new(100, 10);
        assert!(layout.members_at + 11 * 64 <= layout.chunk_words_at);
        assert!(layout.chunk_words_at + 800 <= layout.block_words_at);
        assert!(layout.block_words_at + 100 * PAGE <= layout.chunks_at);
        assert_eq!(layout.chunks_at % CHUNK, 0);
        assert_eq!(layout.len, layout.chunks_at + 100 * CHUNK);
    }
}
