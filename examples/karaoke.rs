//! A karaoke bar with four rooms and thirteen guests: a semaphore. One guest is killed in the middle of a song; the room is
//! free again.

#![allow(clippy::disallowed_types)] // no models here, so plain atomics

use multiprocess::{Semaphore, Value, spawn};
use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const ROOMS: u32 = 4;
const GUESTS: u64 = 13;

type Bar = (Semaphore, Value<AtomicU32>, Value<AtomicU32>);

fn sing(((rooms, inside, most), guest): (Bar, u64)) {
    let room = rooms.acquire().expect("a member of the family");
    let count = inside.as_atomic().fetch_add(1, Relaxed) + 1;
    most.as_atomic().fetch_max(count, Relaxed);
    println!("guest {guest} sings, {count} of {ROOMS} rooms taken");
    thread::sleep(Duration::from_millis(10 + guest * 7 % 20));
    inside.as_atomic().fetch_sub(1, Relaxed);
    drop(room);
}

fn faint(rooms: Semaphore) {
    let _room = rooms.acquire().expect("a member of the family");
    std::process::abort();
}

fn main() -> Result<(), Box<dyn Error>> {
    let rooms = Semaphore::new(ROOMS as usize)?;
    let (inside, most) = (
        Value::new(AtomicU32::new(0))?,
        Value::new(AtomicU32::new(0))?,
    );
    let bar = (rooms.clone(), inside, most.clone());
    spawn(faint, rooms.clone())?.wait();
    let guests: Result<Vec<_>, _> = (1..=GUESTS)
        .map(|guest| spawn(sing, (bar.clone(), guest)))
        .collect();
    for guest in guests? {
        guest.join()?;
    }
    assert!(most.as_atomic().load(Relaxed) <= ROOMS);
    let all: Vec<_> = (0..ROOMS).map(|_| rooms.acquire()).collect();
    println!(
        "all went home; {} rooms are free again",
        all.iter().flatten().count()
    );
    Ok(())
}
