//! Frames in place.

use std::ffi::OsStr;

use rustix::process::{Signal, kill_process};

use crate::program::{Program, run};

/// The three stages and the one that looks.
const PROCESSES: usize = 4;

fn start() -> Program {
    crate::start("frames", OsStr::new("1000000"), PROCESSES)
}

#[test]
fn the_frames_are_those_of_one_process() {
    for count in [0, 1, 40] {
        let end = run("frames", &[OsStr::new(&count.to_string())]);
        assert_eq!((end.code, &*end.err), (Some(0), ""), "{end:?}");
        let equal = format!("all {count} hashes are equal");
        assert!(end.out.contains(&equal), "{end:?}");
        let mib = count * 3 * 1920 * 1080 / (1 << 20);
        let place = format!("{mib} MiB went from process to process and were not copied");
        assert!(end.out.contains(&place), "{end:?}");
    }
}

#[test]
fn a_stage_that_dies_ends_the_film() {
    for stage in 0..PROCESSES - 1 {
        let mut program = start();
        kill_process(program.children()[stage], Signal::KILL).unwrap();
        let (end, _) = program.end();
        assert_eq!((end.code, &*end.out), (Some(1), ""), "{end:?}");
        assert!(end.err.contains("Signaled(9)"), "{end:?}");
        program.wait_for_processes(0);
    }
}

#[test]
fn ctrl_c_ends_all_stages() {
    crate::ends_with_everybody(start);
}
