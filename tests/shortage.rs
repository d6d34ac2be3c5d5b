//! Shortage of shared memory, of address space and of file length: a named error each, no signal, and everything goes on.
//! Each test runs in a family of its own, in this same program started afresh. (A full members table:
//! `tests/process_limits.rs`.)

#![allow(unsafe_code, reason = "to set this process's limits")]

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use multiprocess::{Error, ExitCode, JoinError, Process, PutError, Queue, family, spawn};

const MIB: u64 = 1 << 20;
const ROLE: &str = "SHORTAGE_ROLE";
const CHILD: &str = "SHORTAGE_CHILD";

/// Runs the test in a fresh process, where `true` comes back.
fn is_fresh(test: &str) -> bool {
    if std::env::var_os(ROLE).is_some() {
        let (started, is_running) = mpsc::channel();
        thread::spawn(move || {
            started.send(()).unwrap();
            thread::sleep(Duration::from_secs(100));
            eprintln!("it hangs");
            std::process::abort();
        });
        // A thread takes address space while it starts: none may start under the limits to come.
        is_running.recv().unwrap();
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(ROLE, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{text}\n{errors}",
        output.status
    );
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// Sets a limit of this process that it can take back.
fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes to a record of that type.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limits) }, 0);
    limits.rlim_cur = value.min(limits.rlim_max);
    // SAFETY: reads a record of that type.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limits) }, 0);
}

/// The address space that this process takes now.
fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: takes no memory of ours.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64
}

fn error_of<T>(result: std::io::Result<T>) -> Option<Error> {
    Error::from_io(&result.err().expect("a shortage"))
}

/// Puts until there is no memory left; says how much found room.
fn fill(queue: &Queue<Vec<u8>>) -> usize {
    for count in 0.. {
        match queue.try_put(vec![count as u8; 100_000]) {
            Ok(()) => {}
            Err(PutError::NoMemory(item)) => {
                assert_eq!(item, vec![count as u8; 100_000], "the item comes back");
                return count;
            }
            Err(other) => panic!("{other:?} after {count}"),
        }
    }
    unreachable!()
}

/// The family works, children included, and gives everything back.
fn works(queue: &Queue<Vec<u8>>) {
    let count = fill(queue);
    assert!(count > 2, "{count}");
    // Whoever asks is told the same, and small items need no memory.
    let child = |queue: Queue<Vec<u8>>| {
        let refused = matches!(queue.put(vec![1; 200_000]), Err(PutError::NoMemory(_)));
        (refused, queue.put(vec![2; 3]).is_ok())
    };
    for number in 0..count / 2 {
        assert_eq!(queue.get().unwrap(), vec![number as u8; 100_000]);
    }
    let process = spawn(|queue: Queue<Vec<u8>>| fill(&queue), queue.clone()).unwrap();
    assert!(process.join().unwrap() > 0);
    queue.get().unwrap();
    let process = spawn(child, queue.clone()).unwrap();
    assert_eq!(process.join().unwrap(), (true, true));
    for number in count / 2 + 1..count {
        assert_eq!(queue.get().unwrap(), vec![number as u8; 100_000]);
    }
    while queue.try_get().is_ok() {}
    fill(queue);
    while queue.try_get().is_ok() {}
}

#[test]
fn the_arena_s_limit() {
    if !is_fresh("the_arena_s_limit") {
        return;
    }
    family::configure(family::Config::new().arena_limit(4 * MIB)).unwrap();
    let empty = family::stats().bytes_in_use;
    assert_eq!(
        error_of(Queue::<[u64; 16]>::bounded(100_000)),
        Some(Error::NoMemory)
    );
    assert_eq!(family::stats().bytes_in_use, empty);
    let queue = Queue::bounded(1000).unwrap();
    works(&queue);
    let few = Queue::<[u64; 2]>::bounded(10).unwrap();
    let count = fill(&queue);
    assert_eq!(count, fill(&queue) + count, "no room appears by itself");
    // What needs no memory goes on.
    few.put([1, 2]).unwrap();
    assert_eq!(few.get().unwrap(), [1, 2]);
    assert_eq!(
        error_of(Queue::<[u64; 16]>::bounded(1000)),
        Some(Error::NoMemory)
    );
    let refused = spawn(|bytes: Vec<u8>| bytes.len(), vec![0; 100_000]).unwrap_err();
    assert_eq!(Error::from_io(refused.error()), Some(Error::NoMemory));
    queue.get().unwrap();
    assert_eq!(spawn(|x: u8| x, 1).unwrap().join().unwrap(), 1);
    // A killed process keeps nothing.
    while queue.try_get().is_ok() {}
    let hold = |queue: Queue<Vec<u8>>| {
        let own = Queue::bounded(1000).unwrap();
        fill(&own);
        queue.put(Vec::new()).unwrap();
        thread::sleep(Duration::from_secs(100));
    };
    let holder = Process::builder()
        .daemon(true)
        .spawn(hold, queue.clone())
        .unwrap();
    queue.get().unwrap();
    assert_eq!(fill(&queue), 0);
    holder.kill().unwrap();
    assert_eq!(holder.wait(), ExitCode::Signaled(9));
    works(&queue);
    drop((queue, few, holder));
    assert_eq!(family::stats().bytes_in_use, empty);
}

