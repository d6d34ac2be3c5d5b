//! Pools at work on files, pictures and pages.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
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
    assert!(end.err.contains("it exists"), "{end:?}");
    assert_eq!(fs::read(to.join("0/0")).unwrap(), b"mine");
}

fn make(path: &Path, kind: FileType) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// All that a folder may hold: names that are no text, links to nowhere and to outside, what may not be read or written, pipes.
#[test]
fn whatever_is_in_a_folder_is_copied_or_told() {
    let folder = Folder::new("anything");
    let (from, to) = (folder.path.join("from"), folder.path.join("to"));
    let strange = OsStr::from_bytes(b"not \xff text\n");
    let inner = from.join(strange);
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join(strange), "strange").unwrap();
    symlink(strange, from.join("link")).unwrap();
    symlink("nowhere", from.join("dangling")).unwrap();
    symlink("..", inner.join("up")).unwrap();
    for (name, bits) in [("read-only", 0o444), ("program", 0o755), ("set-id", 0o4711)] {
        fs::write(from.join(name), name).unwrap();
        set_mode(&from.join(name), bits);
    }
    let locked = from.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("file"), "in there").unwrap();
    set_mode(&locked, 0o555);
    make(&from.join("fifo"), FileType::Fifo);
    make(&from.join("socket"), FileType::Socket);
    let secret = from.join("secret");
    fs::write(&secret, "secret").unwrap();
    set_mode(&secret, 0);
    let may_read = fs::File::open(&secret).is_ok(); // root may

    let end = run("copy_tree", &[from.as_os_str(), to.as_os_str()]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let files = 5 + usize::from(may_read);
    assert!(end.out.starts_with(&format!("{files} files, ")), "{end:?}");
    let told = |what: &str| end.err.lines().filter(|line| line.contains(what)).count();
    assert_eq!((told("/fifo: left out"), told("/socket: left out")), (1, 1));
    assert_eq!(told("/secret: Permission denied"), usize::from(!may_read));
    assert_eq!(to.join("secret").exists(), may_read);
    assert_eq!(told("could not be copied"), 1, "{end:?}");

    assert_eq!(
        fs::read(to.join(strange).join(strange)).unwrap(),
        b"strange"
    );
    assert_eq!(fs::read_link(to.join("link")).unwrap(), strange);
    assert_eq!(
        fs::read_link(to.join("dangling")).unwrap().as_os_str(),
        "nowhere"
    );
    assert_eq!(
        fs::read_link(to.join(strange).join("up"))
            .unwrap()
            .as_os_str(),
        ".."
    );
    assert_eq!(fs::read(to.join("locked/file")).unwrap(), b"in there");
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    let masked = |bits: u32| bits & !umask.bits();
    for (name, bits) in [("read-only", 0o444), ("program", 0o755), ("set-id", 0o711)] {
        assert_eq!(fs::read(to.join(name)).unwrap(), name.as_bytes());
        assert_eq!(mode(&to.join(name)), masked(bits), "{name}");
    }
    assert_eq!(mode(&to.join("locked")), masked(0o555));
    let writable = fs::Permissions::from_mode(0o755);
    for folder in [locked, to.join("locked")] {
        fs::set_permissions(folder, writable.clone()).unwrap();
    }
}

#[test]
fn a_folder_is_not_copied_into_itself() {
    let folder = Folder::new("itself");
    let from = folder.path.join("from");
    fs::create_dir_all(from.join("inner")).unwrap();
    fs::write(from.join("file"), "1").unwrap();
    let link = folder.path.join("link");
    symlink(&from, &link).unwrap();
    for to in [
        "from/to",
        "from/inner/to",
        "from/inner/../../link/to",
        "link/inner/to",
    ] {
        let to = folder.path.join(to);
        let end = run("copy_tree", &[from.as_os_str(), to.as_os_str()]);
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.err.contains("in what is copied"), "{end:?}");
        assert!(!to.exists());
    }
    // A name that only begins alike is another folder; and the source itself may be named by a link, or be a file.
    let file = from.join("file");
    for (from, to, copy) in [
        (&from, "from2", "file"),
        (&link, "to", "file"),
        (&file, "one", ""),
    ] {
        let to = folder.path.join(to);
        let end = run("copy_tree", &[from.as_os_str(), to.as_os_str()]);
        assert_eq!(end.code, Some(0), "{end:?}");
        let copy: PathBuf = to
            .components()
            .chain(Path::new(copy).components())
            .collect();
        assert_eq!(fs::read(copy).unwrap(), b"1");
    }
    assert!(folder.path.join("to").symlink_metadata().unwrap().is_dir());
    let end = run(
        "copy_tree",
        &[OsStr::new("/nowhere/at/all"), link.as_os_str()],
    );
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.err.contains("/nowhere/at/all: No such file"), "{end:?}");
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
