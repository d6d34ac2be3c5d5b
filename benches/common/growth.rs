//! What should cost the same however much there is or has been.

use super::CAPACITY;
use multiprocess::{Process, Queue};
use std::hint;
use std::time::{Duration, Instant};

/// Time to make `count` queues and drop them all.
pub fn make_and_drop(count: usize) -> Duration {
    let begin = Instant::now();
    let queues: Vec<Queue<u64>> = (0..count)
        .map(|_| Queue::bounded(16).expect("a queue"))
        .collect();
    drop(hint::black_box(queues));
    begin.elapsed()
}

/// Time to put a number and get it again `times` times.
pub fn put_and_get(queue: &Queue<u64>, times: u64) -> Duration {
    let begin = Instant::now();
    for i in 0..times {
        queue.put(i).expect("room in the queue");
        assert_eq!(queue.get().expect("a message"), i);
    }
    begin.elapsed()
}

/// An empty queue for [`put_and_get`].
pub fn queue() -> Queue<u64> {
    Queue::bounded(CAPACITY).expect("a queue")
}

/// Processes that wait for a message that never comes.
#[derive(Debug)]
pub struct Idle {
    members: Vec<Process<()>>,
}

fn report_and_wait((here, never): (Queue<u64>, Queue<u64>)) {
    here.put(1).expect("room in the queue");
    let _ = never.get();
}

impl Idle {
    /// So many of them, all waiting by now.
    pub fn start(count: usize) -> Self {
        let here = queue();
        let never = queue();
        let mut idle = Self {
            members: Vec::new(),
        };
        for _ in 0..count {
            let process = Process::builder()
                .daemon(true)
                .spawn(report_and_wait, (here.clone(), never.clone()))
                .expect("a process");
            idle.members.push(process);
        }
        for _ in 0..count {
            let _ = here
                .get_timeout(Duration::from_secs(60))
                .expect("a process at work");
        }
        idle
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for member in &self.members {
            let _ = member.kill();
        }
        for member in &self.members {
            let _ = member.wait();
        }
    }
}

fn put_and_get_for_ever((here, queue): (Queue<u64>, Queue<u64>)) {
    here.put(1).expect("room in the queue");
    for i in 0.. {
        queue.put(i).expect("room in the queue");
        let _ = queue.get().expect("a message");
    }
}

/// Starts `count` processes, one after another, and kills each while it uses `queue`, which is empty again at the end.
pub fn kill(queue: &Queue<u64>, count: usize) {
    let here = self::queue();
    for _ in 0..count {
        let victim = Process::builder()
            .daemon(true)
            .spawn(put_and_get_for_ever, (here.clone(), queue.clone()))
            .expect("a process");
        let began = here.get_timeout(Duration::from_secs(60));
        victim.kill().expect("a process to kill");
        let _ = victim.wait();
        let _ = began.expect("a process at work");
    }
    while queue.try_get().is_ok() {}
}
