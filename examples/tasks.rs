//! Finds the files below a folder that have the same content, in as many processes as there are CPUs:
//! `cargo run --release --example tasks -- src [--kill-worker]`
//!
//! Daemons take files from a `JoinableQueue`, for ever; the process that feeds it learns by `join` when all are done.
//! `--kill-worker` kills one that has just said which file it took. `join` does not wait for the dead: the file goes to
//! another worker, and nothing is missing. (Workers that die are replaced. A file that kills three of them is given up.)
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use multiprocess::{ExitCode, GetError, JoinableQueue, Process, Queue, cpu_count};
use serde::{Deserialize, Serialize};
use walkdir::WalkDir;

/// A file's hash and length, or why there are none.
type Content = Result<([u8; 32], u64), String>;

#[derive(Serialize, Deserialize)]
enum News {
    Took(u32, OsString),
    Read(u32, OsString, Content),
}

/// Puts every file below a folder, and waits until all are done.
fn feed((root, files, news): (OsString, JoinableQueue<OsString>, Queue<News>)) {
    for entry in WalkDir::new(root) {
        match entry {
            Ok(entry) if !entry.file_type().is_file() => {}
            Ok(entry) => files.put(entry.into_path().into()).expect("room"),
            Err(error) => {
                let path = error.path().map(|path| path.into()).unwrap_or_default();
                let _ = news.put(News::Read(0, path, Err(error.to_string())));
            }
        }
    }
    let end = files.join();
    news.close(); // all has been said
    end.expect("no file that kills worker after worker");
}

fn work((files, news): (JoinableQueue<OsString>, Queue<News>)) {
    let me = std::process::id();
    while let Ok(file) = files.get_task() {
        let took = news.put(News::Took(me, file.clone()));
        let content = read(file.as_ref()).map_err(|error| error.to_string());
        // Said before it is done, so that `join` waits for the message, too.
        if took.is_err() || news.put(News::Read(me, file.clone(), content)).is_err() {
            return;
        }
    } // here the task is dropped, and done
}

fn read(file: &Path) -> std::io::Result<([u8; 32], u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file)?)?;
    Ok((hasher.finalize().into(), hasher.count()))
}

#[derive(Default)]
struct Found {
    /// Who read the file, and what. One whose worker died between saying so and being done is read, and said, twice.
    files: BTreeMap<OsString, (u32, Content)>,
    /// What each worker took and has not read.
    hands: HashMap<u32, OsString>,
    deaths: Vec<(u32, ExitCode)>,
}

fn find(root: OsString, mut kill: bool) -> Result<Found, Box<dyn Error>> {
    let (files, news) = (JoinableQueue::bounded(64)?, Queue::bounded(64)?);
    // Daemons end with this process, however it ends: by an error below, or by Ctrl-C.
    let daemon = || Process::builder().daemon(true);
    let hire = || daemon().spawn(work, (files.clone(), news.clone()));
    let feeder = daemon().spawn(feed, (root, files.clone(), news.clone()))?;
    let workers: Result<Vec<_>, _> = (0..cpu_count()).map(|_| hire()).collect();
    let (mut workers, mut found) = (workers?, Found::default());
    loop {
        match news.get_timeout(Duration::from_millis(50)) {
            Ok(News::Took(pid, file)) => {
                if let (true, Some(worker)) = (kill, workers.iter().find(|w| w.pid() == pid)) {
                    worker.kill()?;
                    kill = false;
                }
                found.hands.insert(pid, file);
            }
            Ok(News::Read(pid, file, content)) => {
                found.hands.remove(&pid);
                found.files.insert(file, (pid, content));
            }
            Err(GetError::Empty) => {
                for worker in &mut workers {
                    if let Some(end) = worker.exitcode() {
                        found.deaths.push((worker.pid(), end));
                        *worker = hire()?;
                    }
                }
                if !feeder.is_alive() {
                    news.close(); // it could not do so itself
                }
            }
            Err(GetError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    feeder.join()?;
    files.close();
    let ends = workers.iter().map(|worker| (worker.pid(), worker.wait()));
    found
        .deaths
        .extend(ends.filter(|(_, end)| *end != ExitCode::Exited(0)));
    Ok(found)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = std::env::args_os().skip(1);
    let (kill, mut roots): (Vec<_>, Vec<_>) = arguments.partition(|a| a == "--kill-worker");
    let found = find(roots.pop().unwrap_or(".".into()), !kill.is_empty())?;
    let (mut same, mut failed) = (BTreeMap::<_, Vec<&OsString>>::new(), 0);
    for (file, (_, content)) in &found.files {
        match content {
            Ok((hash, len)) => same.entry((len, hash)).or_default().push(file),
            Err(error) => {
                eprintln!("{file:?}: {error}");
                failed += 1;
            }
        }
    }
    same.retain(|_, files| files.len() > 1);
    let files = found.files.len();
    println!("{files} files, {} contents more than once", same.len());
    for ((len, _), files) in same.iter().rev().take(5) {
        println!("{len} bytes: {files:?}");
    }
    for (pid, end) in &found.deaths {
        print!("worker {pid} ended with {end:?}, ");
        match found.hands.get(pid) {
            Some(file) => println!("{file:?} in its hands; {} read it", found.files[file].0),
            None => println!("nothing in its hands"),
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} files could not be read").into()),
    }
}
