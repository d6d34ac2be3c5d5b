//! What the processes say to each other. Paths travel as bytes, relative to the directory: any name the kernel allows.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Some files for one worker: walker -> workers.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct Task {
    /// Counts up from 0: the books are kept by this number.
    pub number: u64,
    /// Where to begin; more than 0 when somebody died at this task before.
    pub first: u32,
    pub paths: Vec<ByteBuf>,
}

/// What became of one file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Hashed {
        hash: [u8; 32],
        bytes: u64,
    },
    /// It was written to, or replaced, while it was read.
    Changed,
    /// It was there for the walker and gone for the worker.
    Vanished,
    Unreadable(String),
    /// Every worker that tried it died.
    Lost,
}

/// To the collector.
#[derive(Serialize, Deserialize, Debug)]
pub enum Report {
    /// A worker begins with a task. It goes through the files in order, so the collector always knows which one is in
    /// its hands: the first one not yet `Done`.
    Taken {
        worker: u32,
        task: u64,
        first: u32,
        files: u32,
    },
    Done {
        worker: u32,
        task: u64,
        index: u32,
        path: ByteBuf,
        outcome: Outcome,
    },
    /// The walker could not enter a directory.
    Unwalked { path: ByteBuf, why: String },
    /// The walker has sent all it found.
    Walked { tasks: u64 },
    /// From the collector to itself: this worker is dead. The queue is first in, first out, so all that the worker had
    /// said comes before it.
    Reaped { worker: u32 },
}

/// Collector -> walker, who keeps each task until it is finished.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
pub enum Request {
    Finished {
        task: u64,
    },
    /// Give the task out once more, from this file on; `died`: with this file in hand.
    Again {
        task: u64,
        first: u32,
        died: bool,
    },
}
