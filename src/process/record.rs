//! The process record: what parent and child have in common in the arena. The parent lists the arguments in it, the child
//! the result. Either may be killed at any instruction; the record goes when neither holds it, and its blocks with it.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::arena::{
    Arena, Block, Dead, Kind, Object, ObjectSpec, OwnedBlock, Parcel, Reservation, View, Visitor,
    Words,
};
use crate::error::Error;
use crate::os::entry::StartPacket;

/// The place of process records in the table of kinds.
pub(crate) const KIND: u32 = 1;

/// Three fields that name blocks (number + 1, 0 for none), the child's seat, and room for a small outcome: one that needs no
/// memory when there is none left.
type Fields = Words<{ BLOCKS + 1 + SMALL }>;

const BLOCKS: usize = 3;
const SMALL: usize = 32;

/// What the hook of the fresh program reads.
const PACKET: usize = 0;
/// The encoded arguments, until the child makes them its own.
const ARGS: usize = 1;
/// The encoded outcome, or [`IN_RECORD`] and its length, or [`NO_MEMORY`].
const RESULT: usize = 2;
/// The child's number in the family.
const SEAT: usize = BLOCKS;
/// Where a small outcome is.
const OUTCOME: std::ops::Range<usize> = BLOCKS + 1..BLOCKS + 1 + SMALL;

const IN_RECORD: u64 = 1 << 63;

/// There was no memory even for saying that there is none.
const NO_MEMORY: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct ProcessKind;

impl Kind for ProcessKind {
    fn id(&self) -> u32 {
        KIND
    }

    fn name(&self) -> &'static str {
        "process"
    }

    /// Arguments that a dead child has not taken go at once, even though the parent keeps the record: others may wait for the
    /// end of what they hold.
    fn repair(&self, object: View<'_>, dead: &Dead) {
        let fields = &object.get::<Fields>().0;
        if !dead.contains(fields[SEAT].load(Acquire)) {
            return;
        }
        if let Some(index) = listed(fields[ARGS].load(Acquire)) {
            let owned = object.arena.take_over(index);
            fields[ARGS].store(0, Release);
            // What it alone held is destroyed in the course of the collection.
            owned.let_go();
        }
    }

    fn visit(&self, object: View<'_>, block: &mut Visitor<'_>) {
        for field in &object.get::<Fields>().0[..BLOCKS] {
            if let Some(index) = listed(field.load(Acquire)) {
                block(index);
            }
        }
    }

    fn destroy(&self, object: View<'_>, taken: &mut dyn FnMut(OwnedBlock<'_>)) {
        for (i, field) in object.get::<Fields>().0[..BLOCKS].iter().enumerate() {
            let Some(index) = listed(field.load(Acquire)) else {
                continue;
            };
            let owned = object.arena.take_over(index);
            field.store(0, Release);
            // The packet is no message: it holds no handles to be let go.
            if i == PACKET {
                drop(owned)
            } else {
                taken(owned)
            }
        }
    }
}

fn listed(field: u64) -> Option<u32> {
    if field & IN_RECORD != 0 {
        None
    } else {
        field.checked_sub(1).map(|index| index as u32)
    }
}

/// This process's hold on a record.
#[derive(Debug)]
pub(super) struct Record(Object);

/// What a child has left.
pub(super) enum Left<'a> {
    Nothing,
    NoMemory,
    Small(Vec<u8>),
    Outcome(Parcel<'a>),
}

/// Room to encode a small outcome in.
pub(super) type Buffer = [u64; SMALL];

impl Record {
    /// A record with the arguments in it, held by this process and by the child to be.
    pub(super) fn create(
        arena: &Arena,
        seat: Reservation,
        args: Parcel<'_>,
    ) -> Result<Record, Error> {
        let len = size_of::<Fields>() as u64;
        let spec = ObjectSpec {
            kind: &ProcessKind,
            type_hash: 0,
            len,
        };
        let record = Record(Object::create(arena, spec, |view| {
            view.get::<Fields>().0[SEAT].store(seat.id.into(), Release);
        })?);
        record.0.hold_for_seat(seat)?;
        record.list(ARGS, args.into_index());
        Ok(record)
    }

    /// The record that another member has named.
    pub(super) fn attach(arena: &Arena, block: Block) -> Result<Record, Error> {
        Object::attach(arena, block, KIND, 0).map(Record)
    }

    pub(super) fn arena(&self) -> &Arena {
        self.0.arena()
    }

    pub(super) fn block(&self) -> Block {
        self.0.block()
    }

    /// Puts the packet where the child can read it, and says where that is in the arena.
    pub(super) fn set_packet(&self, bytes: &[u8; StartPacket::LEN]) -> Result<u64, Error> {
        let mut block = self.arena().alloc(bytes.len() as u64)?;
        block.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        let offset = self.arena().offset_of(block.block());
        self.list(PACKET, block.into_block().index);
        Ok(offset)
    }

    /// The arguments, which are this process's from now on. For the child, once.
    pub(super) fn take_args(&self) -> Option<Parcel<'_>> {
        self.take(ARGS)
    }

    /// Leaves the outcome to whoever looks. This is the moment at which a process has returned.
    pub(super) fn set_outcome(&self, parcel: Parcel<'_>) {
        self.list(RESULT, parcel.into_index());
    }

    /// The same for one of `len` bytes that needs no block.
    pub(super) fn set_small_outcome(&self, buffer: &Buffer, len: usize) {
        for (word, &value) in self.fields().0[OUTCOME].iter().zip(buffer) {
            word.store(value, Relaxed);
        }
        self.fields().0[RESULT].store(IN_RECORD | len as u64, Release);
    }

    /// Leaves word that the outcome found no memory.
    pub(super) fn set_no_memory(&self) {
        self.fields().0[RESULT].store(NO_MEMORY, Release);
    }

    /// What the child has left. For the parent, after the child's end.
    pub(super) fn take_outcome(&self) -> Left<'_> {
        match self.fields().0[RESULT].load(Acquire) {
            NO_MEMORY => return Left::NoMemory,
            field if field & IN_RECORD != 0 => {
                let words = self.fields().0[OUTCOME].iter();
                let mut bytes: Vec<u8> = words
                    .flat_map(|word| word.load(Relaxed).to_ne_bytes())
                    .collect();
                bytes.truncate((field & !IN_RECORD) as usize);
                return Left::Small(bytes);
            }
            _ => {}
        }
        self.take(RESULT).map_or(Left::Nothing, Left::Outcome)
    }

    fn fields(&self) -> &Fields {
        self.0.view().get()
    }

    /// Until the field names the block it belongs to this member by its own word.
    fn list(&self, field: usize, index: u32) {
        self.fields().0[field].store(u64::from(index) + 1, Release);
    }

    fn take(&self, field: usize) -> Option<Parcel<'_>> {
        let field = &self.fields().0[field];
        let index = listed(field.load(Acquire))?;
        // Its own before the record forgets it: at no instruction is the block nobody's.
        let parcel = Parcel::take(self.arena(), index);
        field.store(0, Release);
        Some(parcel)
    }
}
