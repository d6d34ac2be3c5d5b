//! Starting a process that does nothing and waiting until it has ended.

use super::team::fork_to;
use rustix::process::{WaitOptions, waitpid};
use std::env;
use std::process::{Command, Stdio};

/// Tells the program that it was started only to end.
const EXIT: &str = "MULTIPROCESS_BENCH_EXIT";

/// To be called first in `main`: ends the process that [`command`] started.
pub fn exit_if_asked() {
    if env::var_os(EXIT).is_some() {
        std::process::exit(0);
    }
}

fn nothing((): ()) {}

/// A process of this crate.
pub fn ours() {
    let process = multiprocess::spawn(nothing, ()).expect("a process");
    process.join().expect("its end");
}

/// This program again by `std::process::Command`, told to end at once.
pub fn command() {
    let status = Command::new("/proc/self/exe")
        .env(EXIT, "1")
        .stdin(Stdio::null())
        .status()
        .expect("this program");
    assert!(status.success());
}

/// A copy of this process.
pub fn fork() {
    let child = fork_to(|| ());
    let ended = waitpid(Some(child), WaitOptions::empty()).expect("a child");
    assert!(ended.is_some());
}

/// This many bytes in use by this process, which a copy of it has to account for.
pub fn ballast(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}
