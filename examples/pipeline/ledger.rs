//! The result: a hash for each path, sorted by path. Memory stays bounded: what does not fit is sorted and put aside in
//! unnamed files, and merged when it is read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

/// A path and its hash.
pub type Record = (Vec<u8>, [u8; 32]);

/// About what a record costs besides the bytes of its path.
const OVERHEAD: usize = 64;

pub struct Ledger {
    memory: Vec<Record>,
    used: usize,
    limit: usize,
    runs: Vec<File>,
}

impl Ledger {
    /// Keeps about `limit` bytes in memory.
    pub fn new(limit: usize) -> Ledger {
        Ledger {
            memory: Vec::new(),
            used: 0,
            limit,
            runs: Vec::new(),
        }
    }

    pub fn push(&mut self, path: Vec<u8>, hash: [u8; 32]) -> io::Result<()> {
        self.used += path.len() + OVERHEAD;
        self.memory.push((path, hash));
        if self.used > self.limit {
            self.put_aside()
        } else {
            Ok(())
        }
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.memory.sort_unstable();
        let mut out = BufWriter::new(unnamed()?);
        for (path, hash) in self.memory.drain(..) {
            out.write_all(&(path.len() as u32).to_le_bytes())?;
            out.write_all(&path)?;
            out.write_all(&hash)?;
        }
        self.runs.push(out.into_inner()?);
        self.used = 0;
        Ok(())
    }

    /// All records in the order of their paths.
    pub fn sorted(&mut self) -> io::Result<Sorted<'_>> {
        self.memory.sort_unstable();
        let mut runs: Vec<Run<'_>> = self.runs.iter().map(Run::stored).collect();
        runs.push(Run::Memory(self.memory.iter()));
        let mut heads = BinaryHeap::new();
        for (n, run) in runs.iter_mut().enumerate() {
            if let Some(record) = run.next()? {
                heads.push(Reverse((record, n)));
            }
        }
        Ok(Sorted { runs, heads })
    }

    /// One hash over all.
    pub fn digest(&mut self) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        for record in self.sorted()? {
            let (path, hash) = record?;
            hasher.update(&path).update(&[0]).update(&hash);
        }
        Ok(hasher.finalize())
    }

    /// The first paths that the two ledgers do not agree on, and which of them knows each.
    pub fn differences(
        &mut self,
        other: &mut Ledger,
        most: usize,
    ) -> io::Result<Vec<(Vec<u8>, Difference)>> {
        let (mut ours, mut theirs) = (self.sorted()?.peekable(), other.sorted()?.peekable());
        let mut found = Vec::new();
        while found.len() < most {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => break,
                (Some(Ok(a)), Some(Ok(b))) => a.0.cmp(&b.0),
                (Some(_), None) | (Some(Err(_)), _) => std::cmp::Ordering::Less,
                (None, Some(_)) | (_, Some(Err(_))) => std::cmp::Ordering::Greater,
            };
            let ours = if order.is_le() {
                ours.next().transpose()?
            } else {
                None
            };
            let theirs = if order.is_ge() {
                theirs.next().transpose()?
            } else {
                None
            };
            match (ours, theirs) {
                (Some(a), Some(b)) if a.1 != b.1 => found.push((a.0, Difference::Hash)),
                (Some(a), None) => found.push((a.0, Difference::OnlyFirst)),
                (None, Some(b)) => found.push((b.0, Difference::OnlySecond)),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    Hash,
    OnlyFirst,
    OnlySecond,
}

/// A file without a name: it goes when it is closed, however the program ends.
fn unnamed() -> io::Result<File> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let path = std::env::temp_dir().join(format!(
        "pipeline-{}-{}",
        std::process::id(),
        now.as_nanos()
    ));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

enum Run<'a> {
    Memory(std::slice::Iter<'a, Record>),
    Stored(BufReader<Window<'a>>),
}

impl<'a> Run<'a> {
    fn stored(file: &'a File) -> Run<'a> {
        Run::Stored(BufReader::new(Window { file, offset: 0 }))
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        match self {
            Run::Memory(records) => Ok(records.next().cloned()),
            Run::Stored(input) => {
                let mut length = [0; 4];
                if let Err(error) = input.read_exact(&mut length) {
                    return if error.kind() == io::ErrorKind::UnexpectedEof {
                        Ok(None)
                    } else {
                        Err(error)
                    };
                }
                let mut path = vec![0; u32::from_le_bytes(length) as usize];
                input.read_exact(&mut path)?;
                let mut hash = [0; 32];
                input.read_exact(&mut hash)?;
                Ok(Some((path, hash)))
            }
        }
    }
}

/// Reads a file with a position of its own.
struct Window<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

pub struct Sorted<'a> {
    runs: Vec<Run<'a>>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Iterator for Sorted<'_> {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<io::Result<Record>> {
        let Reverse((record, n)) = self.heads.pop()?;
        match self.runs[n].next() {
            Ok(Some(next)) => self.heads.push(Reverse((next, n))),
            Ok(None) => {}
            Err(error) => {
                // The rest would be wrong: say so once, and end.
                self.heads.clear();
                return Some(Err(error));
            }
        }
        Some(Ok(record))
    }
}
