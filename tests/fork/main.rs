//! The start method that copies the process. Without a test harness: that has threads, and a process with threads is
//! never copied.

#![allow(unsafe_code, reason = "to fork as other code would")]

mod locks;
mod pipes;
mod queues;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use multiprocess::{
    Bytes, Error, ExitCode, Fd, JoinError, Process, Queue, StartMethod, active_children,
    current_process, family, parent_process, spawn,
};
use pipes::*;
use queues::*;

const LONG: Duration = Duration::from_secs(100);

/// Functions with their names.
macro_rules! tests {
    ($($test:ident,)*) => { [$((stringify!($test), $test as fn())),*] };
}

fn main() {
    // Ends this process when a test hangs. Its daemons end with it.
    // SAFETY: sets a timer of this process.
    unsafe { libc::alarm(LONG.as_secs() as u32) };
    use locks::*;
    let tests: &[(&str, fn())] = &tests![
        a_closure_may_capture_anything,
        arguments_take_their_usual_way,
        a_function_can_be_forked_to,
        a_process_with_threads_is_not_copied,
        a_process_with_loans_is_not_copied,
        an_end_of_a_pipe_goes_along_or_prevents_the_copy,
        a_process_has_a_pipe_to_its_copy,
        a_copy_of_an_end_that_was_set_aside_holds_nothing,
        an_end_that_may_come_back_is_not_the_copys,
        a_foreign_fork_has_no_pipe,
        a_process_that_holds_a_lock_is_not_copied,
        a_copy_is_another_holder,
        a_foreign_fork_holds_nothing,
        the_method_must_fit_the_call,
        a_copy_knows_who_it_is,
        ends_are_told_as_for_any_process,
        what_is_buffered_is_written_once,
        standard_input_is_empty,
        a_copy_has_no_children,
        daemons_end_with_their_parent,
        copies_keep_no_daemon_alive,
        foreign_copies_keep_no_daemon_alive,
        what_was_refused_has_not_run,
        both_sides_share_their_handles,
        copies_hold_the_ends_that_they_were_born_with,
        a_captured_handle_may_be_the_only_one,
        a_copy_enters_a_queue_without_a_bound_itself,
        an_inherited_task_is_not_a_copy_s_own,
        a_foreign_fork_is_no_member,
        nothing_is_left,
    ];
    for (name, test) in tests {
        println!("test {name}");
        test();
        assert!(active_children().is_empty(), "{name} left a process behind");
    }
}

fn builder() -> multiprocess::Builder {
    Process::builder()
}

fn sleep_for_ever() {
    loop {
        thread::sleep(LONG);
    }
}

/// Waits until a process that somebody else reaps has ended.
fn wait_for_end(pid: u32) {
    let runs = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(')').unwrap().1.starts_with(" Z"),
        Err(_) => false,
    };
    while runs() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn a_closure_may_capture_anything() {
    let (sender, receiver) = mpsc::channel();
    sender.send("captured").unwrap();
    let mut count = 0;
    let closure = |more: u32| {
        count += more;
        format!("{} {count}", receiver.recv().unwrap())
    };
    let process = builder().fork(closure, 2).unwrap();
    assert_eq!(process.join().unwrap(), "captured 2");
    assert_eq!(count, 0, "the child has its own copy");
}

fn arguments_take_their_usual_way() {
    let queue = Queue::<u32>::bounded(1).unwrap();
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    let work = |(queue, socket): (Queue<u32>, Fd)| {
        queue.put(7).unwrap();
        UnixStream::from(socket).write_all(b"eight").unwrap();
        queue
    };
    let process = builder()
        .fork(work, (queue.clone(), theirs.into()))
        .unwrap();
    let same = process.join().unwrap();
    assert_eq!(same.get().unwrap(), 7);
    let mut text = String::new();
    mine.read_to_string(&mut text).unwrap();
    assert_eq!(text, "eight");
    drop(queue);
}

