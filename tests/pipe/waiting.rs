//! Python's `connection.wait` row by row. (All that can be waited for is `kinds`' matter.)
#![allow(clippy::disallowed_types, reason = "no models here")]

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use multiprocess::{Pipe, PipeReceiver, PipeSender, Waitable, wait};

use super::{LONG, SOON, reap, signal, start, watch};

/// The ready ones, the end among them; none when the time is over. The same twice is a `KeyError` there.
#[test]
fn the_ready_ones_are_told() {
    let _watch = watch();
    let (mut first, mut to_first) = Pipe::simplex::<u8>().unwrap();
    let (second, to_second) = Pipe::simplex::<u8>().unwrap();
    let (third, _to_third) = Pipe::duplex::<u8, u8>().unwrap();
    let all: [&dyn Waitable; 4] = [&first, &second, &third, &first];
    assert_eq!(wait(&all, Some(Duration::ZERO)).unwrap(), []);
    assert_eq!(wait(&all, Some(SOON)).unwrap(), []);
    to_first.send(1).unwrap();
    assert_eq!(wait(&all, None).unwrap(), [0, 3], "the same twice");
    drop(to_second);
    let all: [&dyn Waitable; 3] = [&first, &second, &third];
    assert_eq!(wait(&all, Some(LONG)).unwrap(), [0, 1], "the end counts");
    first.recv().unwrap();
    assert_eq!(wait(&[&first, &third], Some(SOON)).unwrap(), []);
}

/// Connections and processes together, and who waits is told by each.
#[test]
fn processes_and_connections_together() {
    let _watch = watch();
    fn work((mut go, mut told): (PipeReceiver<u8>, PipeSender<u8>)) {
        while let Ok(number) = go.recv() {
            thread::sleep(SOON / 2);
            told.send(number).unwrap();
        }
    }
    let (go, mut tell) = Pipe::simplex().unwrap();
    let (mut answers, told) = Pipe::simplex().unwrap();
    let process = start(work, (go, told));
    for number in 0..5 {
        tell.send(number).unwrap();
        assert_eq!(wait(&[&process, &answers], None).unwrap(), [1]);
        assert_eq!(answers.recv().unwrap(), number);
    }
    assert_eq!(wait(&[&process, &answers], Some(SOON)).unwrap(), []);
    drop(tell);
    assert_eq!(wait(&[&process], None).unwrap(), [0]);
    assert_eq!(wait(&[&answers, &process], None).unwrap(), [0, 1]);
    process.join().unwrap();
}

/// It "retries EINTR": a signal with a handler ends no wait, however many come.
#[test]
fn signals_end_no_wait() {
    let _watch = watch();
    static CAUGHT: AtomicU32 = AtomicU32::new(0);
    extern "C" fn catch(_: libc::c_int) {
        CAUGHT.fetch_add(1, Relaxed);
    }
    type Ends = (PipeReceiver<u8>, PipeReceiver<u8>, PipeSender<u32>);
    fn wait_for_one((first, mut second, mut told): Ends) {
        // SAFETY: the handler counts, and does nothing else.
        unsafe { libc::signal(libc::SIGUSR1, catch as *const () as libc::sighandler_t) };
        let child = start(|()| thread::sleep(LONG), ());
        told.send(0).unwrap();
        // On event counts alone, and beside a descriptor.
        assert_eq!(wait(&[&first, &second], None).unwrap(), [1]);
        assert_eq!(second.recv().unwrap(), 1);
        told.send(CAUGHT.load(Relaxed)).unwrap();
        assert_eq!(wait(&[&first, &child, &second], None).unwrap(), [2]);
        assert_eq!(second.recv().unwrap(), 2);
        told.send(CAUGHT.load(Relaxed)).unwrap();
    }
    let (first, _to_first) = Pipe::simplex().unwrap();
    let (second, mut to_second) = Pipe::simplex().unwrap();
    let (mut tell, told) = Pipe::simplex().unwrap();
    let process = start(wait_for_one, (first, second, told));
    let mut before = tell.recv().unwrap();
    for number in 1..=2 {
        for _ in 0..20 {
            thread::sleep(SOON / 10);
            signal(&process, libc::SIGUSR1);
        }
        assert!(!tell.poll(Duration::ZERO), "it still waits");
        to_second.send(number).unwrap();
        let caught = tell.recv().unwrap();
        assert!(caught > before, "they were caught");
        before = caught;
    }
    process.join().unwrap();
}

/// Who waits for many finds out that one is killed, though nobody says so and nobody reaps it.
#[test]
fn a_death_ends_the_wait() {
    let _watch = watch();
    fn stay(sender: PipeSender<u8>) {
        thread::sleep(LONG);
        drop(sender);
    }
    let (receiver, sender) = Pipe::simplex::<u8>().unwrap();
    let (other, _sender) = Pipe::simplex::<u8>().unwrap();
    let process = start(stay, sender);
    assert_eq!(wait(&[&other, &receiver], Some(SOON)).unwrap(), []);
    process.kill().unwrap();
    assert_eq!(wait(&[&other, &receiver], None).unwrap(), [1]);
    reap(process);
}

/// Many pipes gathered: everything arrives, in order from each.
#[test]
fn many_are_gathered() {
    const EACH: u32 = 200;
    let _watch = watch();
    fn send_all((mut sender, first): (PipeSender<u32>, u32)) {
        for number in first..first + EACH {
            sender.send(number).unwrap();
        }
    }
    let mut receivers = Vec::new();
    let mut processes = Vec::new();
    for me in 0..6 {
        let (receiver, sender) = Pipe::simplex_with_capacity(256).unwrap();
        processes.push(start(send_all, (sender, me * EACH)));
        receivers.push((receiver, me * EACH));
    }
    let mut got = 0;
    while !receivers.is_empty() {
        let all: Vec<&dyn Waitable> = receivers.iter().map(|(r, _)| r as &dyn Waitable).collect();
        for place in wait(&all, None).unwrap().into_iter().rev() {
            let (receiver, next) = &mut receivers[place];
            match receiver.recv() {
                Ok(number) => {
                    assert_eq!(number, *next);
                    *next += 1;
                    got += 1;
                }
                Err(_) => drop(receivers.remove(place)),
            }
        }
    }
    assert_eq!(got, 6 * EACH);
    for process in processes {
        process.join().unwrap();
    }
}
