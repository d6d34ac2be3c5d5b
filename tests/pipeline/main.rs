//! The example that is the main job, run as a person would run it: undisturbed, with a file that nobody can read, with a
//! worker killed, with a file that kills workers, and ended by Ctrl-C. And its parts by themselves.

#[path = "../common/program.rs"]
mod program;

#[allow(dead_code, reason = "only a part of it is tested by itself")]
#[path = "../../examples/pipeline/hash.rs"]
mod hash;
#[path = "../../examples/pipeline/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "only a part of it is tested by itself")]
#[path = "../../examples/pipeline/messages.rs"]
mod messages;
#[allow(dead_code, reason = "only a part of it is tested by itself")]
#[path = "../../examples/pipeline/stop.rs"]
mod stop;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mkdirat, mknodat, openat};
use rustix::process::Signal;

use crate::ledger::{Difference, Ledger};
use crate::messages::Outcome;
use crate::program::{End, Folder, Program};

const EXAMPLE: &str = "pipeline";

fn with_root<'a>(root: &'a Path, arguments: &[&'a str]) -> Vec<&'a OsStr> {
    let rest = arguments.iter().map(|argument| OsStr::new(*argument));
    [root.as_os_str()].into_iter().chain(rest).collect()
}

fn start(root: &Path, arguments: &[&str]) -> Program {
    Program::start(EXAMPLE, &with_root(root, arguments))
}

fn run(root: &Path, arguments: &[&str]) -> End {
    program::run(EXAMPLE, &with_root(root, arguments))
}

/// Some hundred files of all kinds; gives their contents by path.
fn plant(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut planted = BTreeMap::new();
    let mut put = |path: &[u8], content: Vec<u8>| {
        let file = root.join(OsStr::from_bytes(path));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &content).unwrap();
        planted.insert(path.to_vec(), content);
    };
    for n in 0..400_usize {
        let content = (0..n * 37).map(|byte| (byte * n) as u8).collect();
        put(
            format!("dir{}/sub{}/file{n}", n % 7, n % 3).as_bytes(),
            content,
        );
    }
    put(b"empty", Vec::new());
    put(b"large", vec![7; 3_000_000]);
    put(b"no \xff utf-8 \n at all", b"odd".to_vec());
    planted
}

/// What the program must say about them.
fn digest(planted: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (path, content) in planted {
        hasher
            .update(path)
            .update(&[0])
            .update(blake3::hash(content).as_bytes());
    }
    hasher.finalize().to_string()
}

/// All of them were counted and hashed, and nothing else.
fn assert_all_hashed(end: &End, planted: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let files = format!("{} files", planted.len());
    assert!(end.out.contains(&files), "{end:?}");
    let digest = format!("digest: {}", digest(planted));
    assert!(end.out.contains(&digest), "{end:?}");
}