fn a_function_can_be_forked_to() {
    let process = builder()
        .start_method(StartMethod::Fork)
        .spawn(|x: u32| x + 1, 1)
        .unwrap();
    assert_eq!(process.join().unwrap(), 2);
}

fn a_process_with_threads_is_not_copied() {
    let (sender, receiver) = mpsc::channel::<()>();
    let other = thread::spawn(move || receiver.recv());
    let error = builder().fork(|x: u32| x, 5).unwrap_err();
    assert_eq!(Error::from_io(error.error()), Some(Error::MoreThreads));
    assert_eq!(error.into_inner(), 5);
    drop(sender);
    let _ = other.join().unwrap();
    for _ in 0..50 {
        // One that was joined is none, though the kernel may count it a moment longer.
        thread::spawn(|| ()).join().unwrap();
        let process = builder().fork(|x: u32| x, 5).unwrap();
        assert_eq!(process.join().unwrap(), 5);
    }
}

fn a_process_with_loans_is_not_copied() {
    let queue = Queue::<Bytes>::bounded(1).expect("a queue");
    let mut loan = queue.loan(1000).expect("memory");
    loan.fill(7);
    let refused = builder().fork(|()| (), ()).expect_err("a loan is alive");
    assert_eq!(Error::from_io(refused.error()), Some(Error::Borrowed));
    loan.put().expect("put");
    let borrowed = queue.get_ref().expect("get");
    let refused = builder().fork(|()| (), ()).expect_err("a borrow is alive");
    assert_eq!(Error::from_io(refused.error()), Some(Error::Borrowed));
    assert_eq!(*borrowed, [7; 1000]);
    drop(borrowed);
    let process = builder().fork(|()| (), ()).expect("a fork");
    assert!(process.join().is_ok());
}

fn the_method_must_fit_the_call() {
    let error = builder()
        .start_method(StartMethod::Spawn)
        .fork(|x: u32| x, 5)
        .unwrap_err();
    assert_eq!(Error::from_io(error.error()), Some(Error::WrongStartMethod));
}

fn a_copy_knows_who_it_is() {
    let look = |()| {
        let (me, parent) = (current_process(), parent_process().unwrap());
        let nested = builder()
            .fork(|()| current_process().name().to_string(), ())
            .unwrap();
        let names = (
            me.name().to_string(),
            parent.name().to_string(),
            nested.join().unwrap(),
        );
        (names, me.pid(), parent.pid(), parent.is_alive())
    };
    let process = builder().fork(look, ()).unwrap();
    let (name, pid) = (process.name().to_string(), process.pid());
    let (names, seen, parent, alive) = process.join().unwrap();
    assert_eq!(
        names,
        (name.clone(), "MainProcess".to_string(), format!("{name}:1"))
    );
    assert_eq!((seen, parent, alive), (pid, std::process::id(), true));
}

