//! Workers that die: exactly the task that was running is lost.

use crate::guard::watch;
use crate::signals::wait_until_ended;
use multiprocess::{ExitCode, Pool, Process, Queue, TaskError};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::process::id;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// Ends its worker in some way, or doubles.
fn risky(n: i32) -> i32 {
    match n {
        -1 => std::process::abort(),
        -2 => std::process::exit(0),
        -3 => std::process::exit(7),
        -4 => kill(id()),
        _ => {}
    }
    2 * n
}

#[test]
fn each_way_to_die_costs_one_task() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let ends = [
        (-1, ExitCode::Signaled(6)),
        (-2, ExitCode::Exited(0)),
        (-3, ExitCode::Exited(7)),
        (-4, ExitCode::Signaled(9)),
    ];
    for (n, expected) in ends {
        let results: Vec<_> = [1, 2, n, 3, 4]
            .iter()
            .map(|n| pool.apply_async(risky, *n))
            .collect();
        for (i, result) in results.iter().enumerate() {
            match result.get() {
                Err(TaskError::WorkerDied { pid, exit }) => {
                    assert_eq!((i, exit), (2, expected));
                    assert_ne!(pid, id());
                }
                Ok(double) => assert_eq!(double, [2, 4, 0, 6, 8][i]),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(results[2].successful(), Some(false));
    }
    assert_eq!(pool.apply(risky, 5).unwrap(), 10);
}

/// A worker dies in a pool that is being closed, and for a while none can be started in its place. Nobody waits for its results.
fn none_for_a_while(_: ()) {
    let pool = Pool::new(1).unwrap();
    let gate = Queue::<()>::bounded(1).unwrap();
    let (told, hear) = mpsc::channel();
    let die = |gate: Queue<()>| {
        gate.get().unwrap();
        std::process::abort()
    };
    let of_death = told.clone();
    let expected = move |error: &TaskError| {
        assert!(matches!(error, TaskError::WorkerDied { .. }));
        of_death.send(-1).unwrap();
    };
    pool.apply_async_with(die, gate.clone(), |()| (), expected);
    for n in 0..3 {
        let told = told.clone();
        let on_ok = move |double: &i32| told.send(*double).unwrap();
        pool.apply_async_with(risky, n, on_ok, |_| ());
    }
    drop(told);
    pool.close();
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(3),
        ..before
    };
    setrlimit(Resource::Nofile, few).unwrap();
    gate.put(()).unwrap();
    assert_eq!(hear.recv(), Ok(-1));
    thread::sleep(Duration::from_millis(100));
    assert!(hear.try_recv().is_err(), "it could start one");
    setrlimit(Resource::Nofile, before).unwrap();
    assert_eq!(hear.iter().collect::<Vec<_>>(), [0, 2, 4]);
    pool.join().unwrap();
}

#[test]
fn who_cannot_be_replaced_while_the_pool_is_closed_is_replaced_later() {
    let _watch = watch();
    // In a process of its own, whose limits they are.
    let process = Process::builder().daemon(true).spawn(none_for_a_while, ());
    process.unwrap().join().unwrap();
}

/// New workers are started, but none of them gets as far as a task.
fn none_that_can_begin(_: ()) {
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.apply(risky, 1).unwrap(), 2);
    let before = getrlimit(Resource::As);
    let little = Rlimit {
        current: Some(300_000_000),
        ..before
    };
    setrlimit(Resource::As, little).unwrap();
    let killed = pool.apply(risky, -4);
    assert!(matches!(killed, Err(TaskError::WorkerDied { .. })));
    assert!(matches!(pool.apply(risky, 2), Err(TaskError::NoWorker)));
    pool.close();
    pool.join().unwrap();
}

#[test]
fn a_pool_whose_workers_cannot_begin_says_so() {
    let _watch = watch();
    let daemon = Process::builder().daemon(true);
    let process = daemon.spawn(none_that_can_begin, ());
    process.unwrap().join().unwrap();
}

