//! Hashes every file below a directory with several processes, and shows what that gains.
//!
//! ```text
//! cargo run --release --example pipeline -- [DIR] [--workers N] [--once] [--kill-worker] [--crash-on NAME]
//! ```
//!
//! ```text
//! walker --tasks--> workers --reports--> collector (the parent)
//!    ^------------------requests------------'
//! ```
//!
//! One process walks the directory, workers read and hash the files, the parent collects; bounded queues between them
//! hold back whoever is too fast. The stages end when the collector closes the queues: there are no end markers.
//!
//! Three passes are made over the directory, and their digests must be equal:
//!
//! 1. the pipeline, with the page cache as it was found (it warms the cache for the others, and it is the pass in which
//!    `--kill-worker` kills);
//! 2. one process alone, on the warm cache;
//! 3. the pipeline again, on the warm cache: this one is compared with the one process, and counts the messages.
//!
//! A file that cannot be read, a worker that dies, or Ctrl-C is reported, and costs nothing else. Exit code: 0, 1 when the
//! digests differ or something went wrong, 2 for a mistake in the arguments, 130 after Ctrl-C.
#![forbid(unsafe_code)]

mod collect;
mod hash;
mod ledger;
mod messages;
mod report;
mod stop;
mod walk;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{HumanCount, HumanFloatCount, ProgressBar, ProgressStyle};

use crate::ledger::Difference;
use crate::report::Tally;
use crate::stop::Stop;

const USAGE: &str = "usage: pipeline [DIR] [--workers N] [--once] [--kill-worker] [--crash-on NAME]

  DIR              the directory to hash (default: the current one); what is mounted below it is left out
  --workers N      processes that hash (default: the CPUs this process may use)
  --once           one pass only: no comparison with a single process
  --kill-worker    kill a worker with SIGKILL in the middle of the first pass
  --crash-on NAME  workers abort when they meet a file of this name, as a bug in a decoder would make them";

struct Arguments {
    root: PathBuf,
    workers: usize,
    once: bool,
    kill_worker: bool,
    crash_on: Option<OsString>,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("pipeline: {mistake}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match passes(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut given: impl Iterator<Item = OsString>) -> Result<Option<Arguments>, String> {
    let mut root = None;
    let mut found = Arguments {
        root: PathBuf::from("."),
        workers: multiprocess::cpu_count(),
        once: false,
        kill_worker: false,
        crash_on: None,
    };
    while let Some(argument) = given.next() {
        match argument.as_bytes() {
            b"--help" | b"-h" => return Ok(None),
            b"--once" => found.once = true,
            b"--kill-worker" => found.kill_worker = true,
            b"--crash-on" => found.crash_on = Some(given.next().ok_or("--crash-on needs a name")?),
            b"--workers" => {
                let number = given
                    .next()
                    .and_then(|number| number.to_str()?.parse().ok());
                found.workers = number
                    .filter(|n| (1..=1000).contains(n))
                    .ok_or("--workers needs a number, 1 to 1000")?;
            }
            option if option.starts_with(b"-") => {
                return Err(format!("unknown option {}", argument.to_string_lossy()));
            }
            _ if root.is_some() => return Err("one directory, please".to_owned()),
            _ => root = Some(PathBuf::from(argument)),
        }
    }
    found.root = root.unwrap_or(found.root);
    match found.root.metadata() {
        Ok(data) if data.is_dir() => Ok(Some(found)),
        Ok(_) => Err(format!("{} is not a directory", found.root.display())),
        Err(error) => Err(format!("{}: {error}", found.root.display())),
    }
}

fn passes(arguments: &Arguments) -> io::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let mut out = io::stdout().lock();
    let mut options = collect::Options {
        root: &arguments.root,
        workers: arguments.workers,
        kill_worker: arguments.kill_worker,
        crash_on: arguments.crash_on.as_ref().map(|name| name.as_bytes()),
    };
    let workers = arguments.workers;