#[test]
fn every_file_is_hashed_once() {
    let folder = Folder::new("all");
    let planted = plant(&folder.path);
    symlink(&folder.path, folder.path.join("dir1/up")).unwrap();
    symlink("nowhere", folder.path.join("dangling")).unwrap();
    mknodat(
        CWD,
        folder.path.join("fifo"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();

    for arguments in [&[][..], &["--workers", "1"], &["--workers", "5"]] {
        let end = run(&folder.path, arguments);
        assert_eq!(end.code, Some(0), "{end:?}");
        assert_all_hashed(&end, &planted);
        assert!(
            end.out
                .contains("the digests of the three passes are equal"),
            "{end:?}"
        );
        assert!(end.out.contains("speed-up over one process: "), "{end:?}");
        assert_eq!(end.err, "", "no terminal, no progress bar");
    }
}

#[test]
fn nothing_to_hash() {
    let folder = Folder::new("nothing");
    let end = run(&folder.path, &[]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.out.contains("0 files, 0 B"), "{end:?}");
}

#[test]
fn what_cannot_be_read_is_named_and_costs_nothing_else() {
    let folder = Folder::new("unreadable");
    let planted = plant(&folder.path);
    // Not even root can open a path that is too long for the kernel.
    let mut deep = openat(CWD, &folder.path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut len = folder.path.as_os_str().len();
    while len + 201 < 4000 {
        mkdirat(&deep, "d".repeat(200), Mode::RWXU).unwrap();
        deep = openat(&deep, "d".repeat(200), OFlags::DIRECTORY, Mode::empty()).unwrap();
        len += 201;
    }
    File::from(
        openat(
            &deep,
            "f".repeat(250),
            OFlags::CREATE | OFlags::WRONLY,
            Mode::RWXU,
        )
        .unwrap(),
    )
    .write_all(b"unseen")
    .unwrap();

    let end = run(&folder.path, &[]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_all_hashed(&end, &planted);
    assert!(end.out.contains(", 1 unreadable"), "{end:?}");
    assert!(
        end.out.contains("unreadable: File name too long"),
        "{end:?}"
    );
}

#[test]
fn a_killed_worker_costs_nothing() {
    let folder = Folder::new("kill");
    let planted = plant(&folder.path);
    for _ in 0..5 {
        let end = run(&folder.path, &["--kill-worker"]);
        assert_eq!(end.code, Some(0), "{end:?}");
        assert_eq!(
            end.out.matches("was killed by signal 9").count(),
            1,
            "{end:?}"
        );
        assert_all_hashed(&end, &planted);
        assert!(
            end.out
                .contains("the digests of the three passes are equal"),
            "{end:?}"
        );
    }
}

#[test]
fn a_file_that_kills_workers_is_the_only_one_lost() {
    let folder = Folder::new("crash");
    let planted = plant(&folder.path);
    fs::write(folder.path.join("dir2/poison"), "deadly").unwrap();
    let end = run(&folder.path, &["--crash-on", "poison", "--once"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_all_hashed(&end, &planted);
    assert!(end.out.contains(", 1 lost"), "{end:?}");
    assert_eq!(
        end.out
            .matches("was killed by signal 6; dir2/poison in its hands: lost")
            .count(),
        3,
        "{end:?}"
    );

    // One process alone does not crash: the digests differ, and this is said.
    let end = run(&folder.path, &["--crash-on", "poison"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(
        end.out.contains("dir2/poison: hashed by one process only"),
        "{end:?}"
    );
}

/// Takes so long to read that no run comes to its end.
fn plant_endless(root: &Path) {
    plant(root);
    File::create(root.join("endless"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
}

#[test]
fn ctrl_c_ends_everybody() {
    let folder = Folder::new("interrupt");
    plant_endless(&folder.path);
    for wait in [0, 10, 50, 500] {
        let mut program = start(&folder.path, &["--workers", "2"]);
        program.wait_for_processes(4);
        thread::sleep(Duration::from_millis(wait));
        program.signal_group(Signal::INT);
        let (end, left) = program.end();
        assert_eq!(end.code, Some(130), "{end:?}");
        assert!(
            end.out.contains("interrupted: this is a partial result"),
            "{end:?}"
        );
        assert_eq!(end.err, "");
        assert_eq!(left, 0, "processes left behind: {end:?}");
    }
}

#[test]
fn a_signal_to_the_parent_alone_is_enough() {
    let folder = Folder::new("terminate");
    plant_endless(&folder.path);
    let mut program = start(&folder.path, &["--workers", "2"]);
    program.wait_for_processes(4);
    thread::sleep(Duration::from_millis(200));
    program.signal(Signal::TERM);
    let (end, left) = program.end();
    assert_eq!((end.code, left), (Some(143), 0), "{end:?}");
}

#[test]
fn nobody_outlives_a_killed_parent() {
    let folder = Folder::new("orphans");
    plant_endless(&folder.path);
    let program = start(&folder.path, &["--workers", "2"]);
    program.wait_for_processes(4);
    program.signal(Signal::KILL);
    program.wait_for_processes(0);
}

#[test]
fn mistakes_are_told() {
    let folder = Folder::new("mistakes");
    for arguments in [
        &["--workers", "0"][..],
        &["--workers"],
        &["--what"],
        &["another"],
    ] {
        let end = run(&folder.path, arguments);
        assert_eq!(end.code, Some(2), "{arguments:?}: {end:?}");
        assert!(end.err.contains("usage: "), "{arguments:?}: {end:?}");
    }
    let end = run(&folder.path.join("nothing"), &[]);
    assert_eq!(end.code, Some(2), "{end:?}");
}

#[test]
fn a_file_that_goes_or_changes_is_seen() {
    let folder = Folder::new("changes");
    let (file, mut buffer) = (folder.path.join("file"), vec![0; 1000]);
    assert_eq!(
        hash::hash_file(&file, &mut buffer, || false),
        Some(Outcome::Vanished)
    );

    let content = vec![3; 5000];
    fs::write(&file, &content).unwrap();
    let hashed = Outcome::Hashed {
        hash: blake3::hash(&content).into(),
        bytes: 5000,
    };
    assert_eq!(hash::hash_file(&file, &mut buffer, || false), Some(hashed));
    assert_eq!(hash::hash_file(&file, &mut buffer, || true), None);

    // It grows while it is read.
    let mut chunks = 0;
    let grow = || {
        chunks += 1;
        if chunks == 2 {
            OpenOptions::new()
                .append(true)
                .open(&file)
                .unwrap()
                .write_all(b"more")
                .unwrap();
        }
        false
    };
    assert_eq!(
        hash::hash_file(&file, &mut buffer, grow),
        Some(Outcome::Changed)
    );

    // Something else is in its place.
    let fifo = folder.path.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert_eq!(
        hash::hash_file(&fifo, &mut buffer, || false),
        Some(Outcome::Changed)
    );
    let link = folder.path.join("link");
    symlink(&file, &link).unwrap();
    assert!(matches!(
        hash::hash_file(&link, &mut buffer, || false),
        Some(Outcome::Unreadable(_))
    ));
}

#[test]
fn a_ledger_that_does_not_fit_gives_the_same() {
    let records: Vec<_> = (0..1000_u32)
        .map(|n| {
            (
                n.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec(),
                [n as u8; 32],
            )
        })
        .collect();
    let (mut whole, mut pieces) = (Ledger::new(usize::MAX), Ledger::new(1000));
    for (path, hash) in &records {
        whole.push(path.clone(), *hash).unwrap();
        pieces.push(path.clone(), *hash).unwrap();
    }
    let mut sorted = records;
    sorted.sort();
    for ledger in [&mut whole, &mut pieces] {
        assert_eq!(
            ledger
                .sorted()
                .unwrap()
                .map(Result::unwrap)
                .collect::<Vec<_>>(),
            sorted
        );
    }
    assert_eq!(whole.digest().unwrap(), pieces.digest().unwrap());
    assert_eq!(whole.differences(&mut pieces, 10).unwrap(), []);

    whole.push(b"a".to_vec(), [1; 32]).unwrap();
    pieces.push(b"b".to_vec(), [1; 32]).unwrap();
    whole.push(b"c".to_vec(), [1; 32]).unwrap();
    pieces.push(b"c".to_vec(), [2; 32]).unwrap();
    assert_ne!(whole.digest().unwrap(), pieces.digest().unwrap());
    let found = [
        (b"a".to_vec(), Difference::OnlyFirst),
        (b"b".to_vec(), Difference::OnlySecond),
        (b"c".to_vec(), Difference::Hash),
    ];
    assert_eq!(whole.differences(&mut pieces, 10).unwrap(), found);
    assert_eq!(whole.differences(&mut pieces, 2).unwrap(), found[..2]);
}
