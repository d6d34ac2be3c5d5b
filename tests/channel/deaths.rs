//! Ends whose holders are killed: nobody waits for the dead, and nobody has to reap them first.

use std::thread;

use multiprocess::{
    Bytes, GetIntoError, Pod, Process, Queue, Receiver, RecvError, SendError, Sender, channel,
    channel_pod,
};

use super::{LONG, SOON, reap, signal, start, watch};

fn send_and_stay((sender, count): (Sender<u32>, u32)) {
    for number in 0..count {
        sender.send(number).unwrap();
    }
    thread::sleep(LONG);
}

fn receive_and_stay((receiver, count, told): (Receiver<u32>, usize, Sender<()>)) {
    assert_eq!(receiver.iter().take(count).count(), count);
    told.send(()).unwrap();
    thread::sleep(LONG);
}

#[test]
fn the_last_sender_is_killed() {
    let _watch = watch();
    for count in [0, 1, 3] {
        let (sender, receiver) = channel(4).unwrap();
        let process = start(send_and_stay, (sender, count));
        for number in 0..count {
            assert_eq!(receiver.recv().unwrap(), number);
        }
        let nothing = receiver.recv_timeout(SOON);
        assert!(matches!(nothing, Err(RecvError::Empty)), "it lives");
        process.kill().unwrap();
        // It is a zombie all the while.
        assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
        reap(process);
    }
}

/// Nobody waits: also who only tries is told, in batches as well as one by one.
#[test]
fn who_only_tries_is_told_of_the_death() {
    let _watch = watch();
    let (sender, receiver) = channel(4).unwrap();
    let process = start(send_and_stay, (sender, 3));
    let mut got = Vec::new();
    while got.len() < 3 {
        got.extend(receiver.recv_many(3).unwrap());
    }
    assert_eq!(got, [0, 1, 2]);
    process.kill().unwrap();
    while matches!(
        receiver.try_recv_many(3).unwrap_err().cause,
        RecvError::Empty
    ) {}
    let over = receiver.recv_many_timeout(3, LONG).unwrap_err().cause;
    assert!(matches!(over, RecvError::Closed));
    reap(process);

    let (sender, receiver) = channel(4).unwrap();
    let (told, ready) = channel(1).unwrap();
    let process = start(receive_and_stay, (receiver, 1, told));
    sender.send_many(0..4).unwrap();
    ready.recv().unwrap();
    process.kill().unwrap();
    let closed = loop {
        match sender.try_send_many(0..4) {
            Err(full) if full.cause.is_full() => {}
            Err(error) => break error.cause,
            Ok(_) => {}
        }
    };
    assert!(matches!(closed, SendError::Closed(())));
    let closed = sender.send_many_timeout([1], LONG).unwrap_err().cause;
    assert!(matches!(closed, SendError::Closed(())));
    reap(process);
}

type Numbers = Sender<[u32; 2], Pod>;

fn send_in_all_forms_and_stay((bytes, numbers, told): (Sender<Bytes>, Numbers, Sender<()>)) {
    bytes.send_bytes(b"one").unwrap();
    let mut loan = numbers.loan().unwrap();
    *loan = [1, 2];
    loan.put().unwrap();
    told.send(()).unwrap();
    thread::sleep(LONG);
}

/// The same for bytes and for messages in place.
#[test]
fn who_only_tries_for_bytes_is_told_of_the_death() {
    let _watch = watch();
    let (bytes, from_bytes) = channel::<Bytes>(4).unwrap();
    let (numbers, from_numbers) = channel_pod(4).unwrap();
    let (told, ready) = channel(1).unwrap();
    let process = start(send_in_all_forms_and_stay, (bytes, numbers, told));
    ready.recv().unwrap();
    process.kill().unwrap();
    let mut buffer = [0; 4];
    assert_eq!(from_bytes.recv_into(&mut buffer).unwrap(), 3);
    assert_eq!(*from_numbers.recv_ref().unwrap(), [1, 2]);
    while matches!(from_bytes.try_recv_bytes(), Err(RecvError::Empty)) {}
    let over = from_bytes.try_recv_into(&mut buffer);
    assert!(matches!(over, Err(GetIntoError::Get(RecvError::Closed))));
    while matches!(from_numbers.try_recv_ref(), Err(RecvError::Empty)) {}
    assert!(matches!(from_numbers.recv(), Err(RecvError::Closed)));
    reap(process);
}

