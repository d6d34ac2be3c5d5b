//! Copies a folder in as many processes as there are CPUs, and compares the digests of what was read and what is there then:
//! `cargo run --release --example copy_tree -- SRC DST`
//!
//! A `Pool` takes the files as its workers get on, however many there are. Links stay links; what is neither file nor folder nor
//! link is left out. That and each file that cannot be copied is told, also one whose worker was killed, and the exit code is 1 then.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use multiprocess::{Pool, TaskError, cpu_count};
use rustix::fs::OFlags;
use walkdir::{DirEntry, WalkDir};

type Digest = [u8; 32];

/// Copies a file; its length and digest, or why it could not be copied. (Paths are no arguments: serde wants them to be UTF-8.)
fn copy((from, to): (OsString, OsString)) -> Result<(u64, Digest), String> {
    copy_file(from.as_ref(), to.as_ref()).map_err(|error| error.to_string())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<(u64, Digest)> {
    // Whatever it may have become since it was found: opening it must not block.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    let input = options.custom_flags(flags.bits() as i32);
    let input = input.read(true).open(from)?;
    let metadata = input.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("no file any more"));
    }
    let mut options = OpenOptions::new();
    let output = options.read(true).write(true).create_new(true);
    let output = output.mode(metadata.mode() & 0o777).open(to)?;
    let copied = transfer(input, output);
    if copied.is_err() {
        // No half of it stays.
        let _ = fs::remove_file(to);
    }
    copied
}

fn transfer(mut input: File, mut output: File) -> io::Result<(u64, Digest)> {
    let mut read = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        read.update(&buffer[..count]);
        output.write_all(&buffer[..count])?;
    }
    output.rewind()?;
    let mut written = blake3::Hasher::new();
    written.update_reader(output)?;
    if written.finalize() != read.finalize() {
        return Err(io::Error::other("the copy differs"));
    }
    Ok((read.count(), *read.finalize().as_bytes()))
}

/// What is to be copied, and what could not be.
#[derive(Default)]
struct Plan {
    files: Vec<(PathBuf, PathBuf)>,
    /// Folders whose owner may not write there, or worse: with what he may not. They are set last.
    closed: Vec<(PathBuf, u32)>,
    faults: Vec<String>,
}

impl Plan {
    /// Makes folders and links here, where their order is kept.
    fn make(source: &Path, target: &Path) -> Plan {
        let mut plan = Plan::default();
        let mut walk = WalkDir::new(source).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    plan.faults.push(error.to_string());
                    continue;
                }
            };
            let place = entry.path().strip_prefix(source).expect("below it");
            let mut to = target.to_path_buf();
            to.extend(place);
            let is_folder = entry.file_type().is_dir();
            let path = entry.path().to_path_buf();
            if let Err(error) = plan.add(entry, to) {
                plan.faults.push(format!("{}: {error}", path.display()));
                if is_folder {
                    walk.skip_current_dir();
                }
            }
        }
        plan
    }

    fn add(&mut self, entry: DirEntry, to: PathBuf) -> io::Result<()> {
        let kind = entry.file_type();
        if kind.is_dir() {
            let mode = entry.metadata()?.mode() & 0o777;
            DirBuilder::new().mode(mode | 0o700).create(&to)?;
            if mode & 0o700 != 0o700 {
                self.closed.push((to, 0o700 & !mode));
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &to)?;
        } else if kind.is_file() {
            self.files.push((entry.into_path(), to));
        } else {
            return Err(io::Error::other("left out: neither file nor folder"));
        }
        Ok(())
    }

    fn close_folders(&mut self) {
        // The inner ones first.
        for (folder, without) in self.closed.drain(..).rev() {
            let set = || {
                let mode = fs::metadata(&folder)?.mode() & 0o777 & !without;
                fs::set_permissions(&folder, Permissions::from_mode(mode))
            };
            if let Err(error) = set() {
                self.faults.push(format!("{}: {error}", folder.display()));
            }
        }
    }
}

/// Where the copy is to be, which must not be in what is copied.
fn free_place(source: &Path, target: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(format!("{}: it exists", target.display()).into());
    };
    let parent = Path::new(".").join(parent);
    let parent = fs::canonicalize(parent)
        .map_err(|error| format!("the folder of {}: {error}", target.display()))?;
    let target = parent.join(name);
    if target.starts_with(source) {
        return Err(format!("{}: it is in what is copied", target.display()).into());
    }
    if target.symlink_metadata().is_ok() {
        return Err(format!("{}: it exists", target.display()).into());
    }
    Ok(target)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let names = [(); 3].map(|()| arguments.next());
    let [Some(source), Some(target), None] = names else {
        return Err("usage: copy_tree SRC DST (which does not exist)".into());
    };
    let source =
        fs::canonicalize(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let target = free_place(&source, &target)?;
    let mut plan = Plan::make(&source, &target);
    let bar = ProgressBar::new(plan.files.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} files")?);

    let pool = Pool::new(cpu_count())?;
    let paths = plan.files.iter().cloned();
    let paths = paths.map(|(from, to)| (from.into_os_string(), to.into_os_string()));
    let (mut copied, mut bytes) = (0_u64, 0);
    let mut all = blake3::Hasher::new();
    for (outcome, (from, to)) in pool.imap(copy, paths).zip(&plan.files) {
        bar.inc(1);
        let fault = match outcome {
            Ok(Ok((len, digest))) => {
                (copied, bytes) = (copied + 1, bytes + len);
                // Names and contents, in the order of the walk: the same for the same folder.
                let place = from.strip_prefix(&source).expect("below it");
                all.update(place.as_os_str().as_encoded_bytes());
                all.update(&[0]).update(&digest);
                continue;
            }
            Ok(Err(fault)) => fault,
            Err(error) => {
                if matches!(error, TaskError::WorkerDied { .. }) {
                    // It could not see to that itself. What is there is its own: the folder is new.
                    let _ = fs::remove_file(to);
                }
                error.to_string()
            }
        };
        plan.faults.push(format!("{}: {fault}", from.display()));
    }
    plan.close_folders();
    bar.finish_and_clear();
    println!("{copied} files, {bytes} bytes, digest {}", all.finalize());
    for fault in &plan.faults {
        eprintln!("{fault}");
    }
    match plan.faults.len() {
        0 => Ok(()),
        count => Err(format!("{count} could not be copied").into()),
    }
}
