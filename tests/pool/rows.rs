//! Python's `Pool` row by row: which test holds what, and what no other one does. Where this pool differs, the row says how.
//!
//! | row | here | test |
//! |---|---|---|
//! | 0 processes, 0 tasks a child | `InvalidCapacity` | `endings::nobody_works_in_no_pool` |
//! | a worker cannot be started | the error; those that were started end | `a_pool_that_cannot_start_leaves_nobody` |
//! | workers are daemons, no pool in a pool | daemons with pools of their own | `endings::a_worker_has_a_pool_of_its_own` |
//! | apply, map, starmap, imap, their `_async` | several arguments are a tuple | `calls::results_come_back`, `maps_keep_the_order` |
//! | the usual chunk of `map` | the same; no items: no results | `pool::tests::the_usual_chunk` (unit), `calls::maps_keep_the_order` |
//! | a chunk of 0: silently nothing | `InvalidChunk` | `calls::errors_are_those_of_their_tasks` |
//! | `imap` feeds without limit, from a thread | `backlog`, in who asks | `endings::endless_input_is_taken_as_it_is_needed` |
//! | after close or terminate: error | `Closed`, its callback too | `calls::a_pool_that_is_closed_finishes`, `nothing_is_taken_after_the_end` |
//! | close, join, in this order, again and again | the same | `endings::join_comes_after_close` |
//! | terminate: results never come | `Cancelled` | `calls::termination_cancels` |
//! | end of `with`: terminated | so it is when dropped | `a_pool_that_is_dropped_is_terminated` |
//! | get with a timeout, again and again, its error each time | the same | `endings::what_has_not_begun_can_be_cancelled`, `outcomes_can_be_asked_for_again` |
//! | successful before it is ready: error | `None` | the same |
//! | map runs all, then the first error that came | the first by position | `a_map_runs_all_whatever_fails` |
//! | imap: an error loses its chunk | only its item | `calls::errors_are_those_of_their_tasks` |
//! | the input's own error at its position | its panic, when it is asked | `a_panic_of_the_input_comes_at_its_place` |
//! | `next(timeout)` with chunks of 1 only | with any | `waiting_for_the_next_of_a_chunk` |
//! | callbacks in order; one that raises kills the pool | harms nobody | `endings::callbacks_come_in_order_and_harm_nobody` |
//! | exit in a task: it hangs | `WorkerDied` | `deaths::each_way_to_die_costs_one_task` |
//! | a killed worker: it hangs | `WorkerDied` | the same, `tests/sweep`, `tests/pool_soak` |
//! | an initializer that raises: without end | the pool's error | `endings::an_initializer_that_fails_is_reported`, `promises::an_initializer_that_exits_..` |
//! | maxtasksperchild counts chunks | tasks | `deaths::workers_that_have_done_enough_are_replaced` |
//! | what does not encode or decode | its task's error | `endings::what_does_not_encode_is_its_task_s_error` |
//!
//! Guarantees: deaths 1, 2 (`deaths`); results 13 (`endings::what_does_not_encode..`, `callbacks..`); ends 14 (`calls::termination_cancels`,
//! `promises::callbacks_come_once..`); replacements 15 (`deaths::workers_that_have_done_enough..`); initializers 16; orphans 17
//! (`deaths::workers_die_with_their_parent`); Ctrl-C 18 (`endings::ctrl_c..`, `promises::ctrl_c..`); memory 22 (`endings::endless_input..`).

use crate::guard::watch;
use multiprocess::{Pool, Queue, TaskError, active_children};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

fn picky(n: u32) -> u32 {
    assert!(n % 10 != 3, "not {n}");
    n
}

#[test]
fn a_pool_that_cannot_start_leaves_nobody() {
    let _watch = watch();
    fn starve(_: ()) -> usize {
        // Enough descriptors for some workers.
        let limit = getrlimit(Resource::Nofile);
        let few = Rlimit {
            current: Some(40),
            ..limit
        };
        setrlimit(Resource::Nofile, few).unwrap();
        Pool::new(100).unwrap_err();
        let left = active_children().len();
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.map(picky, 0..3).unwrap(), [0, 1, 2]);
        left
    }
    let process = multiprocess::spawn(starve, ()).unwrap();
    assert_eq!(process.join().unwrap(), 0);
}

