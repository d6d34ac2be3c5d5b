//! What the records of a pipe are, and messages that take several: those that are longer than the ring is good for go through it
//! piece by piece. The first piece says how long the whole is; a piece that begins another message ends one that was given up.
#![forbid(unsafe_code)]

use super::end::{PARTIAL, Refused};
use super::receiver::Reader;
use super::sender::Writer;
use crate::os::clock::Deadline;
use crate::ring::{ByteStorage, FIRST_KIND, Record};

/// A value as serde encodes it; bytes as they are.
pub(super) const VALUE: u8 = FIRST_KIND;
pub(super) const BYTES: u8 = FIRST_KIND + 1;
/// The first piece of either, with the length of the whole in front, and the others.
const FIRST_OF_VALUE: u8 = FIRST_KIND + 2;
const FIRST_OF_BYTES: u8 = FIRST_KIND + 3;
const MORE: u8 = FIRST_KIND + 4;
/// Either in a block; the payload is its place.
pub(super) const BLOCK_VALUE: u8 = FIRST_KIND + 5;
pub(super) const BLOCK_BYTES: u8 = FIRST_KIND + 6;
/// A value that is a number.
pub(super) const WORD: u8 = FIRST_KIND + 7;

const LENGTH: usize = 8;
/// What is reserved for a message at once, at most: its length is what somebody else wrote.
const AT_ONCE: usize = 64 << 20;

impl Writer {
    /// Sends bytes piece by piece. What was sent when the time is over is dropped by the reader.
    pub(super) fn stream(
        &mut self,
        bytes: &[u8],
        raw: bool,
        deadline: Deadline,
    ) -> Result<(), Refused> {
        let (mut head, mut left) = (LENGTH, bytes);
        let mut kind = if raw { FIRST_OF_BYTES } else { FIRST_OF_VALUE };
        loop {
            // Pieces of some size, so that there are not many; as long as the room is, up to what keeps both sides at work.
            let least = (head + left.len()).min(self.largest / 2);
            let mut room = self.room(least.max(head), deadline)?;
            let len = room.len.min(self.largest).min(head + left.len());
            let to = &mut self.end.ring.room_mut(&mut room)[..len];
            if head > 0 {
                to[..LENGTH].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
            }
            let piece;
            (piece, left) = left.split_at(len - head);
            to[head..].copy_from_slice(piece);
            self.commit(len, kind);
            if left.is_empty() {
                return Ok(());
            }
            (head, kind) = (0, MORE);
        }
    }
}

/// What has arrived of a message.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) total: usize,
    pub(super) done: usize,
    pub(super) raw: bool,
    /// Unless it goes to the caller's own buffer.
    pub(super) bytes: Vec<u8>,
    direct: bool,
}

impl Partial {
    /// As it was when its reader was passed on.
    pub(super) fn resumed(total: usize, raw: bool, bytes: Vec<u8>) -> Partial {
        Partial {
            total,
            done: bytes.len(),
            raw,
            bytes,
            direct: false,
        }
    }

    fn is_complete(&self) -> bool {
        self.done == self.total
    }
}

/// A message on the reader's side.
#[derive(Debug)]
pub(super) enum Arrived {
    /// In one record, which is to be released.
    Record(Record),
    Whole {
        bytes: Vec<u8>,
        raw: bool,
    },
    /// So many bytes in the caller's buffer.
    Filled(usize),
}

impl Reader {
    /// The next message. One that comes in pieces is put together, in the buffer if it fits there.
    pub(super) fn next(
        &mut self,
        deadline: Deadline,
        mut buffer: Option<&mut [u8]>,
    ) -> Result<Arrived, Refused> {
        self.settle()?;
        if deadline.is_never() {
            // Another call may have to keep it again: many short ones would copy it every time.
            self.go_on_in(buffer.as_deref_mut());
        }
        let mut ration = self.ration();
        loop {
            if self.is_whole() {
                let partial = self.end_partial();
                return Ok(match partial.direct {
                    true => Arrived::Filled(partial.total),
                    false => Arrived::Whole {
                        bytes: partial.bytes,
                        raw: partial.raw,
                    },
                });
            }
            let found = match ration {
                0 if deadline.expired() => Err(Refused::NotNow),
                _ => self.record(deadline),
            };
            match found {
                Ok(record) if is_piece(&record) => {
                    ration = ration.saturating_sub(record.len);
                    self.gather(record, buffer.as_deref_mut());
                }
                Ok(record) => {
                    // What was begun before was given up.
                    self.end_partial();
                    return Ok(Arrived::Record(record));
                }
                Err(refused) => {
                    self.keep_from(buffer.as_deref_mut());
                    if refused == Refused::Closed {
                        self.end_partial();
                    }
                    return Err(refused);
                }
            }
        }
    }

