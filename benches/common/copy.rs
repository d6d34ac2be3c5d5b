//! What it costs to copy a large message in and out, with nothing else.

#![allow(unsafe_code)]

use super::CAPACITY_LARGE;
use super::machine::{Place, pin};
use super::message::{Block, piece};
use super::shared::Shared;
use super::team::Team;
use super::throughput::{consume_into, produce};
use std::hint;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};
use zerocopy::FromZeros;

/// The size of a large message.
pub const LARGE: usize = 1 << 20;

/// Time to copy a large message in and out again `times` times, in one process.
pub fn alone(times: u64) -> Duration {
    pin(Place::First);
    let mut middle = vec![1; LARGE];
    let mut end = vec![2; LARGE];
    let mut copy = |i| {
        middle.copy_from_slice(piece(i, LARGE));
        hint::black_box(&mut middle);
        end.copy_from_slice(&middle);
        hint::black_box(&mut end);
    };
    (0..4).for_each(&mut copy);
    let begin = Instant::now();
    (0..times).for_each(&mut copy);
    let time = begin.elapsed();
    pin(Place::Either);
    time
}

/// Slots for messages, and how many were ever filled and emptied.
#[derive(FromZeros)]
#[repr(C)]
struct Slots {
    filled: Count,
    emptied: Count,
    bytes: [[u8; LARGE]; CAPACITY_LARGE],
}

#[derive(FromZeros)]
#[repr(C, align(128))]
struct Count(AtomicU64);

impl Count {
    fn wait_until_above(&self, n: u64) {
        while self.0.load(Acquire) <= n {
            hint::spin_loop();
        }
    }
}

impl Shared<Slots> {
    fn slot(&self, n: u64) -> *mut u8 {
        let at = offset_of!(Slots, bytes) + (n as usize % CAPACITY_LARGE) * LARGE;
        self.as_ptr().wrapping_add(at)
    }
}

/// A process that copies messages into shared memory and one that copies them out, awake all the time: what two CPUs
/// can do.
pub fn by_two() -> Team {
    let mut team = Team::new("copying by two processes");
    let slots = Shared::<Slots>::new().expect("memory for the slots");
    let mut n = 0;
    team.fork(Place::First, |round| {
        produce(round, 0, |message: Block<LARGE>| {
            let Block::Lent(bytes) = message else { return };
            // The slot is free once all but the last few were emptied.
            if n >= CAPACITY_LARGE as u64 {
                slots.emptied.wait_until_above(n - CAPACITY_LARGE as u64);
            }
            // SAFETY: the slot is `LARGE` bytes and nobody else's until it is filled.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), slots.slot(n), LARGE) };
            n += 1;
            slots.filled.0.store(n, Release);
        })
    });
    let mut n = 0;
    team.fork(Place::Second, |round| {
        consume_into::<Block<LARGE>>(round, |buffer| {
            slots.filled.wait_until_above(n);
            // SAFETY: the slot is `LARGE` bytes, as the buffer is, and stays until it is emptied.
            unsafe { ptr::copy_nonoverlapping(slots.slot(n), buffer.as_mut_ptr(), LARGE) };
            n += 1;
            slots.emptied.0.store(n, Release);
        })
    });
    team
}