#[test]
fn what_the_last_sender_has_sent_arrives() {
    let _watch = watch();
    let (sender, receiver) = channel(100).unwrap();
    let process = start(send_and_stay, (sender, 100));
    while !receiver.is_full() {
        thread::yield_now();
    }
    process.kill().unwrap();
    let all: Vec<u32> = receiver.iter().map(Result::unwrap).collect();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    reap(process);
}

#[test]
fn the_last_receiver_is_killed() {
    let _watch = watch();
    for count in [0, 1, 3] {
        let (sender, receiver) = channel(4).unwrap();
        let (told, ready) = channel(1).unwrap();
        let process = start(receive_and_stay, (receiver, count, told));
        for number in 0..count as u32 {
            sender.send(number).unwrap();
        }
        ready.recv().unwrap();
        for number in 0..4 {
            sender.send(number).unwrap();
        }
        let full = sender.send_timeout(4, SOON);
        assert!(full.unwrap_err().is_full(), "it lives");
        process.kill().unwrap();
        assert!(matches!(sender.send(5), Err(SendError::Closed(5))));
        assert!(matches!(ready.recv(), Err(RecvError::Closed)));
        reap(process);
    }
}

/// One that asks again and again without ever waiting learns of it as well.
#[test]
fn who_never_waits_learns_of_a_death() {
    let _watch = watch();
    let (sender, receiver) = channel(1).unwrap();
    let process = start(send_and_stay, (sender, 1));
    assert_eq!(receiver.recv().unwrap(), 0);
    process.kill().unwrap();
    while !matches!(receiver.try_recv(), Err(RecvError::Closed)) {
        thread::yield_now();
    }
    reap(process);

    let (sender, receiver) = channel(1).unwrap();
    let process = start(send_and_stay, (sender, 1));
    assert_eq!(receiver.recv().unwrap(), 0);
    process.kill().unwrap();
    while !matches!(receiver.recv_timeout(SOON / 20), Err(RecvError::Closed)) {}
    reap(process);

    let (sender, receiver) = channel(1).unwrap();
    let (told, ready) = channel(1).unwrap();
    let process = start(receive_and_stay, (receiver, 0, told));
    ready.recv().unwrap();
    process.kill().unwrap();
    while !matches!(sender.try_send(1), Err(SendError::Closed(1))) {
        thread::yield_now();
    }
    reap(process);
}

/// Whoever waits finds it out by himself: here neither is the other's parent.
#[test]
fn a_brother_is_killed() {
    let _watch = watch();
    fn count(receiver: Receiver<u32>) -> usize {
        receiver.iter().map(Result::unwrap).count()
    }
    let (sender, receiver) = channel(4).unwrap();
    let producer = start(send_and_stay, (sender, 10));
    let consumer = start(count, receiver.clone());
    // Both are at work, or just beginning: both must do.
    thread::sleep(SOON);
    drop(receiver);
    producer.kill().unwrap();
    let counted = consumer.join().unwrap();
    assert!(counted <= 10);
    reap(producer);
}

/// Killed at all moments of its beginning: also before it has taken its arguments, which its parent still keeps.
#[test]
fn a_child_is_killed_before_it_has_begun() {
    let _watch = watch();
    for round in 0..40 {
        let (sender, receiver) = channel(4).unwrap();
        let process = start(send_and_stay, (sender, 4));
        for _ in 0..round {
            thread::yield_now();
        }
        if round > 20 {
            thread::sleep(SOON * (round - 20) / 200);
        }
        process.kill().unwrap();
        let got: Vec<u32> = receiver.iter().map(Result::unwrap).collect();
        assert_eq!(got, (0..got.len() as u32).collect::<Vec<_>>());
        reap(process);
    }
}

