//! Processes: what Python's `Process` does, row by row, and what this crate promises beyond it.

#![allow(unsafe_code, reason = "to end processes in unusual ways")]

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use multiprocess::{
    Error, ExitCode, Fd, GetError, JoinError, Process, ProcessRef, Queue, active_children,
    cpu_count, current_process, parent_process, spawn, wait,
};
use serde::{Deserialize, Serialize};

mod ends;
#[path = "../common/guard.rs"]
mod guard;
mod kin;

use guard::{LONG, watch};

fn daemon() -> multiprocess::Builder {
    Process::builder().daemon(true)
}

fn sleep_for_ever() {
    loop {
        thread::sleep(LONG);
    }
}

/// Whether a process with this number exists, ended but not reaped ones included.
fn exists(pid: u32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Waits until the process, which somebody else reaps, is gone or a zombie.
fn wait_for_end(pid: u32) {
    let runs = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(')').unwrap().1.starts_with(" Z"),
        Err(_) => false,
    };
    while runs() {
        thread::sleep(Duration::from_millis(1));
    }
}

// Functions and arguments

#[test]
fn join_gives_what_the_function_returned() {
    let _watch = watch();
    fn greet((name, age): (String, u32)) -> String {
        format!("{name} is {age}")
    }
    let process = spawn(greet, ("bob".to_string(), 7)).unwrap();
    assert_eq!(process.join().unwrap(), "bob is 7");
    let process = spawn(|()| (), ()).unwrap();
    process.join().unwrap();
}

#[test]
fn a_method_is_a_function() {
    #[derive(Serialize, Deserialize)]
    struct Clock {
        ticks: u64,
    }
    impl Clock {
        fn run(mut self) -> Clock {
            self.ticks += 1;
            self
        }
    }
    let _watch = watch();
    let process = spawn(Clock::run, Clock { ticks: 41 }).unwrap();
    assert_eq!(process.join().unwrap().ticks, 42);
}

#[test]
fn functions_that_look_the_same_are_told_apart_by_their_types() {
    let _watch = watch();
    let text = spawn(|x: u8| x.to_string(), 65).unwrap();
    let letter = spawn(|x: char| x.to_string(), 'A').unwrap();
    assert_eq!(text.join().unwrap(), "65");
    assert_eq!(letter.join().unwrap(), "A");
}

#[test]
fn large_arguments_and_results() {
    let _watch = watch();
    let bytes: Vec<u64> = (0..1_000_000).collect();
    let process = spawn(|mut bytes: Vec<u64>| bytes.split_off(10), bytes.clone()).unwrap();
    assert_eq!(process.join().unwrap(), bytes[10..]);
}

#[test]
fn handles_among_arguments_and_results_mean_the_same_object() {
    let _watch = watch();
    let queue = Queue::<String>::bounded(3).unwrap();
    fn work(queue: Queue<String>) -> Queue<String> {
        queue.put("from the child".to_string()).unwrap();
        queue
    }
    let other = spawn(work, queue.clone()).unwrap().join().unwrap();
    assert_eq!(other.get().unwrap(), "from the child");
    other.put("back".to_string()).unwrap();
    assert_eq!(queue.get().unwrap(), "back");
}

/// Encodes unless it holds 1, and decodes unless that holds 2.
#[derive(Debug, PartialEq)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1 => Err(serde::ser::Error::custom("picky")),
            code => serializer.serialize_u8(code),
        }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            2 => Err(serde::de::Error::custom("picky")),
            3 => panic!("very picky"),
            code => Ok(Picky(code)),
        }
    }
}

#[test]
fn arguments_that_do_not_encode_are_given_back() {
    let _watch = watch();
    let error = spawn(|_: Picky| (), Picky(1)).unwrap_err();
    assert_eq!(error.error().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(error.into_inner(), Picky(1));
}

#[test]
fn arguments_that_do_not_decode_are_the_join_s_error() {
    let _watch = watch();
    let process = spawn(|_: Picky| (), Picky(2)).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(1));
    assert!(matches!(process.join(), Err(JoinError::Decode(_))));
    let process = spawn(|_: Picky| (), Picky(3)).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(101));
    assert!(matches!(process.join(), Err(JoinError::Panicked { .. })));
}

#[test]
fn results_that_do_not_encode_or_decode_are_the_join_s_error() {
    let _watch = watch();
    let process = spawn(Picky, 1).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(1));
    assert!(matches!(process.join(), Err(JoinError::Encode(_))));
    let process = spawn(Picky, 2).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(0));
    assert!(matches!(process.join(), Err(JoinError::Decode(_))));
}

