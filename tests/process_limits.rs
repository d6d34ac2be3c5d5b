//! Processes and pools where the family has little room. One test, for a family of its own.

use std::thread;
use std::time::Duration;

use multiprocess::{Error, ExitCode, Pool, Process, Queue, family, spawn};

#[test]
fn shortage_is_an_error_and_leaves_nothing() {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(100));
        std::process::abort();
    });
    family::configure(family::Config::new().max_members(3).arena_limit(8 << 20)).unwrap();
    let before = family::stats();

    let wait = |gate: Queue<()>| drop(gate.get());
    let gate = Queue::bounded(1).unwrap();
    let daemon = Process::builder().daemon(true);
    let mut running: Vec<_> = (0..2)
        .map(|_| daemon.clone().spawn(wait, gate.clone()).unwrap())
        .collect();
    for _ in 0..3 {
        let error = daemon.clone().spawn(wait, gate.clone()).unwrap_err();
        assert_eq!(Error::from_io(error.error()), Some(Error::TooManyMembers));
        assert!(!error.into_inner().is_closed(), "the arguments come back");
    }
    // As soon as one has ended there is room again, whether or not somebody has asked.
    let ended = running.pop().unwrap();
    ended.kill().unwrap();
    while std::fs::read_to_string(format!("/proc/{}/stat", ended.pid()))
        .is_ok_and(|stat| !stat.contains(") Z"))
    {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(spawn(|x: u8| x, 7).unwrap().join().unwrap(), 7);
    assert_eq!(ended.wait(), ExitCode::Signaled(9));
    gate.close();
    assert_eq!(running.pop().unwrap().wait(), ExitCode::Exited(0));

    let error = spawn(|bytes: Vec<u8>| bytes.len(), vec![1; 9 << 20]).unwrap_err();
    assert_eq!(Error::from_io(error.error()), Some(Error::NoMemory));
    assert_eq!(error.into_inner().len(), 9 << 20);
    // A result that finds no room.
    let process = spawn(|len: usize| vec![1_u8; len], 9 << 20).unwrap();
    assert!(matches!(
        process.join(),
        Err(multiprocess::JoinError::Encode(_))
    ));

    drop((gate, ended));
    forgotten_results_do_not_pile_up();
    let after = family::stats();
    assert_eq!(
        (after.bytes_in_use, after.members),
        (before.bytes_in_use, 1)
    );
    assert!(after.objects.is_empty(), "{:?}", after.objects);
}

/// All of them together would not fit into the arena.
fn forgotten_results_do_not_pile_up() {
    fn work(told: Queue<()>) -> Vec<u8> {
        told.put(()).unwrap();
        vec![1; 20_000]
    }
    let pool = Pool::new(1).unwrap();
    let told = Queue::bounded(1).unwrap();
    for _ in 0..2000 {
        drop(pool.apply_async(work, told.clone()));
        told.get().unwrap();
    }
    assert_eq!(pool.apply(|n: u32| n, 1).unwrap(), 1);
    drop((pool, told));
    // The thread that looks after the workers is the last to let go.
    while family::stats().bytes_in_use > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}
