//! What is sent: messages that say who made them, and whose every byte follows from that.

use serde_bytes::ByteBuf;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::random::{Random, mix};

/// One message of one process in one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    pub queue: usize,
    pub producer: u32,
    pub seq: u32,
}

/// Plain old data, a few words long.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record([u64; 5]);

/// What was got.
#[derive(Debug)]
pub enum Item {
    Number(u64),
    Record(Record),
    Bytes(Vec<u8>),
}

impl Id {
    /// `producer:24 | seq:24 | check:16`
    pub fn number(self) -> u64 {
        let id = u64::from(self.producer) << 24 | u64::from(self.seq);
        id << 16 | mix(id ^ (self.queue as u64) << 60) & 0xffff
    }

    fn of_number(queue: usize, number: u64) -> Id {
        Id {
            queue,
            producer: (number >> 40) as u32,
            seq: (number >> 16) as u32 & 0xff_ffff,
        }
    }

    pub fn record(self) -> Record {
        let number = self.number();
        Record([0, 1, 2, 3, 4].map(|word| number.rotate_left(word * 7)))
    }

    /// Producer, number, and a length and bytes that follow from them.
    pub fn bytes(self) -> Vec<u8> {
        let (producer, seq) = (self.producer, self.seq);
        let mut random =
            Random(mix(u64::from(producer) << 32 | u64::from(seq)) ^ self.queue as u64);
        let most = [16, 300, 5_000, 70_000][[0, 1, 1, 1, 1, 2, 2, 3][random.below(8) as usize]];
        let len = random.below(most) as usize;
        let mut bytes = Vec::with_capacity(8 + len + 8);
        bytes.extend(producer.to_le_bytes());
        bytes.extend(seq.to_le_bytes());
        while bytes.len() < 8 + len {
            bytes.extend(random.next().to_le_bytes());
        }
        bytes.truncate(8 + len);
        bytes
    }

    pub fn parcel(self) -> ByteBuf {
        ByteBuf::from(self.bytes())
    }
}

impl Item {
    /// Who made it, if all of it is what he made.
    pub fn id(&self, queue: usize) -> Option<Id> {
        match self {
            Item::Number(number) => {
                let id = Id::of_number(queue, *number);
                (id.number() == *number).then_some(id)
            }
            Item::Record(record) => {
                let id = Id::of_number(queue, record.0[0]);
                (id.record() == *record).then_some(id)
            }
            Item::Bytes(bytes) => {
                let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
                let (producer, seq) = (word(0)?, word(4)?);
                let id = Id {
                    queue,
                    producer,
                    seq,
                };
                (id.bytes() == *bytes).then_some(id)
            }
        }
    }
}
