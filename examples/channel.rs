//! Counts the words of all files below a folder, in as many processes as there are CPUs:
//! `cargo run --release --example channel -- src`
//!
//! One process finds the files, several count, this one adds up. Nobody says that he is ready: a loop ends when every sender
//! of its channel is gone. So a counter that is killed (try it) costs the words of one file, and hangs nobody.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use multiprocess::{Receiver, Sender, channel, cpu_count, spawn};
use walkdir::WalkDir;

/// A path is bytes, not always text.
type Path = Vec<u8>;
type Counts = HashMap<String, u64>;

/// Sends every file below a folder.
fn find((root, files): (Path, Sender<Path>)) {
    for entry in WalkDir::new(OsString::from_vec(root)).into_iter().flatten() {
        let path = entry.path().as_os_str().as_bytes().to_vec();
        if entry.file_type().is_file() && files.send(path).is_err() {
            return; // nobody counts any more
        }
    }
}

/// Counts the words of one file after the other.
fn count((files, counts): (Receiver<Path>, Sender<Counts>)) {
    for file in files.iter().flatten() {
        let Ok(bytes) = fs::read(OsString::from_vec(file)) else {
            continue;
        };
        let mut words = Counts::new();
        let text = String::from_utf8_lossy(&bytes);
        for word in text.split(|c: char| !c.is_alphabetic()) {
            if !word.is_empty() {
                *words.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        if counts.send(words).is_err() {
            return;
        }
    }
}

/// The words of all files, and how many files they are.
pub fn count_words(root: &std::path::Path) -> Result<(Counts, usize), Box<dyn Error>> {
    let (found, files) = channel(64)?;
    let (counted, counts) = channel(64)?;
    let mut processes = vec![spawn(find, (root.as_os_str().as_bytes().to_vec(), found))?];
    for _ in 0..cpu_count() {
        processes.push(spawn(count, (files.clone(), counted.clone()))?);
    }
    // These clones would keep the loops waiting.
    drop((files, counted));

    let (mut words, mut files) = (Counts::new(), 0);
    for part in &counts {
        files += 1;
        for (word, count) in part? {
            *words.entry(word).or_default() += count;
        }
    }
    for process in processes {
        if let Err(error) = process.join() {
            eprintln!("a process ended early: {error}");
        }
    }
    Ok((words, files))
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).unwrap_or(".".into());
    let (words, files) = count_words(root.as_ref())?;
    let mut ranking: Vec<_> = words.iter().collect();
    ranking.sort_by_key(|(word, count)| (u64::MAX - **count, *word));
    println!("{files} files, {} different words", words.len());
    for (word, count) in ranking.iter().take(10) {
        println!("{count:8} {word}");
    }
    Ok(())
}