#[test]
fn one_that_is_stopped_is_not_dead() {
    let _watch = watch();
    fn wait_and_leave((sender, release): (Sender<u32>, Receiver<()>)) {
        let _ = release.recv();
        drop(sender);
    }
    let (sender, receiver) = channel(4).unwrap();
    let (hold, release) = channel(1).unwrap();
    let process = start(wait_and_leave, (sender, release));
    signal(&process, libc::SIGSTOP);
    let nothing = receiver.recv_timeout(SOON * 10);
    assert!(matches!(nothing, Err(RecvError::Empty)));
    drop(hold);
    signal(&process, libc::SIGCONT);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    process.join().unwrap();
}

/// The only sender is in a message that nobody can receive any more.
#[test]
fn a_message_of_the_dead_holds_nothing() {
    let _watch = watch();
    fn keep((mut senders, told): (Vec<Sender<u32>>, Sender<()>)) {
        let queue = Queue::bounded(4).unwrap();
        for sender in senders.drain(..) {
            queue.put(sender).unwrap();
        }
        told.send(()).unwrap();
        thread::sleep(LONG);
    }
    let (sender, receiver) = channel::<u32>(1).unwrap();
    let (told, ready) = channel(1).unwrap();
    let process = start(keep, (vec![sender.clone(), sender], told));
    ready.recv().unwrap();
    let nothing = receiver.recv_timeout(SOON);
    assert!(matches!(nothing, Err(RecvError::Empty)), "it lives");
    process.kill().unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    reap(process);
}

/// The same, when it was somebody else who put the message there and lives on.
#[test]
fn a_message_for_the_dead_holds_nothing() {
    let _watch = watch();
    fn own((queue, told): (Queue<Sender<u32>>, Sender<()>)) {
        told.send(()).unwrap();
        thread::sleep(LONG);
        drop(queue);
    }
    let (sender, receiver) = channel::<u32>(1).unwrap();
    let (told, ready) = channel(1).unwrap();
    let queue = Queue::bounded(1).unwrap();
    queue.put(sender).unwrap();
    let process = start(own, (queue, told));
    ready.recv().unwrap();
    process.kill().unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    reap(process);
}

/// Processes at work are killed one after the other and replaced; in the end the loops end.
#[test]
fn the_loops_end_after_many_deaths() {
    const ROUNDS: usize = 40;
    let _watch = watch();
    fn send_on(sender: Sender<(u64, Vec<u8>)>) {
        for number in 0.. {
            let len = [0, 100, 5000][number as usize % 3];
            if sender.send((number, vec![number as u8; len])).is_err() {
                return;
            }
        }
    }
    fn receive_on(receiver: Receiver<(u64, Vec<u8>)>) {
        for item in &receiver {
            let (number, bytes) = item.unwrap();
            assert!(bytes.iter().all(|byte| *byte == number as u8));
        }
    }
    let (sender, receiver) = channel(5).unwrap();
    let mut producers: Vec<Process<()>> = (0..2).map(|_| start(send_on, sender.clone())).collect();
    let mut consumers: Vec<Process<()>> = (0..2)
        .map(|_| start(receive_on, receiver.clone()))
        .collect();
    for round in 0..ROUNDS {
        thread::sleep(SOON / 4 * (round as u32 % 3));
        let (old, new) = if round % 2 == 0 {
            (&mut producers, start(send_on, sender.clone()))
        } else {
            (&mut consumers, start(receive_on, receiver.clone()))
        };
        let killed = old.remove(0);
        old.push(new);
        killed.kill().unwrap();
        if round % 4 < 2 {
            reap(killed);
        }
    }
    drop(sender);
    for process in &producers {
        process.kill().unwrap();
    }
    // With the consumers, until the ring is empty.
    for item in &receiver {
        item.unwrap();
    }
    for consumer in consumers {
        consumer.join().unwrap();
    }
    producers.into_iter().for_each(reap);
}
