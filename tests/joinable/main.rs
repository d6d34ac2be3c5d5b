//! Queues that are waited for, between real processes: what consumers did not finish when they were killed is done by others
//! or reported, and nobody waits for ever.

use std::thread;
use std::time::Duration;

use multiprocess::{
    GetError, JoinError, JoinableQueue, OnDeath, Pipe, PipeSender, Queue, QueueJoinError,
    TaskDoneError,
};

#[path = "../common/children.rs"]
mod children;
#[path = "../common/guard.rs"]
mod guard;

use children::{reap, start};
use guard::{LONG, watch};

const SOON: Duration = Duration::from_millis(20);

/// Gets a number, says so, and never finishes it.
fn take_and_stay((jobs, told): (JoinableQueue<u64>, Queue<u64>)) {
    let job = jobs.get().unwrap();
    told.put(job).unwrap();
    thread::sleep(LONG);
}

#[test]
fn daemons_work_until_everything_is_done() {
    let _watch = watch();
    fn work((jobs, results): (JoinableQueue<u64>, Queue<u64>)) {
        while let Ok(job) = jobs.get() {
            if job > 1 {
                jobs.put(job / 2).unwrap();
            }
            results.put(1).unwrap();
            jobs.task_done().unwrap();
        }
    }
    let jobs = JoinableQueue::bounded(1000).unwrap();
    let results = Queue::bounded(10_000).unwrap();
    let workers = [(); 3].map(|()| start(work, (jobs.clone(), results.clone())));
    for round in 1..=5 {
        for _ in 0..200 {
            jobs.put(16).unwrap();
        }
        assert_eq!(jobs.join(), Ok(()));
        assert_eq!(results.len(), round * 200 * 5);
    }
    // They need no end of their own, but can have one.
    jobs.close();
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn what_the_dead_had_is_done_by_another() {
    let _watch = watch();
    let jobs = JoinableQueue::bounded(4).unwrap();
    let told = Queue::bounded(4).unwrap();
    jobs.put(1).unwrap();
    jobs.put(2).unwrap();
    let victim = start(take_and_stay, (jobs.clone(), told.clone()));
    assert_eq!(told.get().unwrap(), 1);
    assert_eq!(
        jobs.task_done(),
        Err(TaskDoneError::TooMany),
        "it is not ours"
    );
    assert_eq!(jobs.join_timeout(SOON), Err(QueueJoinError::TimedOut));
    victim.kill().unwrap();
    // It waits for room, for tasks, and for the dead.
    let (mut got, mut waited) = (Vec::new(), 0);
    while got.len() < 2 {
        match jobs.get_timeout(SOON * 10) {
            Ok(job) => got.push(job),
            Err(_) => waited += 1,
        }
        assert!(waited < 100);
    }
    got.sort();
    assert_eq!(got, [1, 2]);
    jobs.task_done().unwrap();
    assert_eq!(jobs.join_timeout(SOON), Err(QueueJoinError::TimedOut));
    jobs.task_done().unwrap();
    assert_eq!(jobs.join(), Ok(()));
    reap(victim);
}

/// What has one owner goes with him.
#[test]
fn what_cannot_be_given_again_is_reported() {
    type Jobs = JoinableQueue<PipeSender<u8>>;
    fn take((jobs, told): (Jobs, Queue<u64>)) {
        let _job = jobs.get().unwrap();
        told.put(0).unwrap();
        thread::sleep(LONG);
    }
    let _watch = watch();
    let jobs: Jobs = JoinableQueue::bounded(4).unwrap();
    let told = Queue::bounded(4).unwrap();
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    jobs.put(sender).unwrap();
    let victim = start(take, (jobs.clone(), told.clone()));
    assert_eq!(told.get().unwrap(), 0);
    victim.kill().unwrap();
    assert!(matches!(jobs.get(), Err(GetError::Decode(_))));
    assert_eq!(jobs.join(), Err(QueueJoinError::Lost(1)));
    assert!(receiver.recv().is_err());
    reap(victim);
}

/// Nobody else is there: the one who waits finds out by himself that nothing is to be waited for.
#[test]
fn what_the_dead_had_is_reported() {
    let _watch = watch();
    let jobs = JoinableQueue::bounded_with(4, OnDeath::Report).unwrap();
    let told = Queue::bounded(4).unwrap();
    for round in 1..=3 {
        jobs.put(1).unwrap();
        let victim = start(take_and_stay, (jobs.clone(), told.clone()));
        told.get().unwrap();
        victim.kill().unwrap();
        assert_eq!(jobs.join(), Err(QueueJoinError::Lost(round)));
        assert!(matches!(jobs.try_get(), Err(GetError::Empty)));
        reap(victim);
    }
}

#[test]
fn a_task_that_kills_is_given_up() {
    let _watch = watch();
    fn work(jobs: JoinableQueue<u64>) {
        while let Ok(job) = jobs.get_task() {
            if *job == 13 {
                std::process::abort();
            }
        }
    }
    let jobs = JoinableQueue::bounded_with(100, OnDeath::Redeliver { max: 2 }).unwrap();
    for job in 0..50 {
        jobs.put(job).unwrap();
    }
    let workers = [(); 5].map(|()| start(work, jobs.clone()));
    assert_eq!(jobs.join(), Err(QueueJoinError::Lost(1)));
    jobs.close();
    let ends = workers.map(|worker| worker.join());
    let crashed = ends
        .iter()
        .filter(|end| matches!(end, Err(JoinError::Signaled(libc::SIGABRT))));
    assert_eq!(crashed.count(), 3, "{ends:?}");
}

/// Who finds the queue closed and drained waits for tasks that may come back.
#[test]
fn tasks_come_back_to_who_has_none_at_the_end() {
    let _watch = watch();
    let jobs = JoinableQueue::bounded(4).unwrap();
    let told = Queue::bounded(4).unwrap();
    jobs.put(1).unwrap();
    let victim = start(take_and_stay, (jobs.clone(), told.clone()));
    told.get().unwrap();
    jobs.close();
    assert!(matches!(jobs.get_timeout(SOON), Err(GetError::Empty)));
    fn take_all(jobs: JoinableQueue<u64>) -> Vec<u64> {
        let mut all = Vec::new();
        while let Ok(job) = jobs.get_task() {
            all.push(*job);
        }
        all
    }
    let heir = start(take_all, jobs.clone());
    thread::sleep(SOON);
    victim.kill().unwrap();
    assert_eq!(jobs.join(), Ok(()));
    assert_eq!(heir.join().unwrap(), [1]);
    assert!(matches!(jobs.get(), Err(GetError::Closed)));
    reap(victim);
}

/// One whose holder puts more before it says done, killed at any moment: nothing is lost, and `join` ends.
#[test]
fn everything_is_done_at_least_once_whoever_is_killed() {
    const JOBS: u64 = 3000;
    const KILLS: usize = 40;
    let _watch = watch();
    fn work((jobs, done): (JoinableQueue<(u64, Vec<u8>)>, Queue<u64>)) {
        while let Ok(job) = jobs.get_task() {
            let (number, bytes) = &*job;
            assert_eq!(*bytes, vec![*number as u8; (*number % 500) as usize]);
            if done.put(*number).is_err() {
                return;
            }
        }
    }
    let on_death = OnDeath::Redeliver { max: u8::MAX };
    let jobs = JoinableQueue::bounded_with(8, on_death).unwrap();
    let done = Queue::bounded(2 * JOBS as usize).unwrap();
    let begin = || start(work, (jobs.clone(), done.clone()));
    let mut workers = vec![begin(), begin(), begin()];
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..JOBS {
                let bytes = vec![number as u8; (number % 500) as usize];
                jobs.put((number, bytes)).unwrap();
            }
        });
        for kill in 0..KILLS {
            thread::sleep(SOON / 10 * (kill as u32 % 4));
            let victim = workers.remove(0);
            workers.push(begin());
            victim.kill().unwrap();
            if kill % 2 == 0 {
                reap(victim);
            }
        }
    });
    assert_eq!(jobs.join(), Ok(()));
    jobs.close();
    let mut times = vec![0; JOBS as usize];
    while let Ok(number) = done.try_get() {
        times[number as usize] += 1;
    }
    let never = times.iter().filter(|times| **times == 0).count();
    let again: usize = times.iter().map(|times| times - 1).sum();
    assert_eq!(never, 0);
    assert!(
        again <= KILLS,
        "{again} were done again, after {KILLS} deaths"
    );
    for worker in workers {
        worker.join().unwrap();
    }
}