#[test]
fn little_address_space() {
    if !is_fresh("little_address_space") {
        return;
    }
    // Besides the arena a process needs its stacks and its heap.
    limit(libc::RLIMIT_AS, address_space() + 512 * MIB);
    let queue = Queue::bounded(100_000).unwrap();
    assert!(
        family::stats().limit < 512 * MIB,
        "{}",
        family::stats().limit
    );
    let echo = |queue: Queue<Vec<u8>>| queue.get().unwrap().len();
    let process = spawn(echo, queue.clone()).unwrap();
    queue.put(vec![1; 1_000_000]).unwrap();
    assert_eq!(process.join().unwrap(), 1_000_000);
    works(&queue);
}

#[test]
fn no_address_space() {
    if !is_fresh("no_address_space") {
        return;
    }
    limit(libc::RLIMIT_AS, address_space() + 32 * 1024);
    for _ in 0..3 {
        assert_eq!(error_of(Queue::<u8>::bounded(1)), Some(Error::NoMemory));
        let refused = spawn(|x: u8| x, 1).unwrap_err();
        assert_eq!(Error::from_io(refused.error()), Some(Error::NoMemory));
        assert_eq!(refused.into_inner(), 1);
    }
    limit(libc::RLIMIT_AS, u64::MAX);
    let queue = Queue::bounded(100).unwrap();
    queue.put(5).unwrap();
    let process = spawn(|queue: Queue<u8>| queue.get().unwrap(), queue).unwrap();
    assert_eq!(process.join().unwrap(), 5);
}

/// In a child, before the arena is mapped: it loses its address space if it was told so.
extern "C" fn lose_address_space() {
    if std::env::var_os(CHILD).is_some() {
        limit(libc::RLIMIT_AS, address_space() + MIB);
    }
}

#[used]
// The section holds such functions; this one needs nothing but libc.
#[unsafe(link_section = ".init_array.00101")]
static CONSTRUCTOR: extern "C" fn() = lose_address_space;

/// The arena is there, but a child may not map it: the child ends, its joiner is told, its place is free again.
#[test]
fn a_child_without_address_space() {
    if !is_fresh("a_child_without_address_space") {
        return;
    }
    let queue = Queue::bounded(1).unwrap();
    let empty = family::stats();
    for round in 0..3 {
        // SAFETY: no other thread reads the environment now.
        unsafe { std::env::set_var(CHILD, "1") };
        let process = spawn(|queue: Queue<u8>| queue.put(1).unwrap(), queue.clone()).unwrap();
        // SAFETY: as above.
        unsafe { std::env::remove_var(CHILD) };
        let end = process.wait();
        let error = process.join().unwrap_err();
        println!("{end:?}, {error:?}");
        assert!(matches!(error, JoinError::Exited(70)), "{error:?}");
        assert!(queue.is_empty());
        let process = spawn(|queue: Queue<u8>| queue.put(2).unwrap(), queue.clone()).unwrap();
        process.join().unwrap();
        assert_eq!(queue.get().unwrap(), 2, "{round}");
        let now = family::stats();
        assert_eq!((now.members, now.bytes_in_use), (1, empty.bytes_in_use));
    }
}

#[test]
fn short_files() {
    if !is_fresh("short_files") {
        return;
    }
    limit(libc::RLIMIT_FSIZE, 64 * MIB);
    let queue = Queue::bounded(100_000).unwrap();
    assert!(
        family::stats().limit < 64 * MIB,
        "{}",
        family::stats().limit
    );
    works(&queue);
    // What comes later than the arena changes nothing for it.
    limit(libc::RLIMIT_FSIZE, 0);
    works(&queue);
}

#[test]
fn no_files() {
    if !is_fresh("no_files") {
        return;
    }
    for length in [0, 4096] {
        limit(libc::RLIMIT_FSIZE, length);
        assert_eq!(error_of(Queue::<u8>::bounded(1)), Some(Error::NoMemory));
    }
    limit(libc::RLIMIT_FSIZE, u64::MAX);
    let queue = Queue::bounded(1).unwrap();
    queue.put(5).unwrap();
    let process = spawn(|queue: Queue<u8>| queue.get().unwrap(), queue).unwrap();
    assert_eq!(process.join().unwrap(), 5);
}
