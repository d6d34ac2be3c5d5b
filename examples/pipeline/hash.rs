//! The second stage: processes that read and hash files.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use multiprocess::Queue;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::messages::{Outcome, Report, Task};

/// Bytes read at a time: enough to make the calls cheap, and little enough to stay in the CPU's cache.
pub const CHUNK: usize = 256 * 1024;

/// The arguments of a worker.
#[derive(Serialize, Deserialize)]
pub struct Worker {
    pub number: u32,
    pub root: ByteBuf,
    pub crash_on: Option<ByteBuf>,
    pub tasks: Queue<Task>,
    pub reports: Queue<Report>,
}

/// The workers' function. It ends when the queue of tasks is closed and empty, or nobody wants the reports any more.
pub fn work(worker: Worker) {
    crate::stop::ignore();
    let root = PathBuf::from(OsString::from_vec(worker.root.into_vec()));
    let mut buffer = vec![0; CHUNK];
    for task in worker.tasks.iter() {
        let Ok(Task {
            number,
            first,
            paths,
        }) = task
        else {
            return;
        };
        let taken = Report::Taken {
            worker: worker.number,
            task: number,
            first,
            files: paths.len() as u32,
        };
        if worker.reports.put(taken).is_err() {
            return;
        }
        for (index, path) in paths.into_iter().enumerate().skip(first as usize) {
            let file = root.join(OsStr::from_bytes(&path));
            if worker
                .crash_on
                .as_ref()
                .is_some_and(|name| file.ends_with(OsStr::from_bytes(name)))
            {
                std::process::abort();
            }
            let Some(outcome) = hash_file(&file, &mut buffer, || worker.reports.is_closed()) else {
                return;
            };
            let done = Report::Done {
                worker: worker.number,
                task: number,
                index: index as u32,
                path,
                outcome,
            };
            if worker.reports.put(done).is_err() {
                return;
            }
        }
    }
}

/// Reads and hashes one file; `None` when `stop` said so in between.
pub fn hash_file(
    path: &Path,
    buffer: &mut [u8],
    mut stop: impl FnMut() -> bool,
) -> Option<Outcome> {
    match try_hash(path, buffer, &mut stop) {
        Ok(outcome) => outcome,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Outcome::Vanished),
        Err(error) => Some(Outcome::Unreadable(error.to_string())),
    }
}

fn try_hash(
    path: &Path,
    buffer: &mut [u8],
    stop: &mut dyn FnMut() -> bool,
) -> io::Result<Option<Outcome>> {
    // Between the walk and now somebody may have put a link or a FIFO in the file's place: neither follow nor wait.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Ok(Some(Outcome::Changed));
    }
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    loop {
        if stop() {
            return Ok(None);
        }
        match read(&mut file, buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    let after = file.metadata()?;
    if stamp(&before) != stamp(&after) {
        return Ok(Some(Outcome::Changed));
    }
    Ok(Some(Outcome::Hashed {
        hash: hasher.finalize().into(),
        bytes,
    }))
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What changes when a file is written to. (Writes within one tick of the file system's clock can go unnoticed.)
fn stamp(data: &Metadata) -> (u64, i64, i64, i64, i64) {
    (
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    )
}
