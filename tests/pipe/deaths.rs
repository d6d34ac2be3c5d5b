//! Owners that are killed: nobody waits for the dead, and nobody else can hold a pipe open.

use std::thread;

use multiprocess::{Connection, Pipe, PipeReceiver, PipeSender, RecvError, SendError, family};

use super::{LONG, SOON, reap, signal, start, watch};

fn send_and_stay((mut sender, count): (PipeSender<u32>, u32)) {
    for number in 0..count {
        sender.send(number).unwrap();
    }
    thread::sleep(LONG);
}

#[test]
fn the_sender_is_killed() {
    let _watch = watch();
    for count in [0, 1, 100] {
        let (mut receiver, sender) = Pipe::simplex().unwrap();
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

fn send_and_stay_until((sender, signal): (PipeSender<u32>, i32)) {
    // Ignored signals are inherited: SIGHUP is by what `nohup` starts.
    // SAFETY: the default action is no code of this program.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    send_and_stay((sender, 50));
}

/// What was committed arrives, whatever signal ended the sender.
#[test]
fn what_was_sent_arrives_whatever_the_signal() {
    let _watch = watch();
    for number in [
        libc::SIGTERM,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGABRT,
        libc::SIGHUP,
    ] {
        let (mut receiver, sender) = Pipe::simplex().unwrap();
        let process = start(send_and_stay_until, (sender, number));
        while receiver.recv().unwrap() < 30 {}
        // The others may be sent by now, or not.
        signal(&process, number);
        let rest: Vec<u32> = receiver.iter().map(Result::unwrap).collect();
        assert_eq!(rest, (31..31 + rest.len() as u32).collect::<Vec<_>>());
        process.wait();
    }
}

#[test]
fn the_receiver_is_killed() {
    let _watch = watch();
    fn receive_and_stay((mut receiver, mut told): (PipeReceiver<u32>, PipeSender<()>)) {
        receiver.recv().unwrap();
        told.send(()).unwrap();
        thread::sleep(LONG);
    }
    let (receiver, mut sender) = Pipe::simplex().unwrap();
    let (mut ready, told) = Pipe::simplex().unwrap();
    let process = start(receive_and_stay, (receiver, told));
    sender.send(1).unwrap();
    ready.recv().unwrap();
    process.kill().unwrap();
    let closed = (0..).find_map(|number| sender.send(number).err());
    assert!(matches!(closed, Some(SendError::Closed(_))));
    assert!(matches!(ready.recv(), Err(RecvError::Closed)));
    reap(process);
}

/// In the middle of a long message: what was whole arrives, the rest is dropped.
#[test]
fn killed_in_the_middle_of_a_long_message() {
    let _watch = watch();
    fn send_long(mut sender: PipeSender<()>) {
        sender.send_bytes(b"whole").unwrap();
        sender.send_bytes(&vec![1; 1 << 20]).unwrap();
    }
    fn receive_long(mut receiver: PipeReceiver<()>) {
        assert!(receiver.recv_bytes_timeout(LONG).is_ok());
        // A part of it.
        receiver.poll(std::time::Duration::from_micros(10));
        thread::sleep(LONG);
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let process = start(send_long, sender);
    assert_eq!(receiver.recv_bytes().unwrap(), b"whole");
    thread::sleep(SOON);
    process.kill().unwrap();
    assert!(matches!(receiver.recv_bytes(), Err(RecvError::Closed)));
    reap(process);

    let (receiver, mut sender) = Pipe::simplex().unwrap();
    let process = start(receive_long, receiver);
    sender.send_bytes(b"whole").unwrap();
    let killer = thread::spawn(move || {
        thread::sleep(SOON * 2);
        process.kill().unwrap();
        reap(process);
    });
    let closed = (0..).find_map(|_| sender.send_bytes(&vec![1; 1 << 20]).err());
    assert!(matches!(closed, Some(SendError::Closed(()))));
    killer.join().unwrap();
}

/// Nobody waits: also who only tries is told.
#[test]
fn who_never_waits_learns_of_a_death() {
    let _watch = watch();
    let (mut here, there) = Pipe::duplex::<u32, u32>().unwrap();
    fn stay(connection: Connection<u32, u32>) {
        thread::sleep(LONG);
        drop(connection);
    }
    let process = start(stay, there);
    assert!(matches!(here.try_recv(), Err(RecvError::Empty)));
    process.kill().unwrap();
    while !matches!(here.try_recv(), Err(RecvError::Closed)) {
        thread::yield_now();
    }
    while !matches!(here.try_send(1), Err(SendError::Closed(1))) {
        thread::yield_now();
    }
    reap(process);
}

#[test]
fn one_that_is_stopped_is_not_dead() {
    let _watch = watch();
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let process = start(send_and_stay, (sender, 1));
    assert_eq!(receiver.recv().unwrap(), 0);
    signal(&process, libc::SIGSTOP);
    let nothing = receiver.recv_timeout(SOON * 10);
    assert!(matches!(nothing, Err(RecvError::Empty)));
    process.kill().unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    reap(process);
}

/// Children that are started meanwhile, and theirs, hold nothing open.
#[test]
fn brothers_hold_nothing_open() {
    let _watch = watch();
    fn stay(_: ()) {
        thread::sleep(LONG);
    }
    let (mut receiver, sender) = Pipe::simplex::<u32>().unwrap();
    let brother = start(stay, ());
    drop(sender);
    let younger = start(stay, ());
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    for process in [brother, younger] {
        process.kill().unwrap();
        reap(process);
    }
}

/// Processes that pass large messages and ends are killed one after the other: it all comes back.
#[test]
fn after_many_deaths_nothing_is_left() {
    let _watch = watch();
    type Item = (u64, Vec<u8>, Option<PipeSender<u64>>);
    fn send_on(mut sender: PipeSender<Item>) {
        for number in 0.. {
            let (receiver, other) = Pipe::simplex().unwrap();
            let bytes = vec![number as u8; [0, 100, 20_000][number as usize % 3]];
            if sender.send((number, bytes, Some(other))).is_err() {
                return;
            }
            drop(receiver);
        }
    }
    fn receive_on(mut receiver: PipeReceiver<Item>) {
        for item in &mut receiver {
            let (number, bytes, mut other) = item.unwrap();
            assert!(bytes.iter().all(|byte| *byte == number as u8));
            let _ = other.as_mut().map(|other| other.send(number));
        }
    }
    for round in 0..20 {
        let (receiver, sender) = Pipe::simplex::<Item>().unwrap();
        let producer = start(send_on, sender);
        let consumer = start(receive_on, receiver);
        thread::sleep(SOON / 4 * (round % 5));
        if round % 2 == 0 {
            producer.kill().unwrap();
            consumer.join().unwrap();
            reap(producer);
        } else {
            consumer.kill().unwrap();
            producer.join().unwrap();
            reap(consumer);
        }
    }
    assert!(family::stats().members >= 1);
}
