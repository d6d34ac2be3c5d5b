//! What keeps a test that hangs from hanging for ever.

#![allow(dead_code, reason = "each test takes its part")]

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// No test takes this long.
pub const LONG: Duration = Duration::from_secs(100);

/// Ends this process with its daemons when a test hangs.
pub struct Watch(mpsc::Sender<()>);

pub fn watch() -> Watch {
    watch_for(LONG)
}

pub fn watch_for(patience: Duration) -> Watch {
    let (sender, receiver) = mpsc::channel();
    let test = thread::current().name().unwrap_or("?").to_string();
    thread::spawn(move || {
        if receiver.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} hangs");
            std::process::abort();
        }
    });
    Watch(sender)
}
