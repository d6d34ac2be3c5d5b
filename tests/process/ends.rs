//! Waiting for processes, and how they end.

use super::*;

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
