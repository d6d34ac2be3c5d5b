//! Processes: what Python's `Process` does, row by row, and what this crate promises beyond it.

#![allow(unsafe_code, reason = "to end processes in unusual ways")]

use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use multiprocess::{
    Error, ExitCode, Fd, GetError, JoinError, Process, ProcessRef, Queue, active_children,
    cpu_count, current_process, parent_process, spawn,
};
use serde::{Deserialize, Serialize};

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);

/// Ends this process with its daemons when a test hangs.
struct Watch(#[allow(dead_code)] mpsc::Sender<()>);

fn watch() -> Watch {
    let (sender, receiver) = mpsc::channel();
    let test = thread::current().name().unwrap_or("?").to_string();
    thread::spawn(move || {
        if receiver.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{test} hangs");
            std::process::abort();
        }
    });
    Watch(sender)
}

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

// Waiting and ends

#[test]
fn waiting_any_number_of_times() {
    let _watch = watch();
    let gate = Queue::<()>::bounded(1).unwrap();
    let process = spawn(|gate: Queue<()>| gate.get().unwrap(), gate.clone()).unwrap();
    assert!(process.is_alive());
    assert_eq!(process.exitcode(), None);
    assert_eq!(process.wait_timeout(Duration::ZERO), None);
    assert_eq!(process.wait_timeout(Duration::from_millis(5)), None);
    gate.put(()).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(0));
    assert_eq!(process.wait(), ExitCode::Exited(0));
    assert_eq!(
        process.wait_timeout(Duration::MAX),
        Some(ExitCode::Exited(0))
    );
    assert_eq!(process.exitcode(), Some(ExitCode::Exited(0)));
    assert!(!process.is_alive());
    process.join().unwrap();
}

#[test]
fn exit_codes() {
    let _watch = watch();
    fn exit(code: i32) {
        std::process::exit(code)
    }
    for (code, seen) in [(0, 0), (3, 3), (256, 0), (300, 44), (-1, 255)] {
        let process = spawn(exit, code).unwrap();
        assert_eq!(process.wait().code(), Some(seen));
        let error = process.join().unwrap_err();
        assert!(
            matches!(error, JoinError::Exited(code) if code == seen),
            "{error:?}"
        );
    }
    fn exit_now(code: i32) {
        // SAFETY: ends the process whatever its state.
        unsafe { libc::_exit(code) }
    }
    let process = spawn(exit_now, 7).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(7));
}

#[test]
fn signals_that_end_a_process() {
    let _watch = watch();
    fn raise(signal: i32) {
        // SAFETY: sends a signal to this process.
        unsafe { libc::raise(signal) };
    }
    for signal in [
        libc::SIGTERM,
        libc::SIGSEGV,
        libc::SIGKILL,
        libc::SIGINT,
        libc::SIGABRT,
    ] {
        let process = spawn(raise, signal).unwrap();
        assert_eq!(process.wait(), ExitCode::Signaled(signal));
        assert_eq!(process.exitcode().unwrap().code(), Some(-signal));
        let error = process.join().unwrap_err();
        assert!(matches!(error, JoinError::Signaled(number) if number == signal));
    }
}

#[test]
fn a_panic_comes_back_with_its_message_and_place() {
    let _watch = watch();
    fn fail(text: String) {
        if !text.is_empty() {
            panic!("no {text}");
        }
    }
    let process = spawn(fail, "way".to_string()).unwrap();
    let line = line!() - 4;
    assert_eq!(process.wait(), ExitCode::Exited(101));
    let Err(JoinError::Panicked { message, location }) = process.join() else {
        panic!()
    };
    assert_eq!(message, "no way");
    assert!(
        location
            .unwrap()
            .starts_with(&format!("{}:{line}:", file!()))
    );

    fn throw(number: i32) {
        std::panic::panic_any(number)
    }
    let process = spawn(throw, 7).unwrap();
    let Err(JoinError::Panicked { message, location }) = process.join() else {
        panic!()
    };
    assert_eq!(message, "Box<dyn Any>");
    assert!(location.is_some());
}

