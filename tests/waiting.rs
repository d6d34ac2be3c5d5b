//! What waiting costs: a blocked process leaves the CPU alone, and an item wakes one of those that wait for it.

#![allow(unsafe_code, reason = "to read another process's CPU clock")]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{ExitCode, GetError, Process, Queue};

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);
/// The longest sleep of a process that waits; then it looks around by itself.
const SLICE: Duration = Duration::from_millis(100);

/// One test at a time, and none for ever.
struct Alone(#[allow(dead_code)] MutexGuard<'static, ()>);

fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    static GUARD: std::sync::Once = std::sync::Once::new();
    GUARD.call_once(|| {
        thread::spawn(|| {
            thread::sleep(LONG);
            eprintln!("a test of waiting hangs");
            std::process::abort();
        });
    });
    Alone(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn daemon() -> multiprocess::Builder {
    Process::builder().daemon(true)
}

/// The CPU time that a process has used so far, all its threads together.
fn cpu_time(pid: u32) -> Duration {
    let mut clock = 0;
    // SAFETY: writes to a variable of that type.
    let error = unsafe { libc::clock_getcpuclockid(pid as i32, &raw mut clock) };
    assert_eq!(error, 0, "the clock of {pid}");
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to a variable of that type.
    let done = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(done, 0, "the time of {pid}");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How often a process has gone to sleep so far: its main thread, which is all it has.
fn sleeps(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
    assert_eq!(line("Threads:").map(str::trim), Some("1"));
    line("voluntary_ctxt_switches:")
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

fn is_asleep(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.starts_with(" S")
}

/// Waits until a process, which has said that it will block next, does.
fn wait_until_asleep(pid: u32) {
    while !is_asleep(pid) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn get_for_ever((queue, ready): (Queue<u64>, Queue<()>)) {
    ready.put(()).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

fn put_for_ever((queue, ready): (Queue<u64>, Queue<()>)) {
    ready.put(()).unwrap();
    assert!(queue.put(1).unwrap_err().is_closed());
}

#[test]
fn a_blocked_process_leaves_the_cpu_alone() {
    const WINDOW: Duration = Duration::from_secs(3);
    let _alone = alone();
    let empty = Queue::<u64>::bounded(4).unwrap();
    let full = Queue::<u64>::bounded(1).unwrap();
    full.put(0).unwrap();
    let ready = Queue::bounded(2).unwrap();
    let blocked = [
        (
            "get",
            daemon().spawn(get_for_ever, (empty.clone(), ready.clone())),
        ),
        (
            "put",
            daemon().spawn(put_for_ever, (full.clone(), ready.clone())),
        ),
    ]
    .map(|(name, process)| (name, process.unwrap()));
    for _ in &blocked {
        ready.get().unwrap();
    }
    for (_, process) in &blocked {
        wait_until_asleep(process.pid());
    }
    // Whatever is done once, in the first slices, is over then.
    thread::sleep(3 * SLICE);
    let start = Instant::now();
    let before = blocked
        .each_ref()
        .map(|(_, process)| cpu_time(process.pid()));
    thread::sleep(WINDOW);
    let after = blocked
        .each_ref()
        .map(|(_, process)| cpu_time(process.pid()));
    let elapsed = start.elapsed();
    for (((name, process), before), after) in blocked.iter().zip(before).zip(after) {
        let used = after - before;
        println!("{name}: {used:?} of {elapsed:?}");
        assert!(process.is_alive(), "{name} has ended");
        assert!(used * 1000 < elapsed, "{name} used {used:?} of {elapsed:?}");
        // The clock is one that moves at all: it has counted the start.
        assert!(!before.is_zero());
    }
    empty.close();
    full.close();
    for (_, process) in blocked {
        assert_eq!(process.wait(), ExitCode::Exited(0));
    }
}

fn count((queue, got): (Queue<u64>, Queue<u64>)) {
    got.put(u64::MAX).unwrap();
    for item in queue.iter() {
        got.put(item.unwrap()).unwrap();
    }
}

/// A process that sleeps ends its sleep when it is woken or when its slice is over; each time it has nothing to do, it
/// goes to sleep again, and the kernel counts that. So the count of all, less what the slices account for, says how many
/// were woken.
#[test]
fn an_item_wakes_one_of_many() {
    const WAITERS: usize = 64;
    const ITEMS: u64 = 100;
    let _alone = alone();
    let queue = Queue::<u64>::bounded(WAITERS).unwrap();
    let got = Queue::<u64>::bounded(WAITERS).unwrap();
    let start = || daemon().spawn(count, (queue.clone(), got.clone())).unwrap();
    let waiters: Vec<Process<()>> = (0..WAITERS).map(|_| start()).collect();
    for _ in &waiters {
        assert_eq!(got.get().unwrap(), u64::MAX);
    }
    let all_asleep = || {
        waiters
            .iter()
            .for_each(|waiter| wait_until_asleep(waiter.pid()))
    };
    let all_sleeps = || {
        waiters
            .iter()
            .map(|waiter| sleeps(waiter.pid()))
            .sum::<u64>()
    };
    all_asleep();
    thread::sleep(3 * SLICE);

    // (woken, the most that the slices account for)
    let batch = || {
        let (before, begin) = (all_sleeps(), Instant::now());
        for item in 0..ITEMS {
            queue.put(item).unwrap();
            assert_eq!(got.get().unwrap(), item);
            // Whoever was woken must be asleep again to be woken once more.
            all_asleep();
        }
        let slices = begin.elapsed().as_nanos().div_ceil(SLICE.as_nanos()) as u64 + 1;
        (all_sleeps() - before, slices * WAITERS as u64)
    };
    // When something else held the machine up, the slices hide what is looked for: then again.
    let (woken, by_themselves) = loop {
        let (woken, by_themselves) = batch();
        println!("{woken} sleeps for {ITEMS} items and at most {by_themselves} slices");
        if by_themselves < ITEMS * WAITERS as u64 / 4 {
            break (woken, by_themselves);
        }
    };
    assert!(woken >= ITEMS, "nobody slept");
    // One that is woken in vain, because another had just looked, is no flaw: so two an item.
    assert!(
        woken <= 2 * ITEMS + by_themselves,
        "{ITEMS} items woke {woken} times, the slices account for {by_themselves}"
    );
    queue.close();
    for waiter in waiters {
        assert_eq!(waiter.wait(), ExitCode::Exited(0));
    }
}