#[test]
fn open_files_are_arguments() {
    let _watch = watch();
    let path = std::env::temp_dir().join(format!("multiprocess-test-{}", std::process::id()));
    let options = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .clone();
    let mut file = options.open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (mine, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    fn work((file, socket, again): (Fd, Fd, Fd)) {
        let mut files = [file.into(), again.into()].map(|file: std::fs::File| file);
        files[0].write_all(b"one ").unwrap();
        files[1].write_all(b"two").unwrap();
        std::os::unix::net::UnixStream::from(socket)
            .write_all(b"three")
            .unwrap();
    }
    let copy = || Fd::from(file.try_clone().unwrap());
    let process = spawn(work, (copy(), theirs.into(), copy())).unwrap();
    process.join().unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one two");
    // The argument is dropped here and the child is gone: nobody else has the other end.
    let mut text = String::new();
    (&mine).read_to_string(&mut text).unwrap();
    assert_eq!(text, "three");
}

#[test]
fn a_file_in_a_queue_or_a_result_is_an_error() {
    let _watch = watch();
    let null = || Fd::from(std::fs::File::open("/dev/null").unwrap());
    let queue = Queue::<Fd>::bounded(1).unwrap();
    assert!(queue.put(null()).is_err());
    let process = spawn(|fd: Fd| fd, null()).unwrap();
    assert!(matches!(process.join(), Err(JoinError::Encode(_))));
}

// Names and kin

#[test]
fn default_names_number_the_children() {
    let _watch = watch();
    fn nested(_: ()) -> (String, String, String) {
        let name = |()| current_process().name().to_string();
        let first = spawn(name, ()).unwrap().join().unwrap();
        let second = spawn(name, ()).unwrap().join().unwrap();
        (current_process().name().to_string(), first, second)
    }
    let process = spawn(nested, ()).unwrap();
    let name = process.name().to_string();
    let number: u64 = name.strip_prefix("Process-").unwrap().parse().unwrap();
    let (own, first, second) = process.join().unwrap();
    assert_eq!(own, name);
    assert_eq!(first, format!("{name}:1"));
    assert_eq!(second, format!("{name}:2"));
    let later = spawn(|()| (), ()).unwrap();
    let later: u64 = later
        .name()
        .strip_prefix("Process-")
        .unwrap()
        .parse()
        .unwrap();
    assert!(later > number);
}

#[test]
fn names_are_chosen_and_need_not_be_unique() {
    let _watch = watch();
    let name = |()| current_process().name().to_string();
    for _ in 0..2 {
        let process = Process::builder().name("ä/ =:\n").spawn(name, ()).unwrap();
        assert_eq!(process.name(), "ä/ =:\n");
        assert_eq!(process.join().unwrap(), "ä/ =:\n");
    }
    let long = "x".repeat(4096);
    let process = Process::builder().name(&long).spawn(name, ()).unwrap();
    assert_eq!(process.join().unwrap(), long);
    for wrong in ["a\0b".to_string(), "x".repeat(4097)] {
        let error = Process::builder().name(wrong).spawn(name, ()).unwrap_err();
        assert_eq!(Error::from_io(error.error()), Some(Error::InvalidName));
    }
}

#[test]
fn the_root_knows_itself() {
    let me = current_process();
    assert_eq!(me.name(), "MainProcess");
    assert_eq!(me.pid(), std::process::id());
    assert!(!me.is_daemon());
    assert!(me.is_alive());
    assert_eq!(me.wait_timeout(Duration::from_millis(1)), None);
    assert!(parent_process().is_none());
    assert!(cpu_count() >= 1);
}

#[test]
fn a_child_knows_its_parent() {
    let _watch = watch();
    fn look(_: ()) -> (u32, String, bool, bool) {
        let parent = parent_process().unwrap();
        (
            parent.pid(),
            parent.name().to_string(),
            parent.is_daemon(),
            parent.is_alive(),
        )
    }
    let seen = spawn(look, ()).unwrap().join().unwrap();
    assert_eq!(
        seen,
        (std::process::id(), "MainProcess".to_string(), false, true)
    );
    let nested = |()| spawn(look, ()).unwrap().join().unwrap();
    let process = daemon().name("d").spawn(nested, ()).unwrap();
    let pid = process.pid();
    assert_eq!(process.join().unwrap(), (pid, "d".to_string(), true, true));
}

#[test]
fn a_child_sees_its_parent_s_end_even_by_sigkill() {
    let _watch = watch();
    fn child(queue: Queue<String>) {
        let parent = parent_process().unwrap();
        queue
            .put(format!("{:?}", parent.wait_timeout(Duration::ZERO)))
            .unwrap();
        let end = parent.wait_timeout(LONG);
        queue.put(format!("{end:?} {}", parent.is_alive())).unwrap();
    }
    fn parent(queue: Queue<String>) {
        // Not a daemon, which would be killed with its parent.
        let _child = Process::builder()
            .daemon(false)
            .spawn(child, queue)
            .unwrap();
        sleep_for_ever();
    }
    let queue = Queue::bounded(1).unwrap();
    let process = spawn(parent, queue.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), "None");
    process.kill().unwrap();
    assert_eq!(queue.get().unwrap(), "Some(Unknown) false");
}

#[test]
fn active_children_are_those_that_run() {
    let _watch = watch();
    let active = |pid| {
        active_children()
            .into_iter()
            .find(|child| child.pid() == pid)
    };
    let process = daemon()
        .name("here")
        .spawn(|()| sleep_for_ever(), ())
        .unwrap();
    let child: ProcessRef = active(process.pid()).unwrap();
    assert_eq!(
        (child.name(), child.is_daemon(), child.is_alive()),
        ("here", true, true)
    );
    assert_eq!(child.wait_timeout(Duration::from_millis(1)), None);
    process.kill().unwrap();
    assert_eq!(child.wait_timeout(LONG), Some(ExitCode::Signaled(9)));
    assert!(active(process.pid()).is_none());
    assert_eq!(
        process.exitcode(),
        Some(ExitCode::Signaled(9)),
        "told to all who ask"
    );
}

#[test]
fn ended_children_that_nobody_waits_for_are_reaped() {
    let _watch = watch();
    let pids: Vec<u32> = (0..3).map(|_| spawn(|()| (), ()).unwrap().pid()).collect();
    for pid in &pids {
        while exists(*pid) {
            // Looking is what reaps.
            let active = active_children();
            thread::sleep(Duration::from_millis(1));
            drop(active);
        }
    }
}