#[test]
fn a_panic_that_is_caught_is_none() {
    let _watch = watch();
    fn caught(_: ()) -> bool {
        std::panic::catch_unwind(|| panic!("caught")).is_err()
    }
    assert!(spawn(caught, ()).unwrap().join().unwrap());
    // Without the hook there is no place, but the message is in the payload.
    fn other(_: ()) {
        let _ = std::panic::catch_unwind(|| panic!("caught"));
        std::panic::set_hook(Box::new(|_| ()));
        panic!("thrown");
    }
    let error = spawn(other, ()).unwrap().join().unwrap_err();
    let JoinError::Panicked { message, location } = error else {
        panic!("{error:?}")
    };
    assert_eq!((message.as_str(), location), ("thrown", None));
}

#[test]
fn a_panic_of_another_thread_is_that_thread_s() {
    let _watch = watch();
    fn work(_: ()) -> bool {
        thread::spawn(|| panic!("in a thread")).join().is_err()
    }
    let process = spawn(work, ()).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(0));
    assert!(process.join().unwrap());
}

#[test]
fn terminate_and_kill() {
    let _watch = watch();
    let process = daemon().spawn(|()| sleep_for_ever(), ()).unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGTERM));
    let stubborn = |ready: Queue<()>| {
        // SAFETY: ignoring a signal installs no code.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        ready.put(()).unwrap();
        sleep_for_ever();
    };
    let ready = Queue::bounded(1).unwrap();
    let process = daemon().spawn(stubborn, ready.clone()).unwrap();
    ready.get().unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait_timeout(Duration::from_millis(20)), None);
    process.kill().unwrap();
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGKILL));
    // After the end both do nothing.
    process.terminate().unwrap();
    process.kill().unwrap();
    assert!(matches!(process.join(), Err(JoinError::Signaled(9))));
}

#[test]
fn a_child_flushes_its_output_and_runs_exit_handlers() {
    let _watch = watch();
    extern "C" fn handler() {
        // SAFETY: writes one byte to a descriptor that stays open.
        unsafe { libc::write(1, b"!".as_ptr().cast(), 1) };
    }
    fn work(out: Fd) {
        // SAFETY: both numbers are open; standard output is this process's own.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&out), 1) };
        // SAFETY: the handler is callable to the end.
        unsafe { libc::atexit(handler) };
        print!("no newline");
    }
    let (mine, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    spawn(work, theirs.into()).unwrap().join().unwrap();
    let mut text = String::new();
    (&mine).read_to_string(&mut text).unwrap();
    assert_eq!(text, "no newline!");
}

#[test]
fn the_descriptor_tells_of_the_end_whatever_others_hold() {
    let _watch = watch();
    fn parent(queue: Queue<u32>) {
        let child = Process::builder()
            .daemon(false)
            .spawn(|()| sleep_for_ever(), ())
            .unwrap();
        queue.put(child.pid()).unwrap();
        sleep_for_ever();
    }
    let ended = |process: &Process<()>, timeout: i32| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&process.as_fd());
        let mut polled = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid record.
        unsafe { libc::poll(&raw mut polled, 1, timeout) == 1 }
    };
    let queue = Queue::bounded(1).unwrap();
    let process = spawn(parent, queue.clone()).unwrap();
    let grandchild = queue.get().unwrap();
    assert!(!ended(&process, 0));
    process.kill().unwrap();
    assert!(ended(&process, LONG.as_millis() as i32));
    assert_eq!(process.wait(), ExitCode::Signaled(9));
    assert!(
        exists(grandchild),
        "a child that is no daemon outlives a killed parent"
    );
    // SAFETY: sends a signal to a process that this test has started and nobody has reaped.
    unsafe { libc::kill(grandchild as i32, libc::SIGKILL) };
    wait_for_end(grandchild);
}