    let mut first = shown("pipeline", |bar| collect::run(&options, &stop, bar))?;
    writeln!(out, "pipeline, {workers} workers: {first}")?;
    if let Some(code) = broken_off(&first, &stop) {
        return Ok(code);
    }
    let digest = first.ledger.digest()?;
    if arguments.once {
        writeln!(out, "digest: {digest}")?;
        return Ok(if first.lost == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }

    let mut alone = shown("one process", |bar| {
        one_process(&arguments.root, &stop, bar)
    })?;
    writeln!(out, "one process, warm cache: {alone}")?;
    if let Some(code) = broken_off(&alone, &stop) {
        return Ok(code);
    }

    options.kill_worker = false;
    let mut second = shown("pipeline", |bar| collect::run(&options, &stop, bar))?;
    writeln!(out, "pipeline, {workers} workers, warm cache: {second}")?;
    if let Some(code) = broken_off(&second, &stop) {
        return Ok(code);
    }

    let seconds = second.elapsed.as_secs_f64();
    let gain = alone.elapsed.as_secs_f64() / seconds;
    // So little work is done before the processes have started.
    let remark = if gain < 0.1 {
        " (too little to gain)"
    } else {
        ""
    };
    writeln!(out, "speed-up over one process: {gain:.2}{remark}")?;
    let rate = HumanFloatCount((second.messages as f64 / seconds).round());
    writeln!(
        out,
        "messages: {}, {rate} a second",
        HumanCount(second.messages)
    )?;
    writeln!(out, "digest: {digest}")?;
    let mut equal = true;
    for (name, tally) in [
        ("the first pass", &mut first),
        ("the last pass", &mut second),
    ] {
        if tally.ledger.digest()? != alone.ledger.digest()? {
            equal = false;
            writeln!(out, "the digest of {name} is not that of one process:")?;
            for (path, difference) in tally.ledger.differences(&mut alone.ledger, 10)? {
                let difference = match difference {
                    Difference::Hash => "another hash",
                    Difference::OnlyFirst => "not hashed by one process",
                    Difference::OnlySecond => "hashed by one process only",
                };
                writeln!(out, "  {}: {difference}", String::from_utf8_lossy(&path))?;
            }
        }
    }
    if equal {
        writeln!(out, "the digests of the three passes are equal")?;
    }
    Ok(if equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The exit code when the pass did not come to its end.
fn broken_off(tally: &Tally, stop: &Stop) -> Option<ExitCode> {
    tally.broken_off?;
    Some(stop.signal().map_or(ExitCode::FAILURE, |signal| {
        ExitCode::from(128 + signal as u8)
    }))
}

/// Runs a pass under a progress bar, which only shows where standard error is a terminal.
fn shown(
    name: &'static str,
    pass: impl FnOnce(&ProgressBar) -> io::Result<Tally>,
) -> io::Result<Tally> {
    let style =
        ProgressStyle::with_template("{spinner} {prefix}: {human_pos} files, {msg}, {elapsed}");
    let bar = ProgressBar::new_spinner()
        .with_prefix(name)
        .with_style(style.map_err(io::Error::other)?);
    let result = pass(&bar);
    bar.finish_and_clear();
    result
}

/// The same work in this process alone.
fn one_process(root: &Path, stop: &Stop, bar: &ProgressBar) -> io::Result<Tally> {
    let started = Instant::now();
    let mut tally = Tally::new();
    let mut buffer = vec![0; hash::CHUNK];
    for found in walk::files(root) {
        let path = match found {
            walk::Found::File(path) => path,
            walk::Found::Unwalked(path, why) => {
                tally.closed_directory(path, why);
                continue;
            }
        };
        let file = root.join(OsString::from_vec(path.clone()));
        match hash::hash_file(&file, &mut buffer, || stop.asked()) {
            Some(outcome) => tally.outcome(path, outcome)?,
            None => {
                tally.broken_off = Some("interrupted");
                break;
            }
        }
        bar.inc(1);
    }
    tally.elapsed = started.elapsed();
    Ok(tally)
}
