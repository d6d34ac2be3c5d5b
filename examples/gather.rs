//! Looks for a word in all files below a folder, with a pipe from each of several processes, gathered with `wait`:
//! `cargo run --release --example gather -- unsafe src`
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;

use multiprocess::{Pipe, PipeReceiver, PipeSender, Process, Waitable, cpu_count, spawn, wait};
use walkdir::WalkDir;

/// Where it is: file, line, text.
type Hit = (String, usize, String);

fn search((word, files, mut hits): (String, Vec<String>, PipeSender<Hit>)) {
    for file in files {
        // What is no text is left out.
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (line, found) in text.lines().enumerate().filter(|(_, l)| l.contains(&word)) {
            if hits
                .send((file.clone(), line + 1, found.trim().to_string()))
                .is_err()
            {
                return; // nobody reads them any more
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let word = arguments.next().ok_or("which word?")?;
    let folder = arguments.next().unwrap_or_else(|| ".".to_string());
    let files: Vec<String> = WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().display().to_string())
        .collect();

    let mut searches: Vec<(PipeReceiver<Hit>, Process<()>)> = Vec::new();
    for part in files.chunks(files.len().div_ceil(cpu_count()).max(1)) {
        let (receiver, sender) = Pipe::simplex()?;
        let process = spawn(search, (word.clone(), part.to_vec(), sender))?;
        searches.push((receiver, process));
    }
    let (mut count, mut lost) = (0, 0);
    while !searches.is_empty() {
        let all: Vec<&dyn Waitable> = searches.iter().map(|(r, _)| r as &dyn Waitable).collect();
        for place in wait(&all, None)?.into_iter().rev() {
            match searches[place].0.recv() {
                Ok((file, line, text)) => {
                    println!("{file}:{line}: {text}");
                    count += 1;
                }
                // At its end, or killed: either way there is no more from it, and the others go on.
                Err(_) => {
                    if let Err(error) = searches.remove(place).1.join() {
                        eprintln!("a search was cut short: {error}");
                        lost += 1;
                    }
                }
            }
        }
    }
    println!("{count} lines");
    match lost {
        0 => Ok(()),
        _ => Err("some files were not searched".into()),
    }
}
