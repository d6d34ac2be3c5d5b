//! What came of it, for a person to read.

use std::fmt;
use std::io;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount};
use multiprocess::ExitCode;

use crate::ledger::Ledger;
use crate::messages::Outcome;

/// Bytes of paths and hashes kept in memory.
const LEDGER: usize = 64 << 20;
/// Files named in the report; the others are only counted.
const NAMED: usize = 20;

/// A worker that ended before its time.
pub struct Death {
    pub worker: u32,
    pub pid: u32,
    pub end: ExitCode,
    /// Task and index of the file in its hands.
    pub held: Option<(u64, u32)>,
    /// The path of that file, once another worker has named it, and what became of it.
    pub path: Option<(Vec<u8>, &'static str)>,
}

/// The result of one pass over the directory.
pub struct Tally {
    pub ledger: Ledger,
    pub files: u64,
    pub bytes: u64,
    pub changed: u64,
    pub vanished: u64,
    pub unreadable: u64,
    pub lost: u64,
    pub directories: u64,
    /// Files in the hands of workers when the pass was broken off.
    pub unfinished: u64,
    pub deaths: Vec<Death>,
    /// Messages through the queues.
    pub messages: u64,
    pub broken_off: Option<&'static str>,
    pub elapsed: Duration,
    named: Vec<(Vec<u8>, String)>,
}

impl Tally {
    pub fn new() -> Tally {
        Tally {
            ledger: Ledger::new(LEDGER),
            files: 0,
            bytes: 0,
            changed: 0,
            vanished: 0,
            unreadable: 0,
            lost: 0,
            directories: 0,
            unfinished: 0,
            deaths: Vec::new(),
            messages: 0,
            broken_off: None,
            elapsed: Duration::ZERO,
            named: Vec::new(),
        }
    }

    /// Counts a file. Its task and index tell whether somebody died with it in hand.
    pub fn file(
        &mut self,
        task: u64,
        index: u32,
        path: Vec<u8>,
        outcome: Outcome,
    ) -> io::Result<()> {
        let became = if outcome == Outcome::Lost {
            "lost"
        } else {
            "done again by another"
        };
        for death in self
            .deaths
            .iter_mut()
            .filter(|death| death.held == Some((task, index)))
        {
            death.path = Some((path.clone(), became));
        }
        self.outcome(path, outcome)
    }

    pub fn outcome(&mut self, path: Vec<u8>, outcome: Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Hashed { hash, bytes } => {
                self.files += 1;
                self.bytes += bytes;
                self.ledger.push(path, hash)?;
            }
            Outcome::Changed => {
                self.changed += 1;
                self.name(path, "changed while it was read");
            }
            Outcome::Vanished => {
                self.vanished += 1;
                self.name(path, "vanished");
            }
            Outcome::Unreadable(why) => {
                self.unreadable += 1;
                self.name(path, &format!("unreadable: {why}"));
            }
            Outcome::Lost => {
                self.lost += 1;
                self.name(path, "lost: every worker that tried it died");
            }
        }
        Ok(())
    }

    pub fn closed_directory(&mut self, path: Vec<u8>, why: String) {
        self.directories += 1;
        self.name(path, &format!("unreadable directory: {why}"));
    }

    fn name(&mut self, path: Vec<u8>, why: &str) {
        if self.named.len() < NAMED {
            self.named.push((path, why.to_owned()));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, bytes) = (HumanCount(self.files), BinaryBytes(self.bytes));
        write!(
            f,
            "{files} files, {bytes} in {:.3} s",
            self.elapsed.as_secs_f64()
        )?;
        let counts = [
            (self.unreadable, "unreadable"),
            (self.directories, "unreadable directories"),
            (self.vanished, "vanished"),
            (self.changed, "changed while read"),
            (self.lost, "lost"),
            (self.unfinished, "begun and not finished"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {} {what}", HumanCount(count))?;
        }
        for (path, why) in &self.named {
            write!(f, "\n  {}: {why}", String::from_utf8_lossy(path))?;
        }
        for death in &self.deaths {
            write!(f, "\n  {death}")?;
        }
        if let Some(why) = self.broken_off {
            write!(f, "\n  {why}: this is a partial result")?;
        }
        Ok(())
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (pid {}) ", self.worker, self.pid)?;
        match self.end {
            ExitCode::Signaled(signal) => write!(f, "was killed by signal {signal}")?,
            ExitCode::Exited(code) => write!(f, "ended with exit code {code}")?,
            _ => f.write_str("ended")?,
        }
        match (&self.path, self.held) {
            (Some((path, became)), _) => {
                write!(
                    f,
                    "; {} in its hands: {became}",
                    String::from_utf8_lossy(path)
                )
            }
            (None, Some(_)) => f.write_str("; the file in its hands was not done again"),
            (None, None) => f.write_str("; nothing in its hands"),
        }
    }
}
