//! Copies a folder in as many processes as there are CPUs, and compares the digests of what was read and what is there then:
//! `cargo run --release --example copy_tree -- SRC DST`
//!
//! A `Pool` takes the files from the walk as its workers get on, however many there are, and gives the outcomes as they come. A
//! file that cannot be copied is told; so would be one whose worker was killed.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use multiprocess::{Pool, cpu_count};
use walkdir::WalkDir;

type Digest = [u8; 32];

/// Copies a file; its length and digest, or why it could not be copied.
fn copy((from, to): (PathBuf, PathBuf)) -> Result<(u64, Digest), String> {
    let told = |error: io::Error| format!("{}: {error}", from.display());
    let (read, len) = copy_file(&from, &to).map_err(told)?;
    let mut written = blake3::Hasher::new();
    written
        .update_reader(File::open(&to).map_err(told)?)
        .map_err(told)?;
    if *written.finalize().as_bytes() != read {
        return Err(format!("{}: the copy differs", from.display()));
    }
    Ok((len, read))
}

fn copy_file(from: &Path, to: &Path) -> io::Result<(Digest, u64)> {
    let (mut input, mut output) = (File::open(from)?, File::create_new(to)?);
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut len) = (vec![0; 256 << 10], 0);
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        output.write_all(&buffer[..count])?;
        len += count as u64;
    }
    output.set_permissions(input.metadata()?.permissions())?;
    Ok((*hasher.finalize().as_bytes(), len))
}

/// Makes folders and links here, where their order is kept; what is left are files.
fn files(source: PathBuf, target: PathBuf, faults: &mut Vec<String>) -> Vec<(PathBuf, PathBuf)> {
    let mut files = Vec::new();
    for entry in WalkDir::new(&source) {
        let made = entry.map_err(io::Error::from).and_then(|entry| {
            let place = entry.path().strip_prefix(&source).expect("below it");
            let to = target.join(place);
            let kind = entry.file_type();
            if kind.is_dir() {
                fs::create_dir(&to)?;
            } else if kind.is_symlink() {
                symlink(fs::read_link(entry.path())?, &to)?;
            } else if kind.is_file() {
                files.push((entry.into_path(), to));
            }
            Ok(())
        });
        faults.extend(made.err().map(|error| error.to_string()));
    }
    files
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: copy_tree SRC DST (which does not exist)".into());
    };
    let mut faults = Vec::new();
    let files = files(source.into(), target.into(), &mut faults);
    let bar = ProgressBar::new(files.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files")?);

    let pool = Pool::new(cpu_count())?;
    let (mut copied, mut bytes, mut all) = (0_u64, 0, [0; 32]);
    for outcome in pool.imap_unordered(copy, files) {
        bar.inc(1);
        match outcome {
            Ok(Ok((len, digest))) => {
                (copied, bytes) = (copied + 1, bytes + len);
                // In any order it is the same.
                all.iter_mut()
                    .zip(digest)
                    .for_each(|(sum, byte)| *sum ^= byte);
            }
            Ok(Err(fault)) => faults.push(fault),
            Err(error) => faults.push(error.to_string()),
        }
    }
    bar.finish_and_clear();
    println!(
        "{copied} files, {bytes} bytes, digest {}",
        blake3::Hash::from(all)
    );
    for fault in &faults {
        eprintln!("{fault}");
    }
    match faults.len() {
        0 => Ok(()),
        count => Err(format!("{count} could not be copied").into()),
    }
}
