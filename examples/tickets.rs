//! Tickets sold by many processes from one file that says how many are left and who has bought. With a lock each is sold once;
//! without one the buyers read the same file and buy the same ticket.
//!
//! ```sh
//! cargo run --release --example tickets            # with the lock
//! cargo run --release --example tickets -- --kill  # and some buyers are killed on the way
//! cargo run --release --example tickets -- --rush  # without
//! ```

use multiprocess::{JoinError, Lock, LockError, Process, spawn};
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const TICKETS: usize = 10;
const BUYERS: usize = 20;

/// `{"left": 8, "buyers": [4711, 4712]}`: their pids, in the order in which they have bought.
fn buyers(file: &Path) -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(file)?;
    let list = text.split(['[', ']']).nth(1).unwrap_or_default();
    let pids = list.split(',').filter_map(|pid| pid.trim().parse().ok());
    Ok(pids.collect())
}

/// The sale is one step: until the new file has the old one's name nothing is sold, and from then on it is, with who has bought.
fn write(file: &Path, buyers: &[u32]) -> io::Result<()> {
    let left = TICKETS - buyers.len();
    let new = file.with_extension(std::process::id().to_string());
    fs::write(
        &new,
        format!("{{\"left\": {left}, \"buyers\": {buyers:?}}}\n"),
    )?;
    fs::rename(new, file)
}

/// The number of the ticket, if there was one left.
fn buy(file: &Path) -> io::Result<Option<usize>> {
    let mut buyers = buyers(file)?;
    let number = buyers.len();
    if number == TICKETS {
        return Ok(None);
    }
    // The way to the booking office takes a moment.
    thread::sleep(Duration::from_millis(2));
    buyers.push(std::process::id());
    write(file, &buyers)?;
    Ok(Some(number))
}

type Buyer = (Option<Lock>, PathBuf);

fn buyer((lock, file): Buyer) -> Option<usize> {
    let _guard = match lock.as_ref().map(Lock::lock) {
        Some(Ok(guard)) => Some(guard),
        // One was killed at the counter: the file is as before the sale or as after it.
        Some(Err(LockError::OwnerDied(guard))) => {
            guard.mark_consistent();
            Some(guard)
        }
        Some(Err(error)) => panic!("{error}"),
        None => None,
    };
    buy(&file).expect("the file")
}

fn main() -> Result<(), Box<dyn Error>> {
    let wants = |option: &str| std::env::args().any(|argument| argument == option);
    let (rush, kill) = (wants("--rush"), wants("--kill"));
    let folder = std::env::temp_dir().join(format!("tickets-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let sale = sell(folder.join("tickets.json"), rush, kill);
    fs::remove_dir_all(&folder)?;
    sale
}

fn sell(file: PathBuf, rush: bool, kill: bool) -> Result<(), Box<dyn Error>> {
    let lock = if rush { None } else { Some(Lock::new(())?) };
    write(&file, &[])?;
    let people: Result<Vec<Process<_>>, _> = (0..BUYERS)
        .map(|_| spawn(buyer, (lock.clone(), file.clone())))
        .collect();
    let people = people?;
    if kill {
        for person in people.iter().step_by(3) {
            thread::sleep(Duration::from_micros(1700));
            person.kill()?;
        }
    }
    let mut sold = [0; TICKETS];
    let mut tickets = Vec::new();
    for person in people {
        let pid = person.pid();
        match person.join() {
            Ok(Some(number)) => {
                sold[number] += 1;
                tickets.push((pid, number));
            }
            Ok(None) => {}
            Err(JoinError::Signaled(_)) if kill => {}
            Err(error) => return Err(error.into()),
        }
    }
    let buyers = buyers(&file)?;
    println!("so many say that they have the ticket: {sold:?}");
    println!("the file says who bought: {buyers:?}");
    if !rush {
        assert!(sold.iter().all(|&n| n <= 1), "sold twice under a lock");
        let known = |&(pid, number): &(u32, usize)| buyers.get(number) == Some(&pid);
        assert!(tickets.iter().all(known), "the file knows nothing of it");
        assert!(kill || tickets.len() == TICKETS, "not all were sold");
    }
    Ok(())
}