#[test]
fn all_who_wait_are_told_the_same() {
    let _watch = watch();
    fn exit(code: i32) {
        std::process::exit(code)
    }
    for _ in 0..20 {
        let process = spawn(exit, 44).unwrap();
        thread::scope(|scope| {
            let waiters = [(); 6].map(|()| scope.spawn(|| (process.wait(), process.exitcode())));
            for waiter in waiters {
                let (waited, looked) = waiter.join().unwrap();
                assert_eq!(waited, ExitCode::Exited(44));
                assert_eq!(looked, Some(ExitCode::Exited(44)));
            }
        });
    }
}

#[test]
fn a_result_arrives_though_nobody_knows_the_exit_code() {
    let _watch = watch();
    fn ignoring(_: ()) -> (Option<u32>, String, String) {
        // SAFETY: ignoring a signal installs no code.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let process = spawn(|x: u32| x + 1, 1).unwrap();
        let code = process.wait();
        let result = process.join().ok();
        fn exit(code: i32) {
            std::process::exit(code)
        }
        let lost = spawn(exit, 3).unwrap().join();
        (result, format!("{code:?}"), format!("{lost:?}"))
    }
    let seen = spawn(ignoring, ()).unwrap().join().unwrap();
    assert_eq!(
        seen,
        (Some(2), "Unknown".to_string(), "Err(Lost)".to_string())
    );

    fn reaping(_: ()) -> (u32, bool) {
        let process = spawn(|x: u32| x + 1, 1).unwrap();
        // SAFETY: a null pointer asks for no status.
        let reaped = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        let own = reaped as u32 == process.pid() && process.wait() == ExitCode::Unknown;
        (process.join().unwrap(), own)
    }
    assert_eq!(spawn(reaping, ()).unwrap().join().unwrap(), (2, true));
}

#[test]
fn a_process_ends_without_waiting_for_its_queue_to_be_drained() {
    let _watch = watch();
    fn fill(queue: Queue<Vec<u8>>) {
        for i in 0..100 {
            queue.put(vec![i; 10_000]).unwrap();
        }
    }
    let queue = Queue::bounded(100).unwrap();
    spawn(fill, queue.clone()).unwrap().join().unwrap();
    for i in 0..100 {
        assert_eq!(queue.get().unwrap(), vec![i; 10_000]);
    }
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

// What becomes of children when their parent ends

#[test]
fn a_parent_that_exits_waits_for_its_children() {
    let _watch = watch();
    fn child(queue: Queue<String>) {
        thread::sleep(Duration::from_millis(100));
        queue.put("child".to_string()).unwrap();
    }
    fn parent(queue: Queue<String>) {
        drop(spawn(child, queue).unwrap());
    }
    let queue = Queue::bounded(1).unwrap();
    let process = spawn(parent, queue.clone()).unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(0));
    assert_eq!(queue.try_get().unwrap(), "child");
}