#[test]
fn nothing_is_taken_after_the_end() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    pool.terminate();
    pool.terminate();
    assert!(matches!(pool.apply(picky, 1), Err(TaskError::Closed)));
    assert!(matches!(pool.map(picky, 0..3), Err(TaskError::Closed)));
    let result = pool.map_async(picky, 0..3);
    assert!(matches!(result.get(), Err(TaskError::Closed)));
    let outcomes: Vec<_> = pool.imap(picky, 0..3).collect();
    assert!(matches!(outcomes[..], [Err(TaskError::Closed)]));
}

#[test]
fn a_pool_that_is_dropped_is_terminated() {
    let _watch = watch();
    let pool = Pool::new(2).unwrap();
    let begun = Queue::bounded(1).unwrap();
    let sleep = |begun: Queue<u32>| {
        begun.put(std::process::id()).unwrap();
        thread::sleep(Duration::from_secs(1000));
    };
    let result = pool.apply_async(sleep, begun.clone());
    let pid = begun.get().unwrap();
    drop(pool);
    assert!(matches!(result.get(), Err(TaskError::Cancelled)));
    assert!(!active_children().iter().any(|child| child.pid() == pid));
}

#[test]
fn outcomes_can_be_asked_for_again() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let result = pool.apply_async(picky, 3);
    for _ in 0..3 {
        let error = result.get_timeout(Duration::MAX).unwrap_err();
        assert!(matches!(error, TaskError::Panicked { message, .. } if message == "not 3"));
    }
    assert_eq!(result.successful(), Some(false));
}

#[test]
fn a_map_runs_all_whatever_fails() {
    let _watch = watch();
    fn count((n, ran): (u32, Queue<u32>)) -> u32 {
        ran.put(n).unwrap();
        // The first to fail is not the first to be found out.
        if n == 3 {
            thread::sleep(Duration::from_millis(50));
        }
        picky(n)
    }
    let pool = Pool::new(2).unwrap();
    let ran = Queue::bounded(100).unwrap();
    let error = pool.map_chunked(count, (0..50).map(|n| (n, ran.clone())), 2);
    assert!(matches!(error, Err(TaskError::Panicked { message, .. }) if message == "not 3"));
    assert_eq!(ran.len(), 50);
}

#[test]
fn a_panic_of_the_input_comes_at_its_place() {
    let _watch = watch();
    let pool = Pool::builder().processes(1).backlog(1).build().unwrap();
    let input = (0..10).map(|n| if n == 5 { panic!("no input") } else { n });
    let mut outcomes = pool.imap(|n: u32| n, input);
    for n in 0..5 {
        assert_eq!(outcomes.next().unwrap().unwrap(), n);
    }
    catch_unwind(AssertUnwindSafe(|| outcomes.next())).unwrap_err();
    // It can be asked for more, as far as the iterator can.
    let rest: Vec<u32> = outcomes.flatten().collect();
    assert_eq!(rest, [6, 7, 8, 9]);
}

#[test]
fn waiting_for_the_next_of_a_chunk() {
    let _watch = watch();
    let pool = Pool::new(1).unwrap();
    let go = Queue::bounded(4).unwrap();
    let mut outcomes =
        pool.imap_chunked(|go: Queue<u32>| go.get().unwrap(), vec![go.clone(); 4], 2);
    let early = outcomes.next_timeout(Duration::from_millis(5));
    assert!(matches!(early, Some(Err(TaskError::TimedOut))));
    for n in 0..4 {
        go.put(n).unwrap();
    }
    for n in 0..4 {
        let outcome = outcomes.next_timeout(Duration::MAX).unwrap();
        assert_eq!(outcome.unwrap(), n);
    }
    assert!(outcomes.next_timeout(Duration::MAX).is_none());
}
