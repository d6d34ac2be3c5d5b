//! The first stage: one process that walks the directory and hands out tasks.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use multiprocess::Queue;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use walkdir::WalkDir;

use crate::messages::{Outcome, Report, Request, Task};

/// Files in a task: a message for each file costs wake-ups, and long tasks leave workers idle at the end.
pub const BATCH: usize = 16;
/// Workers that may die at one file before it is given up.
const ATTEMPTS: u32 = 3;

/// Something the walk came upon.
pub enum Found {
    File(Vec<u8>),
    Unwalked(Vec<u8>, String),
}

/// Every regular file below `root`. Symbolic links are not followed, so that there are no loops; other file systems are
/// not entered, so that `/` does not lead into /proc.
pub fn files(root: &Path) -> impl Iterator<Item = Found> {
    let walk = WalkDir::new(root)
        .min_depth(1)
        .follow_links(false)
        .same_file_system(true);
    walk.into_iter().filter_map(move |entry| match entry {
        Ok(entry) if entry.file_type().is_file() => Some(Found::File(below(root, entry.path()))),
        Ok(_) => None,
        Err(error) => {
            let path = error
                .path()
                .map(|path| below(root, path))
                .unwrap_or_default();
            let why = error
                .io_error()
                .map_or_else(|| error.to_string(), |error| error.to_string());
            Some(Found::Unwalked(path, why))
        }
    })
}

fn below(root: &Path, path: &Path) -> Vec<u8> {
    path.strip_prefix(root)
        .unwrap_or(path)
        .as_os_str()
        .as_bytes()
        .to_vec()
}

/// The arguments of the walker.
#[derive(Serialize, Deserialize)]
pub struct Walker {
    pub root: ByteBuf,
    pub tasks: Queue<Task>,
    pub reports: Queue<Report>,
    pub requests: Queue<Request>,
}

/// A task that is not finished, and what is known of its failures.
struct Kept {
    task: Task,
    tried: u32,
}

/// The walker's function. It ends when the queues are closed.
pub fn walk(walker: Walker) {
    crate::stop::ignore();
    let root = std::ffi::OsString::from_vec(walker.root.clone().into_vec());
    let mut source = Source {
        walker,
        kept: BTreeMap::new(),
        next: 0,
    };
    // Nobody listens any more when this is `None`: the collector has closed the queues.
    let _ = source.run(Path::new(&root));
}

struct Source {
    walker: Walker,
    kept: BTreeMap<u64, Kept>,
    next: u64,
}

impl Source {
    fn run(&mut self, root: &Path) -> Option<()> {
        let mut batch = Vec::with_capacity(BATCH);
        for found in files(root) {
            match found {
                Found::File(path) => batch.push(ByteBuf::from(path)),
                Found::Unwalked(path, why) => self.say(Report::Unwalked {
                    path: path.into(),
                    why,
                })?,
            }
            if batch.len() == BATCH {
                self.hand_out(std::mem::take(&mut batch))?;
            }
        }
        if !batch.is_empty() {
            self.hand_out(batch)?;
        }
        self.say(Report::Walked { tasks: self.next })?;
        while let Ok(request) = self.walker.requests.get() {
            self.answer(request)?;
        }
        Some(())
    }

    fn hand_out(&mut self, paths: Vec<ByteBuf>) -> Option<()> {
        while let Ok(request) = self.walker.requests.try_get() {
            self.answer(request)?;
        }
        let task = Task {
            number: self.next,
            first: 0,
            paths,
        };
        self.next += 1;
        self.kept.insert(
            task.number,
            Kept {
                task: task.clone(),
                tried: 0,
            },
        );
        self.walker.tasks.put(task).ok()
    }

    fn answer(&mut self, request: Request) -> Option<()> {
        match request {
            Request::Finished { task } => {
                self.kept.remove(&task);
                Some(())
            }
            Request::Again { task, first, died } => self.again(task, first, died),
        }
    }

    fn again(&mut self, number: u64, first: u32, died: bool) -> Option<()> {
        let Some(kept) = self.kept.get_mut(&number) else {
            return Some(());
        };
        let tried = if kept.task.first == first {
            kept.tried
        } else {
            0
        };
        kept.tried = tried + u32::from(died);
        kept.task.first = first;
        if kept.tried == ATTEMPTS {
            kept.tried = 0;
            kept.task.first += 1;
            let path = kept.task.paths[first as usize].clone();
            let lost = Report::Done {
                worker: u32::MAX,
                task: number,
                index: first,
                path,
                outcome: Outcome::Lost,
            };
            self.walker.reports.put(lost).ok()?;
        }
        let kept = &self.kept[&number];
        if (kept.task.first as usize) < kept.task.paths.len() {
            self.walker.tasks.put(kept.task.clone()).ok()?;
        }
        Some(())
    }

    fn say(&self, report: Report) -> Option<()> {
        self.walker.reports.put(report).ok()
    }
}
