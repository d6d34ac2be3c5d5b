//! Queues and channels that both a process and its copy have.

use crate::{LONG, builder, sleep_for_ever, wait_for_end};
use multiprocess::{GetError, JoinableQueue, Queue, channel, family};
use std::time::Duration;

pub fn both_sides_share_their_handles() {
    let (to, from) = (
        Queue::<u64>::bounded(1).unwrap(),
        Queue::<u64>::bounded(1).unwrap(),
    );
    let echo = |()| {
        for number in to.iter() {
            from.put(number.unwrap() + 1).unwrap();
        }
    };
    let process = builder().fork(echo, ()).unwrap();
    for number in 0..100 {
        to.put(number).unwrap();
        assert_eq!(from.get().unwrap(), number + 1);
    }
    to.close();
    process.join().unwrap();
}

/// A channel ends with the last copy of its sender, and with the last process that was copied with one.
pub fn copies_hold_the_ends_that_they_were_born_with() {
    for kill in [false, true] {
        let (sender, receiver) = channel::<u64>(4).unwrap();
        let work = |first| {
            for number in first..first + 100 {
                sender.send(number).unwrap();
            }
            if kill {
                sleep_for_ever();
            }
        };
        let processes = [0, 100].map(|first| builder().daemon(true).fork(work, first).unwrap());
        drop(sender);
        let mut sum = 0;
        for _ in 0..200 {
            sum += receiver.recv().unwrap();
        }
        assert_eq!(sum, (0..200).sum::<u64>());
        if kill {
            assert!(matches!(
                receiver.recv_timeout(Duration::from_millis(20)),
                Err(GetError::Empty)
            ));
            processes.iter().for_each(|process| process.kill().unwrap());
        }
        assert!(matches!(receiver.recv(), Err(GetError::Closed)));
        for process in processes {
            process.wait();
        }
    }
}

pub fn a_captured_handle_may_be_the_only_one() {
    for i in 0..50 {
        let queue = Queue::<u64>::bounded(1).unwrap();
        let work = move |()| {
            queue.put(i).unwrap();
            queue
        };
        // This process drops its copy at once, possibly before the other has begun.
        let process = builder().fork(work, ()).unwrap();
        assert_eq!(process.join().unwrap().get().unwrap(), i);
    }
}

/// Where its parent is in the queue is of no use to it: what the parent leaves behind is freed.
pub fn a_copy_enters_a_queue_without_a_bound_itself() {
    let before = family::stats().bytes_in_use;
    let queue = Queue::unbounded().expect("a queue");
    let go = Queue::<()>::bounded(1).expect("a queue");
    queue.put_many(0..10).expect("put");
    assert_eq!(queue.get().expect("get"), 0);
    let (copy, ready) = (queue.clone(), go.clone());
    let process = builder()
        .fork(
            move |()| {
                ready.get_timeout(LONG).expect("go");
                let sum: u64 = (0..5000)
                    .map(|_| copy.get_timeout(LONG).expect("get"))
                    .sum();
                copy.put_many(0..5000).expect("put");
                (sum, copy.len())
            },
            (),
        )
        .expect("a fork");
    // Far from where they were when the process was copied.
    queue.put_many(10..30_000).expect("put");
    for due in 1..20_000 {
        assert_eq!(queue.get().expect("get"), due);
    }
    go.put(()).expect("put");
    let (sum, len) = process.join().expect("it ends");
    assert_eq!((sum, len), ((20_000..25_000).sum(), 10_000));
    let rest = (25_000..30_000).chain(0..5000);
    assert!(rest.eq(std::iter::from_fn(|| queue.try_get().ok())));
    queue.close();
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    drop((queue, go));
    assert_eq!(family::stats().bytes_in_use, before);
}

/// Not even of a copy that gets the number of the dead process that had the task.
pub fn an_inherited_task_is_not_a_copy_s_own() {
    let tasks = JoinableQueue::<String>::bounded(8).expect("a queue");
    let told = Queue::<u32>::bounded(4).expect("a queue");
    let go = Queue::<()>::bounded(1).expect("a queue");
    tasks.put("first".into()).expect("put");
    let handles = (tasks.clone(), told.clone(), go.clone());
    let holder = builder().fork(
        move |()| {
            let (tasks, told, go) = handles;
            assert_eq!(tasks.get().expect("get"), "first");
            let copied = told.clone();
            let copy = move |()| {
                go.get_timeout(LONG).expect("go");
                let same_number = {
                    let (tasks, told) = (tasks.clone(), told.clone());
                    move |()| {
                        let done = tasks.task_done();
                        told.put(u32::from(done.is_ok())).expect("put");
                    }
                };
                let process = builder().fork(same_number, ()).expect("a fork");
                process.join().expect("it ends");
                told.put(std::process::id()).expect("put");
            };
            let copy = builder().fork(copy, ()).expect("a fork");
            copied.put(copy.pid()).expect("put");
            sleep_for_ever();
        },
        (),
    );
    let holder = holder.expect("a fork");
    let pid = told.get_timeout(LONG).expect("it was copied");
    holder.kill().expect("it runs");
    holder.wait();
    // Its number is free again.
    family::stats();
    assert_eq!(tasks.get_timeout(LONG).expect("again"), "first");
    tasks.task_done().expect("it was got");
    tasks.put("second".into()).expect("put");
    go.put(()).expect("put");
    assert_eq!(told.get_timeout(LONG).expect("it tried"), 0, "not its own");
    assert_eq!(told.get_timeout(LONG).expect("it ends"), pid);
    wait_for_end(pid);
    assert_eq!(tasks.get_timeout(LONG).expect("it is there"), "second");
    tasks.task_done().expect("it was got");
    tasks.join_timeout(LONG).expect("all are finished");
}
