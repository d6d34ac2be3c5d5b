//! Tickets sold by many processes from one file that holds how many are left. With a lock each is sold once; without one the
//! buyers read the same number and sell the same ticket.
//!
//! ```sh
//! cargo run --release --example tickets            # with the lock
//! cargo run --release --example tickets -- --rush  # without
//! ```

#![allow(clippy::disallowed_types)] // no models here, so plain atomics

use multiprocess::{Array, Lock, LockError, spawn};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const TICKETS: usize = 10;
const BUYERS: usize = 20;

/// `{"left": 10}`.
fn left(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap_or_default();
    let digits = text.chars().filter(char::is_ascii_digit);
    digits.collect::<String>().parse().unwrap_or(0)
}

fn buy(file: &Path, sold: &Array<AtomicU32>) {
    let count = left(file);
    if count == 0 {
        return;
    }
    // The way to the booking office takes a moment.
    thread::sleep(Duration::from_millis(2));
    sold.as_atomics()[count - 1].fetch_add(1, Relaxed);
    let _ = fs::write(file, format!("{{\"left\": {}}}\n", count - 1));
}

type Buyer = (Option<Lock>, PathBuf, Array<AtomicU32>);

fn buyer((lock, file, sold): Buyer) {
    let _guard = match lock.as_ref().map(Lock::lock) {
        Some(Ok(guard)) => Some(guard),
        // One was killed at the counter: here the file is right whatever he did last.
        Some(Err(LockError::OwnerDied(guard))) => {
            guard.mark_consistent();
            Some(guard)
        }
        Some(Err(error)) => panic!("{error}"),
        None => None,
    };
    buy(&file, &sold);
}

fn main() -> Result<(), Box<dyn Error>> {
    let rush = std::env::args().any(|argument| argument == "--rush");
    let lock = if rush { None } else { Some(Lock::new(())?) };
    let sold = Array::<AtomicU32>::zeroed(TICKETS)?;
    let file = std::env::temp_dir().join(format!("tickets-{}.json", std::process::id()));
    fs::write(&file, format!("{{\"left\": {TICKETS}}}\n"))?;
    let buyers: Result<Vec<_>, _> = (0..BUYERS)
        .map(|_| spawn(buyer, (lock.clone(), file.clone(), sold.clone())))
        .collect();
    for buyer in buyers? {
        buyer.join()?;
    }
    let times: Vec<u32> = sold.as_atomics().iter().map(|n| n.load(Relaxed)).collect();
    println!("each ticket was sold so many times: {times:?}");
    println!("left in the file: {}", left(&file));
    fs::remove_file(&file)?;
    assert!(
        rush || times.iter().all(|&n| n == 1),
        "sold twice under a lock"
    );
    Ok(())
}
