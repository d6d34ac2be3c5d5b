//! Children that are stopped and signalled, and what they are doing.

#![allow(unsafe_code)]
#![allow(dead_code, reason = "each test takes its part")]

use multiprocess::Process;
use std::thread;
use std::time::Duration;

pub fn signal<R>(process: &Process<R>, signal: i32) {
    // SAFETY: the process is a child that nobody has reaped.
    assert_eq!(unsafe { libc::kill(process.pid() as i32, signal) }, 0);
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let state = stat.rsplit_once(") ").unwrap().1;
    state.chars().next().unwrap()
}

/// Waits until a child has ended, whether or not somebody has reaped it.
pub fn wait_until_ended(pid: u32) {
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    while stat().is_some_and(|stat| !stat.contains(") Z ")) {
        thread::yield_now();
    }
}

/// Stops a process wherever it is.
pub fn stop<R>(process: &Process<R>) {
    signal(process, libc::SIGSTOP);
    while state(process.pid()) != 'T' {
        thread::yield_now();
    }
}

/// Waits until a process sleeps: in the call that it is known to be blocked in.
pub fn wait_until_asleep(pid: u32) {
    while state(pid) != 'S' {
        thread::sleep(Duration::from_millis(1));
    }
}
