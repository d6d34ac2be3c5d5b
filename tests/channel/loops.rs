//! Loops without end markers.

use std::thread;

use multiprocess::{Receiver, RecvError, Sender, channel};

use super::{LONG, SOON, start, watch};

fn produce((sender, first, count): (Sender<Vec<u64>>, u64, u64)) {
    for number in first..first + count {
        // In a slot, in a block.
        let len = if number % 50 == 0 { 2000 } else { 2 };
        sender.send(vec![number; len]).unwrap();
    }
}

fn consume((receiver, sums): (Receiver<Vec<u64>>, Sender<(u64, u64)>)) {
    let (mut count, mut sum) = (0, 0);
    for item in &receiver {
        let item = item.unwrap();
        assert!(item.iter().all(|number| *number == item[0]));
        count += 1;
        sum += item[0];
    }
    sums.send((count, sum)).unwrap();
}

#[test]
fn many_producers_and_consumers_end_without_being_told() {
    const EACH: u64 = 4000;
    const PRODUCERS: u64 = 4;
    let _watch = watch();
    for capacity in [1, 7, 256] {
        let (sender, receiver) = channel(capacity).unwrap();
        let (sums, results) = channel(8).unwrap();
        let each = if capacity == 1 { EACH / 10 } else { EACH };
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|n| start(produce, (sender.clone(), n * each, each)))
            .collect();
        let consumers: Vec<_> = (0..3)
            .map(|_| start(consume, (receiver.clone(), sums.clone())))
            .collect();
        drop((sender, receiver, sums));
        let (mut count, mut sum) = (0, 0);
        for result in &results {
            let result = result.unwrap();
            count += result.0;
            sum += result.1;
        }
        let all = PRODUCERS * each;
        assert_eq!((count, sum), (all, all * (all - 1) / 2));
        for process in producers.into_iter().chain(consumers) {
            process.join().unwrap();
        }
    }
}

/// A process that is at its end has received nothing of what others will send.
#[test]
fn consumers_that_come_late_find_what_was_sent() {
    let _watch = watch();
    let (sender, receiver) = channel(100).unwrap();
    let (sums, results) = channel(1).unwrap();
    start(produce, (sender, 0, 100)).join().unwrap();
    assert!(receiver.is_closed());
    assert_eq!(receiver.len(), 100);
    let consumer = start(consume, (receiver, sums));
    assert_eq!(results.recv().unwrap(), (100, 4950));
    assert!(matches!(results.recv(), Err(RecvError::Closed)));
    consumer.join().unwrap();
}

/// Producers notice that their consumers have had enough.
#[test]
fn producers_end_when_all_consumers_have_left() {
    let _watch = watch();
    fn send_on(sender: Sender<u64>) -> u64 {
        (0..)
            .find(|number| sender.send(*number).is_err())
            .unwrap_or(0)
    }
    fn take((receiver, count): (Receiver<u64>, usize)) -> usize {
        receiver.iter().take(count).count()
    }
    let (sender, receiver) = channel(4).unwrap();
    let producers = [(); 2].map(|()| start(send_on, sender.clone()));
    let consumers = [100, 1000].map(|count| start(take, (receiver.clone(), count)));
    drop(receiver);
    let taken: usize = consumers.map(|c| c.join().unwrap()).iter().sum();
    assert_eq!(taken, 1100);
    assert!(sender.is_closed());
    let sent: u64 = producers.map(|p| p.join().unwrap()).iter().sum();
    assert!((1100..=1104).contains(&sent), "{sent}");
}

/// The wake-up of a drop comes at once: it is not the look after a while that finds it.
#[test]
fn a_drop_wakes_who_waits() {
    let _watch = watch();
    fn receive((receiver, told): (Receiver<u8>, Sender<bool>)) {
        told.send(matches!(
            receiver.recv_timeout(LONG),
            Err(RecvError::Closed)
        ))
        .unwrap();
    }
    let (sender, receiver) = channel(1).unwrap();
    let (told, answer) = channel(1).unwrap();
    let process = start(receive, (receiver, told));
    thread::sleep(SOON);
    drop(sender);
    assert!(answer.recv().unwrap());
    process.join().unwrap();
}
