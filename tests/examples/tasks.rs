//! Tasks that outlive their workers.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;

use multiprocess::cpu_count;
use rustix::process::{Signal, kill_process};

use crate::program::{Folder, Program, run};

/// A file of zeros that takes no room.
fn plant_zeros(folder: &Path, name: &str, len: u64) {
    let file = File::create(folder.join(name)).unwrap();
    file.set_len(len).unwrap();
}

/// At a file that no worker ever comes to the end of. One process feeds, one shows the result.
fn start(folder: &Path) -> Program {
    plant_zeros(folder, "endless", 1 << 40);
    crate::start("tasks", folder.as_os_str(), cpu_count() + 2)
}

#[test]
fn equal_files_are_found() {
    let folder = Folder::new("equal");
    for n in 0..300 {
        let inner = folder.path.join((n % 7).to_string());
        fs::create_dir_all(&inner).unwrap();
        // 40 contents five times, and 100 once.
        let content = if n < 200 { n % 40 } else { n };
        let content = format!("{content} ").repeat(1000 + content % 3);
        fs::write(inner.join(n.to_string()), content).unwrap();
    }
    let end = run("tasks", &[folder.path.as_os_str()]);
    assert_eq!((end.code, &*end.err), (Some(0), ""), "{end:?}");
    let found = "300 files, 40 contents more than once\n";
    assert!(end.out.starts_with(found), "{end:?}");
    assert!(!end.out.contains("ended with"), "{end:?}");
}

#[test]
fn the_task_of_a_killed_worker_is_done_by_another() {
    let folder = Folder::new("killed");
    // They take so long that the one who says it took one is killed at it, unless this machine is very busy.
    for n in 0..4 {
        plant_zeros(&folder.path, &n.to_string(), (16 << 20) + n);
    }
    plant_zeros(&folder.path, "3 again", (16 << 20) + 3);
    let arguments = [folder.path.as_os_str(), OsStr::new("--kill-worker")];
    let mut again = 0;
    for _ in 0..3 {
        let end = run("tasks", &arguments);
        assert_eq!((end.code, &*end.err), (Some(0), ""), "{end:?}");
        let found = "5 files, 1 contents more than once";
        assert!(end.out.starts_with(found), "{end:?}");
        let ends: Vec<&str> = end
            .out
            .lines()
            .filter(|l| l.contains("Signaled(9)"))
            .collect();
        let [line] = ends[..] else { panic!("{end:?}") };
        let killed = line.split(' ').nth(1).unwrap();
        if let Some((_, became)) = line.split_once(" in its hands; ") {
            let other = became.strip_suffix(" read it").unwrap();
            assert_ne!(other, killed, "{end:?}");
            again += 1;
        }
    }
    assert!(again > 0, "no worker was killed with a file in its hands");
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = Folder::new("missing");
    let end = run("tasks", &[folder.path.join("nothing").as_os_str()]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.err.contains("No such file or directory"), "{end:?}");
    assert!(end.err.contains("1 files could not be read"), "{end:?}");
}

#[test]
fn it_ends_when_all_others_are_killed() {
    let folder = Folder::new("all-killed");
    let mut program = start(&folder.path);
    for child in program.children() {
        kill_process(child, Signal::KILL).unwrap();
    }
    let (end, _) = program.end();
    assert_eq!((end.code, &*end.out), (Some(1), ""), "{end:?}");
    assert!(end.err.contains("Signaled(9)"), "{end:?}");
    program.wait_for_processes(0);
}

#[test]
fn ctrl_c_ends_all_workers() {
    let folder = Folder::new("interrupted");
    crate::ends_with_everybody(|| start(&folder.path));
}