    /// Waits until `next` would not: whether there is a message, or the end.
    pub(super) fn poll(&mut self, deadline: Deadline) -> bool {
        if self.settle().is_err() {
            return true;
        }
        let mut ration = self.ration();
        loop {
            if self.is_whole() {
                return true;
            }
            if ration == 0 && deadline.expired() {
                return false;
            }
            match self.record(deadline) {
                Ok(record) if is_piece(&record) => {
                    ration = ration.saturating_sub(record.len);
                    self.gather(record, None);
                }
                Err(Refused::NotNow) => return false,
                _ => return true,
            }
        }
    }

    /// How many bytes of a message a call gathers without a look at the clock: as many as may have been there when it began. A
    /// writer that keeps up would hold it for the whole message.
    fn ration(&self) -> usize {
        self.end.ring.capacity()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.end.has(PARTIAL) && self.partial.is_complete()
    }

    pub(super) fn end_partial(&mut self) -> Partial {
        self.end.set(PARTIAL, false);
        std::mem::take(&mut self.partial)
    }

    /// Moves what was there before into the caller's buffer.
    fn go_on_in(&mut self, buffer: Option<&mut [u8]>) {
        let Partial { total, done, .. } = self.partial;
        if let Some(buffer) = buffer.filter(|buffer| buffer.len() >= total) {
            if self.end.has(PARTIAL) && done < total {
                buffer[..done].copy_from_slice(&self.partial.bytes);
                self.partial.bytes = Vec::new();
                self.partial.direct = true;
            }
        }
    }

    /// Keeps for the next call what went to this caller's buffer.
    fn keep_from(&mut self, buffer: Option<&mut [u8]>) {
        if let Some(buffer) = buffer.filter(|_| self.partial.direct) {
            let partial = &mut self.partial;
            partial
                .bytes
                .reserve_exact(partial.total.min(AT_ONCE).max(partial.done));
            partial.bytes.extend_from_slice(&buffer[..partial.done]);
            partial.direct = false;
        }
    }

    fn gather(&mut self, record: Record, buffer: Option<&mut [u8]>) {
        let payload = self.end.ring.payload(&record);
        let mut data = payload;
        if record.kind != MORE {
            let (length, first) = payload.split_at(LENGTH.min(payload.len()));
            let total = length.try_into().map_or(0, u64::from_le_bytes) as usize;
            data = first;
            let direct = buffer.as_ref().is_some_and(|buffer| buffer.len() >= total);
            let mut bytes = Vec::new();
            if !direct {
                bytes.reserve_exact(total.min(AT_ONCE));
            }
            self.partial = Partial {
                total,
                done: 0,
                raw: record.kind == FIRST_OF_BYTES,
                bytes,
                direct,
            };
            self.end.set(PARTIAL, true);
        }
        // A piece of a message of which the beginning is unknown is nobody's.
        if self.end.has(PARTIAL) {
            let partial = &mut self.partial;
            let data = &data[..data.len().min(partial.total - partial.done)];
            match buffer {
                Some(buffer) if partial.direct => {
                    buffer[partial.done..partial.done + data.len()].copy_from_slice(data);
                }
                _ => partial.bytes.extend_from_slice(data),
            }
            partial.done += data.len();
        }
        self.release(record.len);
    }
}

fn is_piece(record: &Record) -> bool {
    matches!(record.kind, FIRST_OF_VALUE | FIRST_OF_BYTES | MORE)
}
