//! Pools at work on files, pictures and pages.

use std::ffi::OsStr;
use std::fs;

use rustix::process::Signal;

use crate::program::{Folder, Program, run};

#[test]
fn a_folder_is_copied() {
    let folder = Folder::new("copy");
    let (from, to) = (folder.path.join("from"), folder.path.join("to"));
    for n in 0..200_usize {
        let inner = from.join((n % 5).to_string());
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join(n.to_string()), vec![n as u8; n * n]).unwrap();
    }
    std::os::unix::fs::symlink("0/0", from.join("link")).unwrap();
    let end = run("copy_tree", &[from.as_os_str(), to.as_os_str()]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let bytes: usize = (0..200).map(|n| n * n).sum();
    let found = format!("200 files, {bytes} bytes, digest ");
    assert!(end.out.starts_with(&found), "{end:?}");
    for n in 0..200_usize {
        let copy = to.join((n % 5).to_string()).join(n.to_string());
        assert!(fs::read(copy).unwrap() == vec![n as u8; n * n]);
    }
    assert!(to.join("link").is_symlink());

    // What is there already is not overwritten.
    fs::write(to.join("0/0"), "mine").unwrap();
    let end = run("copy_tree", &[from.as_os_str(), to.as_os_str()]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.err.contains("could not be copied"), "{end:?}");
    assert_eq!(fs::read(to.join("0/0")).unwrap(), b"mine");
}

#[test]
fn a_picture_is_drawn() {
    let folder = Folder::new("mandelbrot");
    let file = folder.path.join("set.ppm");
    let end = run("mandelbrot", &[file.as_os_str(), OsStr::new("64")]);
    assert_eq!((end.code, &*end.err), (Some(0), ""), "{end:?}");
    let picture = fs::read(&file).unwrap();
    let points = picture.strip_prefix(b"P6 64 48 255\n").unwrap();
    assert_eq!(points.len(), 64 * 48 * 3);
    // The set is symmetric: so is the picture.
    let lines: Vec<&[u8]> = points.chunks(64 * 3).collect();
    assert!(lines.iter().eq(lines.iter().rev()));
    let inside = points.chunks(3).filter(|point| *point == [0, 0, 0]).count();
    assert!((400..1200).contains(&inside), "{inside} points");
}

#[test]
fn nobody_is_left_of_a_drawing() {
    let folder = Folder::new("drawing");
    let file = folder.path.join("huge.ppm");
    let start = || {
        let program = Program::start("mandelbrot", &[file.as_os_str(), OsStr::new("60000")]);
        program.wait_for_processes(1 + multiprocess::cpu_count());
        program
    };
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut program = start();
        // As Ctrl-C at a terminal does, to all of them.
        match signal {
            Signal::INT => program.signal_group(signal),
            _ => program.signal(signal),
        }
        let (end, _) = program.end();
        assert_eq!((end.code, &*end.err), (None, ""), "{end:?}");
        program.wait_for_processes(0);
    }
}

#[test]
fn pages_are_fetched() {
    let end = run("fetch", &[]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.out.contains("\n29 pages, 2 failed\n"), "{end:?}");
    let killed = "13 failed: it ended its worker: Signaled(6)";
    assert!(end.out.contains(killed), "{end:?}");
    assert!(
        end.out.contains("30 failed: HTTP/1.0 404 Not Found"),
        "{end:?}"
    );
    assert!(end.out.contains("links: [7]"), "{end:?}");
}

#[test]
fn both_ways_are_told() {
    let end = run("five_or_hundred", &[]);
    assert_eq!((end.code, &*end.err), (Some(0), ""), "{end:?}");
    assert!(end.out.starts_with("longest: 119 steps\n"), "{end:?}");
    assert!(end.out.contains("a pool of five: "), "{end:?}");
    assert!(end.out.contains("a hundred processes: "), "{end:?}");
}
