//! What becomes of children when their parent ends; daemons.

use super::*;

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
            assert!(parent_process().unwrap().wait_timeout(LONG).is_some());
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

/// Parents, children and the process itself, beside something else.
#[test]
fn kin_can_be_waited_for() {
    let _watch = watch();
    fn child((told, go): (Queue<Vec<usize>>, Queue<()>)) {
        let (parent, me) = (parent_process().unwrap(), current_process());
        let some = Some(Duration::from_millis(20));
        told.put(wait(&[&parent, &me], some).unwrap()).unwrap();
        told.put(wait(&[&me], some).unwrap()).unwrap();
        told.put(wait(&[&me, &go, &parent], None).unwrap()).unwrap();
        told.put(wait(&[&me, &parent], None).unwrap()).unwrap();
    }
    fn parent(queues: (Queue<Vec<usize>>, Queue<()>)) {
        let _child = spawn(child, queues).unwrap();
        sleep_for_ever();
    }
    let (told, go) = (Queue::bounded(4).unwrap(), Queue::bounded(1).unwrap());
    let process = spawn(parent, (told.clone(), go)).unwrap();
    assert_eq!(told.get().unwrap(), []);
    assert_eq!(told.get().unwrap(), []);
    let own = active_children();
    let own = own.iter().find(|child| child.pid() == process.pid());
    let own = own.unwrap();
    assert_eq!(wait(&[own], Some(Duration::ZERO)).unwrap(), []);
    process.kill().unwrap();
    assert_eq!(told.get().unwrap(), [2]);
    assert_eq!(told.get().unwrap(), [1]);
    assert_eq!(wait(&[own], None).unwrap(), [0]);
    process.wait();
}