/// Starts a daemon that says that it runs, possibly one that ignores SIGTERM, and ends in the given way.
fn with_daemon((queue, stubborn, end): (Queue<u32>, bool, String)) {
    fn child((queue, stubborn): (Queue<u32>, bool)) {
        if stubborn {
            // SAFETY: ignoring a signal installs no code.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        }
        queue.put(std::process::id()).unwrap();
        sleep_for_ever();
    }
    let ready = Queue::bounded(1).unwrap();
    let _daemon = daemon().spawn(child, (ready.clone(), stubborn)).unwrap();
    queue.put(ready.get().unwrap()).unwrap();
    match end.as_str() {
        "return" => {}
        "panic" => panic!("on purpose"),
        "exit" => std::process::exit(5),
        "abort" => std::process::abort(),
        _ => sleep_for_ever(),
    }
}

#[test]
fn daemons_end_with_their_parent_however_it_ends() {
    let _watch = watch();
    let ends = [
        ("return", false),
        ("return", true),
        ("panic", false),
        ("exit", false),
    ];
    for (end, stubborn) in ends.into_iter().chain([("abort", false), ("kill", false)]) {
        let queue = Queue::bounded(1).unwrap();
        let process = spawn(with_daemon, (queue.clone(), stubborn, end.to_string())).unwrap();
        let daemon = queue.get().unwrap();
        match end {
            "kill" => process.kill().unwrap(),
            // An orderly end takes the daemon along before it is over.
            "return" => {
                process.wait();
                assert!(!exists(daemon));
            }
            _ => {}
        }
        process.wait();
        wait_for_end(daemon);
    }
}

#[test]
fn a_daemon_outlives_the_thread_that_started_it() {
    let _watch = watch();
    let gate = Queue::<u8>::bounded(1).unwrap();
    let theirs = gate.clone();
    let start = move || {
        daemon()
            .spawn(|gate: Queue<u8>| gate.get().unwrap(), theirs)
            .unwrap()
    };
    let process = thread::spawn(start).join().unwrap();
    assert_eq!(process.wait_timeout(Duration::from_millis(50)), None);
    gate.put(5).unwrap();
    assert_eq!(process.join().unwrap(), 5);
}

#[test]
fn one_daemon_s_end_is_not_the_other_s() {
    let _watch = watch();
    let processes = [(); 3].map(|()| daemon().spawn(|()| sleep_for_ever(), ()).unwrap());
    processes[1].kill().unwrap();
    processes[1].wait();
    assert_eq!(processes[0].wait_timeout(Duration::from_millis(20)), None);
    assert_eq!(processes[2].wait_timeout(Duration::ZERO), None);
    for process in &processes {
        process.kill().unwrap();
        process.wait();
    }
}

#[test]
fn daemons_have_daemon_children_only() {
    let _watch = watch();
    fn work(_: ()) -> (bool, bool, bool) {
        let child = spawn(|()| current_process().is_daemon(), ()).unwrap();
        let is_daemon = child.is_daemon();
        let refused = Process::builder()
            .daemon(false)
            .spawn(|()| (), ())
            .unwrap_err();
        let refused = Error::from_io(refused.error()) == Some(Error::DaemonChild);
        (is_daemon, child.join().unwrap(), refused)
    }
    assert_eq!(
        daemon().spawn(work, ()).unwrap().join().unwrap(),
        (true, true, true)
    );
    assert!(!spawn(|()| (), ()).unwrap().is_daemon());
}

#[test]
fn terminating_a_process_leaves_its_children_alone() {
    let _watch = watch();
    fn parent(queue: Queue<u32>) {
        fn child(queue: Queue<u32>) {
            assert!(!parent_process().unwrap().wait_timeout(LONG).is_none());
            queue.put(std::process::id()).unwrap();
        }
        let _child = spawn(child, queue.clone()).unwrap();
        queue.put(0).unwrap();
        sleep_for_ever();
    }
    let queue = Queue::bounded(1).unwrap();
    let process = spawn(parent, queue.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), 0);
    process.terminate().unwrap();
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGTERM));
    assert_ne!(queue.get().unwrap(), 0);
}

#[test]
fn processes_can_be_started_by_many_threads_at_once() {
    let _watch = watch();
    thread::scope(|scope| {
        for i in 0..8_u64 {
            scope.spawn(move || {
                for j in 0..5 {
                    assert_eq!(
                        spawn(|(a, b): (u64, u64)| a * b, (i, j))
                            .unwrap()
                            .join()
                            .unwrap(),
                        i * j
                    );
                }
            });
        }
    });
}

#[test]
fn types_can_go_where_they_should() {
    fn both<T: Send + Sync>() {}
    both::<Process<*const u8>>();
    both::<ProcessRef>();
    both::<JoinError>();
    fn error<E: std::error::Error>() {}
    error::<multiprocess::SpawnError<*const u8>>();
}
