//! The examples that are short, run as a person would run them: undisturbed, with processes killed, and ended by Ctrl-C.

mod frames;
mod pipes;
mod pool;
mod tasks;

#[path = "../common/program.rs"]
mod program;

use std::ffi::OsStr;

use rustix::process::Signal;

use crate::program::Program;

/// Starts an example that would run for very long, and waits until it has so many processes.
fn start(example: &str, argument: &OsStr, processes: usize) -> Program {
    let program = Program::start(example, &[argument]);
    program.wait_for_processes(processes);
    program
}

/// However such a program is ended, nobody is left.
fn ends_with_everybody(start: impl Fn() -> Program) {
    // As Ctrl-C at a terminal.
    let mut program = start();
    program.signal_group(Signal::INT);
    let (end, _) = program.end();
    assert_eq!((end.code, &*end.err), (None, ""), "{end:?}");
    program.wait_for_processes(0);

    for signal in [Signal::TERM, Signal::KILL] {
        let mut program = start();
        program.signal(signal);
        let (end, _) = program.end();
        assert_eq!((end.code, &*end.err), (None, ""), "{end:?}");
        program.wait_for_processes(0);
    }
}
