//! Queues without a bound between processes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use multiprocess::{
    Bytes, GetError, JoinableQueue, OnDeath, Pod, Process, PutError, Queue, QueueJoinError,
    Receiver, family, spawn, unbounded_channel,
};

/// The guard of waits that must end: far longer than any of them needs.
const LONG: Duration = Duration::from_secs(60);
/// The size of a segment.
const SEGMENT: u64 = 32 * 1024;

/// The tests of this file share the family's books.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn in_use() -> u64 {
    family::stats().bytes_in_use
}

fn end<R: serde::Serialize + serde::de::DeserializeOwned>(process: Process<R>) {
    assert!(process.wait_timeout(LONG).is_some(), "it hangs");
}

/// Waits until this is so.
fn until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < LONG, "it does not come");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_million_numbers_wait_for_a_consumer() {
    fn consume(queue: Queue<u64>) {
        for due in 0..1_000_000 {
            assert_eq!(queue.get_timeout(LONG).unwrap(), due);
        }
    }
    let _alone = alone();
    let before = in_use();
    let queue = Queue::unbounded().unwrap();
    let new = in_use();
    for number in 0..1_000_000 {
        queue.put(number).unwrap();
    }
    assert_eq!(queue.len(), 1_000_000);
    let full = in_use() - new;
    assert!(full <= 64 << 20, "{full} bytes");
    spawn(consume, queue.clone()).unwrap().join().unwrap();
    assert_eq!(queue.len(), 0);
    // This process was in the last one when it put the last number.
    assert_eq!(in_use(), new);
    drop(queue);
    assert_eq!(in_use(), before);
}

#[test]
fn everything_arrives_once_and_in_its_order() {
    const EACH: u64 = 30_000;
    fn produce((queue, who): (Queue<(u64, u64)>, u64)) {
        let mut i = 0;
        while i < EACH {
            if i % 3 == 0 {
                i += queue
                    .put_many((i..EACH.min(i + 50)).map(|i| (who, i)))
                    .unwrap() as u64;
            } else {
                queue.put((who, i)).unwrap();
                i += 1;
            }
        }
    }
    fn consume(queue: Queue<(u64, u64)>) -> u64 {
        let (mut next, mut count) = ([0; 3], 0);
        loop {
            let batch = match queue.get_many(100) {
                Ok(batch) => batch,
                Err(error) if matches!(error.cause, GetError::Closed) => return count,
                Err(error) => panic!("{error:?}"),
            };
            for (who, i) in batch {
                assert!(next[who as usize] <= i, "out of order");
                next[who as usize] = i + 1;
                count += 1;
            }
        }
    }
    let _alone = alone();
    let before = in_use();
    let queue = Queue::unbounded().unwrap();
    let consumers: Vec<_> = (0..2)
        .map(|_| spawn(consume, queue.clone()).unwrap())
        .collect();
    let producers: Vec<_> = (0..3)
        .map(|who| spawn(produce, (queue.clone(), who)).unwrap())
        .collect();
    for producer in producers {
        producer.join().unwrap();
    }
    queue.close();
    let counts = consumers
        .into_iter()
        .map(|consumer| consumer.join().unwrap());
    assert_eq!(counts.sum::<u64>(), 3 * EACH);
    drop(queue);
    assert_eq!(in_use(), before);
}

/// A process that does nothing more keeps what it is in, and nothing else.
#[test]
fn an_idle_process_keeps_two_segments_at_most() {
    fn idle((queue, told): (Queue<u64>, Queue<()>)) {
        queue.get_timeout(LONG).unwrap();
        queue.put(0).unwrap();
        told.put(()).unwrap();
        sleep(LONG);
    }
    let _alone = alone();
    let queue = Queue::unbounded().unwrap();
    let told = Queue::bounded(1).unwrap();
    queue.put_many(0..3000).unwrap();
    let idler = spawn(idle, (queue.clone(), told.clone())).unwrap();
    told.get_timeout(LONG).unwrap();
    let new = Queue::<u64>::unbounded().unwrap();
    let cost = in_use();
    drop(new);
    let cost = cost - in_use();
    for _ in 0..5 {
        queue.put_many(0..10_000).unwrap();
        let drained = std::iter::from_fn(|| queue.try_get().ok()).count();
        assert!(drained >= 10_000);
    }
    let with_idler = in_use();
    idler.kill().unwrap();
    end(idler);
    let without = in_use();
    assert!(
        with_idler - without >= 2 * SEGMENT,
        "{with_idler} {without}"
    );
    let told_too = in_use();
    drop((queue, told));
    assert!(
        told_too - in_use() < cost + SEGMENT,
        "what it kept was freed"
    );
}