#[test]
fn within_a_chunk_too() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 3, 10, 100] {
        let tasks = (0..100).map(|n| if n % 20 == 13 { -4 } else { n });
        let outcomes: Vec<_> = pool.imap_chunked(risky, tasks, chunk).collect();
        assert_eq!(outcomes.len(), 100);
        for (n, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(double) => assert_eq!(double, 2 * n),
                Err(TaskError::WorkerDied { .. }) => assert_eq!(n % 20, 13),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn large_results_before_a_death_arrive() {
    let _watch = watch();
    fn repeat(n: i32) -> Vec<i32> {
        vec![risky(n); 300]
    }
    let pool = Pool::new(1).unwrap();
    let tasks = (0..40).map(|n| if n % 10 == 7 { -4 } else { n });
    let outcomes: Vec<_> = pool.imap_chunked(repeat, tasks, 40).collect();
    for (n, outcome) in (0..).zip(outcomes) {
        assert_eq!(outcome.is_err(), n % 10 == 7);
        assert!(outcome.is_err() || outcome.unwrap() == vec![2 * n; 300]);
    }
}

#[test]
fn queues_as_results_before_a_death_arrive() {
    let _watch = watch();
    fn wrap(n: i32) -> Queue<i32> {
        let queue = Queue::bounded(1).unwrap();
        queue.put(risky(n)).unwrap();
        queue
    }
    let pool = Pool::new(2).unwrap();
    let tasks = (0..20).map(|n| if n == 5 { -4 } else { n });
    let outcomes: Vec<_> = pool.imap_chunked(wrap, tasks, 10).collect();
    for (n, outcome) in (0..).zip(outcomes) {
        match outcome {
            Ok(queue) => assert_eq!(queue.get().unwrap(), 2 * n),
            Err(_) => assert_eq!(n, 5),
        }
    }
}

#[test]
fn retries_run_it_again() {
    let _watch = watch();
    fn third_time_lucky(tries: Queue<u32>) -> u32 {
        let n = tries.get().unwrap();
        tries.put(n + 1).unwrap();
        if n < 2 {
            kill(id());
        }
        n
    }
    let tries = Queue::bounded(1).unwrap();
    let pool = Pool::builder().processes(2).retries(2).build().unwrap();
    tries.put(0).unwrap();
    assert_eq!(pool.apply(third_time_lucky, tries.clone()).unwrap(), 2);
    let pool = Pool::builder().processes(2).retries(1).build().unwrap();
    tries.get().unwrap();
    tries.put(0).unwrap();
    let outcome = pool.apply(third_time_lucky, tries.clone());
    assert!(matches!(outcome, Err(TaskError::WorkerDied { .. })));
    assert_eq!(tries.get().unwrap(), 2);
}

#[test]
fn idle_workers_are_replaced() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let pid = pool.apply(|()| id(), ()).unwrap();
        assert!(!seen.contains(&pid));
        seen.push(pid);
        kill(pid);
        // Until it is one, the other may not know.
        while multiprocess::active_children()
            .iter()
            .any(|c| c.pid() == pid)
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn every_task_kills_its_worker() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let results: Vec<_> = (0..50).map(|_| pool.apply_async(risky, -4)).collect();
    pool.close();
    for result in results {
        assert!(matches!(result.get(), Err(TaskError::WorkerDied { .. })));
    }
    pool.join().unwrap();
}

#[test]
fn a_task_that_panics_kills_nobody() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let pid = pool.apply(|()| id(), ()).unwrap();
    for _ in 0..3 {
        let error = pool.apply(|(): ()| -> () { panic!("no") }, ()).unwrap_err();
        assert!(matches!(error, TaskError::Panicked { message, .. } if message == "no"));
    }
    assert_eq!(pool.apply(|()| id(), ()).unwrap(), pid);
}

#[test]
fn workers_that_have_done_enough_are_replaced() {
    let _watch = watch();
    let pool = Pool::builder()
        .processes(2)
        .max_tasks_per_child(3)
        .build()
        .unwrap();
    for chunk in [1, 2, 5, 30] {
        let pids = pool.map_chunked(|_: u32| id(), 0..30, chunk).unwrap();
        let mut counts = std::collections::HashMap::new();
        for pid in &pids {
            *counts.entry(*pid).or_insert(0) += 1;
        }
        assert!(counts.values().all(|count| *count <= 3), "{pids:?}");
    }
    // Also while it is closed.
    let results = pool.map_async_chunked(|_: u32| id(), 0..100, 4);
    pool.close();
    pool.join().unwrap();
    assert_eq!(results.get().unwrap().len(), 100);
}

#[test]
fn workers_die_with_their_parent() {
    let _watch = watch();
    fn parent(pids: Queue<u32>) {
        let pool = Pool::new(2).unwrap();
        for pid in pool.map_chunked(|_: u32| id(), 0..50, 1).unwrap() {
            pids.put(pid).unwrap();
        }
        let _busy = pool.apply_async(|()| thread::sleep(Duration::from_secs(1000)), ());
        pids.put(0).unwrap();
        thread::sleep(Duration::from_secs(1000));
    }
    let pids = Queue::bounded(100).unwrap();
    let parent = multiprocess::Process::builder()
        .daemon(true)
        .spawn(parent, pids.clone())
        .unwrap();
    let workers: Vec<u32> = (0..51).map(|_| pids.get().unwrap()).collect();
    assert_eq!(workers[50], 0);
    parent.kill().unwrap();
    parent.wait();
    for pid in &workers[..50] {
        let alive = || {
            std::fs::exists(format!("/proc/{pid}/exe")).unwrap()
                && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
        };
        while alive() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// While a callback runs the helper sees nothing; before the next one it does.
#[test]
fn the_dead_are_replaced_between_two_callbacks() {
    let _watch = watch();
    fn work((pids, gate): (Queue<u32>, Queue<()>)) {
        pids.put(std::process::id()).unwrap();
        gate.get().unwrap();
        std::process::abort();
    }
    let pool = Pool::new(1).unwrap();
    let (pids, gate) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
    let works = Queue::<u32>::bounded(1).unwrap();
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let first = move |_: &u32| {
        begun.send(()).unwrap();
        may_go.recv().unwrap();
    };
    let (told, hear) = mpsc::channel();
    let get = works.clone();
    let second = move |_: &u32| told.send(get.get().unwrap()).unwrap();
    let never = |error: &TaskError| panic!("{error}");
    pool.apply_async_with(|n: u32| n, 1, first, never);
    has_begun.recv().unwrap();
    // Its outcome is seen here, since the helper is in the first one.
    pool.apply_async_with(|n: u32| n, 2, second, never).wait();
    let _lost = pool.apply_async(work, (pids.clone(), gate.clone()));
    let _next = pool.apply_async(|works: Queue<u32>| works.put(3).unwrap(), works);
    let pid = pids.get().unwrap();
    gate.put(()).unwrap();
    wait_until_ended(pid);
    go.send(()).unwrap();
    assert_eq!(hear.recv(), Ok(3));
}
