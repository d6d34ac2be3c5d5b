//! How tasks lie in a job: arguments one after the other, and results. Each begins with a word that says how long it is.
//!
//! ```text
//! arguments  bytes:40 | handles:24    and the bytes; the handles are the next so many of the job's
//! results    bytes:40 | kind:24       and the bytes
//! ```
//!
//! What is a number, and no more, is a word instead of encoded bytes (see `codec::to_word`): its handles are `WORD`, its kind is `Word`.
#![forbid(unsafe_code)]

use super::error::TaskError;
use crate::arena::Local;
use crate::codec;
use crate::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The bytes of a head.
pub(super) const HEAD: usize = 8;
const LEN_BITS: u32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResultKind {
    Value = 0,
    /// The bytes are a `Fault`.
    Fault = 1,
    /// The value has handles, and is elsewhere.
    Parcel = 2,
    /// The value is this word.
    Word = 3,
}

/// So many handles no arguments have: they are a word.
pub(super) const WORD: u64 = (1 << (64 - LEN_BITS)) - 1;

/// The bytes of a record that is a word.
pub(super) const WORD_RECORD: usize = HEAD + size_of::<u64>();

/// The word that the value is, if that is all.
#[inline]
pub(super) fn to_word<T: Serialize>(value: &T) -> Option<u64> {
    if codec::may_be_word::<T>() {
        codec::to_word(value)
    } else {
        None
    }
}

/// Writes a record that is a word, if there is room for it.
#[inline]
pub(super) fn put_word(room: &mut [u8], word: u64, extra: u64) -> bool {
    let Some(record) = room.first_chunk_mut::<WORD_RECORD>() else {
        return false;
    };
    record[..HEAD].copy_from_slice(&head(size_of::<u64>(), extra));
    record[HEAD..].copy_from_slice(&word.to_ne_bytes());
    true
}

/// The value that is this word.
#[inline]
pub(super) fn from_word<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.try_into() {
        Ok(bytes) if codec::may_be_word::<T>() => codec::from_word(u64::from_ne_bytes(bytes)),
        _ => Err(DecodeError("it is no number".into())),
    }
}

impl ResultKind {
    pub(super) fn of(extra: u64) -> ResultKind {
        match extra {
            0 => ResultKind::Value,
            1 => ResultKind::Fault,
            3 => ResultKind::Word,
            _ => ResultKind::Parcel,
        }
    }
}

#[inline]
pub(super) fn head(len: usize, extra: u64) -> [u8; HEAD] {
    (len as u64 | extra << LEN_BITS).to_ne_bytes()
}

/// The head of the record at `at`: how long it is, and what else it says.
#[inline]
pub(super) fn read_head(bytes: &[u8], at: usize) -> Option<(usize, u64)> {
    let head = bytes.get(at..)?.first_chunk::<HEAD>()?;
    let word = u64::from_ne_bytes(*head);
    Some(((word & ((1 << LEN_BITS) - 1)) as usize, word >> LEN_BITS))
}

/// The end of so many records.
pub(super) fn skip(bytes: &[u8], records: usize) -> Option<usize> {
    (0..records).try_fold(0, |at, _| {
        let (len, _) = read_head(bytes, at)?;
        Some(at + HEAD + len)
    })
}

/// The tasks of a job that is not in shared memory yet.
#[derive(Default)]
pub(super) struct Packed {
    buffer: Vec<u8>,
    used: usize,
    pub(super) handles: Vec<Arc<dyn Local>>,
    /// How many there are to be run.
    pub(super) tasks: u32,
    /// The places of those that could not be encoded, and why.
    pub(super) holes: Vec<(u32, TaskError)>,
}

impl Packed {
    /// How many tasks were given, those that cannot be run included.
    pub(super) fn len(&self) -> u32 {
        self.tasks + self.holes.len() as u32
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.used]
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.handles.clear();
        self.tasks = 0;
        self.holes.clear();
    }

    /// Adds a task.
    #[inline]
    pub(super) fn add<A: Serialize>(&mut self, args: &A) {
        let (at, had) = (self.used, self.handles.len());
        if self.buffer.len() < at + WORD_RECORD {
            self.buffer.resize(2 * at + ROOM, 0);
        }
        if let Some(word) = to_word(args) {
            put_word(&mut self.buffer[at..], word, WORD);
            self.used = at + WORD_RECORD;
            self.tasks += 1;
            return;
        }
        let begin = at + HEAD;
        match codec::append(args, &mut self.buffer, begin, &mut self.handles) {
            Ok(end) => {
                let handles = (self.handles.len() - had) as u64;
                self.buffer[at..begin].copy_from_slice(&head(end - begin, handles));
                self.used = end;
                self.tasks += 1;
            }
            Err(failure) => {
                self.handles.truncate(had);
                self.holes.push((self.len(), failure.into()));
            }
        }
    }
}

/// Enough for most.
const ROOM: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serializer;
    use serde::ser::Error;

    struct Mute;

    impl Serialize for Mute {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("mute"))
        }
    }

    #[test]
    fn what_cannot_be_encoded_leaves_a_hole() {
        let mut packed = Packed::default();
        packed.add(&(1_u8,));
        packed.add(&Mute);
        packed.add(&"two");
        packed.add(&Mute);
        assert_eq!((packed.tasks, packed.len()), (2, 4));
        let places: Vec<u32> = packed.holes.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 3]);
        assert_eq!(read_head(packed.bytes(), 0), Some((1, 0)));
        assert_eq!(skip(packed.bytes(), 1), Some(HEAD + 1));
        assert_eq!(skip(packed.bytes(), 2), Some(packed.bytes().len()));
        assert_eq!(skip(packed.bytes(), 3), None);
    }

    #[test]
    fn numbers_are_words() {
        let mut packed = Packed::default();
        packed.add(&-5_i32);
        packed.add(&"text");
        let bytes = packed.bytes();
        assert_eq!(read_head(bytes, 0), Some((8, WORD)));
        assert_eq!(from_word::<i32>(&bytes[HEAD..WORD_RECORD]).unwrap(), -5);
        assert!(from_word::<String>(&bytes[HEAD..WORD_RECORD]).is_err());
        assert_eq!(read_head(bytes, WORD_RECORD), Some((5, 0)));
        assert!(!put_word(&mut [0; 15], 1, WORD));
    }
}