/// Producers and consumers that are killed again and again: what was put is got once, and nothing stays.
#[test]
fn the_books_balance_after_many_kills() {
    fn produce((queue, who): (Queue<(u64, u64)>, u64)) {
        for i in 0.. {
            queue.put((who, i)).unwrap();
        }
    }
    fn consume((queue, sums): (Queue<(u64, u64)>, Queue<u64>)) {
        // Each message that was got is told of; the last one may die with its consumer.
        for item in queue.iter() {
            sums.put(item.unwrap().0).unwrap();
        }
    }
    let _alone = alone();
    let before = in_use();
    let queue = Queue::unbounded().unwrap();
    let told = Queue::unbounded().unwrap();
    let mut kills = 0;
    for round in 0..30 {
        let producers: Vec<_> = (0..2)
            .map(|i| spawn(produce, (queue.clone(), 2 * round + i)).unwrap())
            .collect();
        let consumers: Vec<_> = (0..2)
            .map(|_| spawn(consume, (queue.clone(), told.clone())).unwrap())
            .collect();
        sleep(Duration::from_millis(3 + round % 5));
        for process in producers.into_iter().chain(consumers) {
            process.kill().unwrap();
            end(process);
            kills += 1;
        }
        while told.try_get().is_ok() {}
    }
    assert_eq!(kills, 120);
    queue.put((u64::MAX, 0)).unwrap();
    queue.close();
    // Those of each producer in their order, without a gap behind the first that is left.
    let mut last = (u64::MAX, 0);
    let mut seen = std::collections::HashMap::new();
    for item in queue.iter() {
        let (who, i) = item.unwrap();
        let next = seen.entry(who).or_insert(i);
        assert!(i >= *next, "{who}: {i} after {next}");
        *next = i + 1;
        last = (who, i);
    }
    assert_eq!(last, (u64::MAX, 0), "what this process put last");
    drop((queue, told));
    assert_eq!(in_use(), before);
}

/// Senders never wait, so they have to learn otherwise that nobody is left.
#[test]
fn senders_learn_of_the_last_receiver_s_death() {
    fn wait((receiver, told): (Receiver<u64>, Queue<()>)) {
        receiver.recv().unwrap();
        told.put(()).unwrap();
        sleep(LONG);
    }
    let _alone = alone();
    let before = in_use();
    let (sender, receiver) = unbounded_channel().unwrap();
    let told = Queue::bounded(1).unwrap();
    sender.send(7).unwrap();
    let process = spawn(wait, (receiver, told.clone())).unwrap();
    told.get_timeout(LONG).unwrap();
    sender.send(8).unwrap();
    process.kill().unwrap();
    let begin = Instant::now();
    let refused = loop {
        match sender.send(9) {
            Ok(()) => assert!(begin.elapsed() < LONG, "nobody tells"),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, PutError::Closed(9)));
    end(process);
    drop((sender, told));
    assert_eq!(in_use(), before);
}

#[test]
fn receivers_learn_of_the_last_sender_s_death() {
    fn send(sender: multiprocess::Sender<u64>) {
        for i in 0..2000 {
            sender.send(i).unwrap();
        }
        std::process::abort();
    }
    let _alone = alone();
    let (sender, receiver) = unbounded_channel().unwrap();
    let process = spawn(send, sender).unwrap();
    let all: Vec<u64> = receiver.iter().map(Result::unwrap).collect();
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
    end(process);
}

#[test]
fn who_sleeps_is_woken() {
    fn sleeper((queue, echo): (Queue<u64>, Queue<u64>)) {
        for number in queue.iter() {
            echo.put(number.unwrap()).unwrap();
        }
    }
    let _alone = alone();
    let (queue, echo) = (Queue::unbounded().unwrap(), Queue::unbounded().unwrap());
    let sleepers: Vec<_> = (0..3)
        .map(|_| spawn(sleeper, (queue.clone(), echo.clone())).unwrap())
        .collect();
    for number in 0..5 {
        sleep(Duration::from_millis(30));
        queue.put(number).unwrap();
        assert_eq!(echo.get_timeout(LONG).unwrap(), number);
    }
    queue.close();
    sleepers.into_iter().for_each(end);
}

#[test]
fn tasks_of_the_dead_come_back() {
    fn crash(queue: JoinableQueue<u64>) {
        queue.get().unwrap();
        std::process::abort();
    }
    let _alone = alone();
    let before = in_use();
    let queue = JoinableQueue::unbounded().unwrap();
    let reported = JoinableQueue::unbounded_with(OnDeath::Report).unwrap();
    for number in 0..1500 {
        queue.put(number).unwrap();
        reported.put(number).unwrap();
    }
    end(spawn(crash, queue.clone()).unwrap());
    end(spawn(crash, reported.clone()).unwrap());
    let mut all: Vec<u64> =
        std::iter::from_fn(|| queue.try_get_task().ok().map(|task| *task)).collect();
    all.sort();
    assert_eq!(all, (0..1500).collect::<Vec<_>>());
    assert_eq!(queue.join_timeout(LONG), Ok(()));
    while reported.try_get_task().is_ok() {}
    assert_eq!(reported.join_timeout(LONG), Err(QueueJoinError::Lost(1)));
    drop((queue, reported));
    assert_eq!(in_use(), before);
}

#[test]
fn all_that_can_be_in_a_queue_goes_through() {
    fn copy((from, to): (Queue<Bytes>, Queue<[u8; 3], Pod>)) {
        while let Ok(frame) = from.get_ref() {
            to.put([frame[0], frame.len() as u8, (frame.len() >> 8) as u8])
                .unwrap();
        }
    }
    let _alone = alone();
    let before = in_use();
    let (from, to) = (
        Queue::<Bytes>::bounded(1).unwrap(),
        Queue::unbounded_pod().unwrap(),
    );
    let process = spawn(copy, (from.clone(), to.clone())).unwrap();
    for len in [1, 100, 121, 5000, 300_000] {
        let mut frame = from.loan(len).unwrap();
        frame[0] = 7;
        frame.put().unwrap();
        assert_eq!(
            to.get_timeout(LONG).unwrap(),
            [7, len as u8, (len >> 8) as u8]
        );
    }
    from.close();
    end(process);
    // A queue that holds what another one of its kind is sent through.
    let outer = Queue::<Queue<[u8; 3], Pod>>::unbounded().unwrap();
    outer.put(to).unwrap();
    outer.get().unwrap().put([1; 3]).unwrap();
    drop((from, outer));
    until(|| in_use() == before);
}