fn ends_are_told_as_for_any_process() {
    let process = builder()
        .fork(|()| assert_eq!(1, 2, "panicked"), ())
        .unwrap();
    assert_eq!(process.wait(), ExitCode::Exited(101));
    let error = process.join().unwrap_err();
    assert!(
        matches!(
            error,
            JoinError::Panicked {
                location: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    let process = builder()
        .fork(
            |()| {
                if true {
                    std::process::exit(3)
                }
            },
            (),
        )
        .unwrap();
    assert!(matches!(process.join(), Err(JoinError::Exited(3))));
    let process = builder()
        .daemon(true)
        .fork(|()| sleep_for_ever(), ())
        .unwrap();
    process.terminate().unwrap();
    assert!(matches!(
        process.join(),
        Err(JoinError::Signaled(libc::SIGTERM))
    ));
}

fn what_is_buffered_is_written_once() {
    fn work(out: Fd) {
        // SAFETY: both numbers are open; standard output is this process's own.
        unsafe { libc::dup2(out.as_raw_fd(), 1) };
        drop(out);
        print!("once");
        // SAFETY: a C string that C's standard output buffers.
        unsafe { libc::printf(c" and once".as_ptr()) };
        builder().fork(|()| (), ()).unwrap().join().unwrap();
    }
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    spawn(work, theirs.into()).unwrap().join().unwrap();
    let mut text = String::new();
    mine.read_to_string(&mut text).unwrap();
    assert_eq!(text, "once and once");
}

fn standard_input_is_empty() {
    let process = builder()
        .fork(|()| std::io::stdin().read(&mut [0; 8]).unwrap(), ())
        .unwrap();
    assert_eq!(process.join().unwrap(), 0);
}

fn a_copy_has_no_children() {
    let sibling = builder()
        .daemon(true)
        .fork(|()| sleep_for_ever(), ())
        .unwrap();
    let closure = |()| {
        let none = active_children().is_empty();
        let alive = sibling.is_alive();
        sibling.kill().unwrap();
        let end = sibling.wait_timeout(LONG);
        (none, alive, format!("{end:?} {:?}", sibling.join()))
    };
    // The handle moves into the closure, and each process drops its own copy.
    let process = builder().fork(closure, ()).unwrap();
    assert_eq!(
        process.join().unwrap(),
        (true, true, "Some(Unknown) Err(Lost)".to_string())
    );
    while !active_children().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a daemon by `fork`, says its number, and has another child that goes on; then it is killed.
fn daemons_end_with_their_parent() {
    fn parent(queue: Queue<u32>) {
        let daemon = builder()
            .daemon(true)
            .fork(|()| sleep_for_ever(), ())
            .unwrap();
        queue.put(daemon.pid()).unwrap();
        sleep_for_ever();
    }
    let queue = Queue::bounded(1).unwrap();
    let process = builder().daemon(true).fork(parent, queue.clone()).unwrap();
    let daemon = queue.get().unwrap();
    assert_eq!(process.wait_timeout(Duration::from_millis(20)), None);
    process.kill().unwrap();
    process.wait();
    wait_for_end(daemon);
}

fn copies_keep_no_daemon_alive() {
    fn parent(queue: Queue<u32>) {
        let daemon = builder()
            .daemon(true)
            .spawn(|()| sleep_for_ever(), ())
            .unwrap();
        // A copy of this process, made while the daemon's pipe is open, that outlives it.
        let copy = |queue: Queue<u32>| {
            parent_process().unwrap().wait_timeout(LONG);
            wait_for_end(daemon.pid());
            queue.put(daemon.pid()).unwrap();
        };
        let _copy = builder().daemon(false).fork(copy, queue.clone()).unwrap();
        queue.put(0).unwrap();
        sleep_for_ever();
    }
    let queue = Queue::bounded(1).unwrap();
    let process = builder().fork(parent, queue.clone()).unwrap();
    assert_eq!(queue.get().unwrap(), 0);
    process.kill().unwrap();
    assert_ne!(queue.get().unwrap(), 0);
    process.wait();
}

/// Somebody else's code forks, and that copy outlives its parent.
fn foreign_copies_keep_no_daemon_alive() {
    fn parent(queue: Queue<u32>) {
        let daemon = builder().daemon(true);
        let spawned = daemon.clone().spawn(|()| sleep_for_ever(), ()).unwrap();
        let forked = daemon.fork(|()| sleep_for_ever(), ()).unwrap();
        // SAFETY: the process has one thread.
        let copy = unsafe { libc::fork() };
        if copy == 0 {
            // What the copy drops is not its own any more.
            let other = std::fs::File::open("/dev/null").unwrap();
            drop((spawned, forked));
            other.metadata().unwrap();
            // SAFETY: takes a number.
            unsafe { libc::sleep(2 * LONG.as_secs() as u32) };
            // SAFETY: ends the process whatever its state.
            unsafe { libc::_exit(0) };
        }
        for pid in [copy as u32, spawned.pid(), forked.pid()] {
            queue.put(pid).unwrap();
        }
        sleep_for_ever();
    }
    let queue = Queue::bounded(3).unwrap();
    let process = spawn(parent, queue.clone()).unwrap();
    let [copy, spawned, forked] = [(); 3].map(|()| queue.get().unwrap());
    process.kill().unwrap();
    process.wait();
    wait_for_end(spawned);
    wait_for_end(forked);
    // SAFETY: a signal; the copy sleeps for longer than this test may take.
    assert_eq!(unsafe { libc::kill(copy as i32, libc::SIGKILL) }, 0);
}

/// With every number of free descriptors: what says an error has not run, what says none has.
fn what_was_refused_has_not_run() {
    fn limited(_: ()) -> Vec<usize> {
        let limit = libc::rlimit {
            rlim_cur: 40,
            rlim_max: 40,
        };
        // SAFETY: reads a value of that type.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        let ran = Queue::<usize>::bounded(100).unwrap();
        let mut started = Vec::new();
        for (free, daemon) in (0..8).flat_map(|free| [(free, false), (free, true)]) {
            let null = || std::fs::File::open("/dev/null").ok();
            let mut held: Vec<_> = std::iter::from_fn(null).collect();
            held.truncate(held.len() - free);
            let work = |ran: Queue<usize>| ran.put(2 * free + usize::from(daemon)).unwrap();
            let process = builder().daemon(daemon).fork(work, ran.clone());
            drop(held);
            if let Ok(process) = process {
                process.join().unwrap();
                started.push(2 * free + usize::from(daemon));
            }
        }
        assert!(active_children().is_empty());
        let seen: Vec<usize> = std::iter::from_fn(|| ran.try_get().ok()).collect();
        assert_eq!(seen, started);
        started
    }
    let started = spawn(limited, ()).unwrap().join().unwrap();
    assert!(!started.contains(&0) && started.contains(&14) && started.contains(&15));
}

fn a_foreign_fork_is_no_member() {
    let queue = Queue::<u8>::bounded(1).unwrap();
    let daemon = builder()
        .daemon(true)
        .spawn(|()| sleep_for_ever(), ())
        .unwrap();
    // SAFETY: the process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = |error: &std::io::Error| Error::from_io(error) == Some(Error::ForeignFork);
        assert!(refused(spawn(|()| (), ()).unwrap_err().error()));
        assert!(refused(builder().fork(|()| (), ()).unwrap_err().error()));
        assert!(refused(&daemon.kill().unwrap_err()));
        assert!(refused(
            &family::configure(family::Config::new()).unwrap_err()
        ));
        assert!(active_children().is_empty());
        assert!(daemon.is_alive());
        assert_eq!(daemon.wait_timeout(Duration::from_millis(1)), None);
        assert!(queue.try_put(1).is_err());
        drop((daemon, queue));
        // The exit handler of the parent's children has nothing to do here.
        std::process::exit(9);
    }
    let mut status = 0;
    // SAFETY: the status is written to a variable of that type.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(libc::WEXITSTATUS(status), 9);
    assert!(daemon.is_alive());
    daemon.kill().unwrap();
    assert_eq!(daemon.wait(), ExitCode::Signaled(9));
    queue.try_put(1).unwrap();
}

fn nothing_is_left() {
    let before = family::stats();
    for killed in [false, true] {
        let work = |queue: Queue<Vec<u8>>| {
            queue.put(vec![1; 100_000]).unwrap();
            if killed {
                std::process::abort();
            }
            queue
        };
        let queue = Queue::bounded(4).unwrap();
        drop(builder().fork(work, queue.clone()).unwrap().join());
        let fail = |_: Queue<Vec<u8>>| std::process::abort();
        drop(
            spawn(if killed { fail } else { |_| () }, queue)
                .unwrap()
                .join(),
        );
    }
    let after = family::stats();
    assert_eq!(
        (after.bytes_in_use, after.members),
        (before.bytes_in_use, 1)
    );
    assert_eq!(after.objects.get("process"), None);
}
