//! The soak: processes, more than there are CPUs, pass the ends of pipes around, and send and receive with the ends that they have, while
//! one of them is killed every few milliseconds and replaced. Who sends writes down what he begins and what he has sent: from
//! each pipe all of it arrives, once, whole and in order, up to the death of an owner, and nothing else; at the end the memory is
//! as it was.
//!
//! PIPE_SOAK_KILLS says how many are killed (60), SOAK_SEED repeats the choices of a run (not its timing). A test of its own,
//! since it looks at the whole family's memory.

#![allow(clippy::disallowed_types, reason = "the user's own atomics")]

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime};

use multiprocess::{
    Array, Event, ExitCode, GetError, Pipe, PipeReceiver, PipeSender, Process, PutError, Queue,
    RecvError, family,
};

#[path = "common/children.rs"]
mod children;
#[path = "common/guard.rs"]
mod guard;
#[path = "soak/random.rs"]
mod random;

use children::{reap, start};
use random::Random;

const SOON: Duration = Duration::from_millis(20);

const PIPES: u64 = 6;

/// What goes as a value, with a handle: its pipe, its number.
type Item = (u64, u64, Event);

/// An end, the number of its pipe, and of the next message.
type Sending = (u64, PipeSender<Item>, u64);
type Receiving = (u64, PipeReceiver<Item>, u64);

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Pools {
    senders: Queue<Sending>,
    receivers: Queue<Receiving>,
    /// Pipes that are to be replaced.
    over: Queue<u64>,
    books: Books,
}

/// How many messages of each pipe were begun, and how many were sent: one at most is begun and not sent.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Books(Array<AtomicU64>);

impl Books {
    fn begun(&self, pipe: u64) -> &AtomicU64 {
        &self.0.as_atomics()[2 * pipe as usize]
    }

    fn sent(&self, pipe: u64) -> &AtomicU64 {
        &self.0.as_atomics()[2 * pipe as usize + 1]
    }

    /// So many have arrived, and the end.
    fn check(&self, pipe: u64, arrived: u64) {
        let (sent, begun) = (self.sent(pipe).load(SeqCst), self.begun(pipe).load(SeqCst));
        assert!(
            sent <= arrived && arrived <= begun,
            "of pipe {pipe} {arrived} have arrived, {sent} were sent and {begun} begun"
        );
    }
}

/// Every fourth is a value.
fn is_value(number: u64) -> bool {
    number % 4 == 3
}

fn message(pipe: u64, number: u64, len: usize) -> Vec<u8> {
    let mut bytes = [pipe.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.resize(16 + len, (pipe ^ number) as u8);
    bytes
}

fn check(bytes: &[u8], pipe: u64, number: u64) {
    assert_eq!(bytes[..8], pipe.to_le_bytes(), "of another pipe");
    assert_eq!(bytes[8..16], number.to_le_bytes(), "lost, or twice");
    let fill = (pipe ^ number) as u8;
    assert!(bytes[16..].iter().all(|byte| *byte == fill), "torn");
}

fn work((pools, seed): (Pools, u64)) {
    let mut random = Random(seed);
    loop {
        let went = match random.below(2) {
            0 => match pools.senders.get_timeout(SOON) {
                Ok(sending) => send(&pools, sending, &mut random),
                Err(error) => matches!(error, GetError::Empty),
            },
            _ => match pools.receivers.get_timeout(SOON) {
                Ok(receiving) => receive(&pools, receiving, &mut random),
                Err(error) => matches!(error, GetError::Empty),
            },
        };
        if !went {
            return;
        }
    }
}

fn send(pools: &Pools, (pipe, mut sender, mut next): Sending, random: &mut Random) -> bool {
    for _ in 0..random.below(20) {
        pools.books.begun(pipe).store(next + 1, SeqCst);
        match send_one(pipe, &mut sender, next, random) {
            Ok(()) => next += 1,
            Err(PutError::Full(())) => break,
            Err(PutError::Closed(())) => return pools.over.put(pipe).is_ok(),
            Err(error) => panic!("{error:?}"),
        }
        pools.books.sent(pipe).store(next, SeqCst);
    }
    // Also when the pools are closed: then it goes, and the receiver finds the end.
    pools.senders.put((pipe, sender, next)).is_ok()
}

fn send_one(
    pipe: u64,
    sender: &mut PipeSender<Item>,
    number: u64,
    random: &mut Random,
) -> Result<(), PutError<()>> {
    let soon = Duration::from_millis(2);
    if is_value(number) {
        let item = (pipe, number, Event::new().unwrap());
        let sent = match random.below(2) {
            0 => sender.try_send(item),
            _ => sender.send_timeout(item, soon),
        };
        return sent.map_err(|error| match error {
            PutError::Full(_) => PutError::Full(()),
            PutError::Closed(_) => PutError::Closed(()),
            error => panic!("{error:?}"),
        });
    }
    let len = [0, 60, 700, 9000][random.below(4) as usize];
    let bytes = message(pipe, number, len);
    match random.below(3) {
        0 => {
            let mut claim = sender.claim_timeout(bytes.len(), soon)?;
            claim.copy_from_slice(&bytes);
            claim.commit()
        }
        1 => sender.try_send_bytes(&bytes),
        _ => sender.send_bytes_timeout(&bytes, soon),
    }
}

fn receive_one(
    pipe: u64,
    receiver: &mut PipeReceiver<Item>,
    number: u64,
    random: &mut Random,
) -> Result<(), RecvError> {
    let soon = Duration::from_millis(2);
    if is_value(number) {
        let (from, got, event) = match random.below(2) {
            0 => receiver.try_recv(),
            _ => receiver.recv_timeout(soon),
        }?;
        assert_eq!((from, got), (pipe, number));
        assert!(!event.is_set());
        return Ok(());
    }
    match random.below(3) {
        0 => check(&receiver.recv_ref_timeout(soon)?, pipe, number),
        1 => check(&receiver.try_recv_bytes()?, pipe, number),
        _ => check(&receiver.recv_bytes_timeout(soon)?, pipe, number),
    }
    Ok(())
}

fn receive(pools: &Pools, (pipe, mut receiver, mut next): Receiving, random: &mut Random) -> bool {
    for _ in 0..random.below(40) {
        match receive_one(pipe, &mut receiver, next, random) {
            Ok(()) => next += 1,
            Err(RecvError::Empty) => break,
            Err(RecvError::Closed) => {
                pools.books.check(pipe, next);
                return pools.over.put(pipe).is_ok();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    pools.receivers.put((pipe, receiver, next)).is_ok()
}

/// A child that forgets what it has borrowed, and the end as well: short, long, and long in a message that it never read.
fn forget_what_was_borrowed() {
    fn forget(mut receiver: PipeReceiver<Item>) {
        for len in [5, 1 << 20] {
            let borrowed = receiver.recv_ref().unwrap();
            assert_eq!(borrowed.len(), len);
            std::mem::forget(borrowed);
        }
        std::mem::forget(receiver);
    }
    let (receiver, mut sender) = Pipe::simplex().unwrap();
    sender.send_bytes(b"short").unwrap();
    for _ in 0..2 {
        sender.claim(1 << 20).unwrap().commit().unwrap();
    }
    start(forget, receiver).join().unwrap();
    let closed = (0..100_000).find_map(|_| sender.send_bytes(b"short").err());
    assert!(matches!(closed, Some(PutError::Closed(()))));
}

#[test]
fn ends_go_around_while_their_owners_are_killed() {
    let number = |name| -> Option<u64> { Some(std::env::var(name).ok()?.parse().unwrap()) };
    let kills = number("PIPE_SOAK_KILLS").unwrap_or(60);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("SOAK_SEED").unwrap_or(now);
    let workers = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    eprintln!("pipe soak: PIPE_SOAK_KILLS={kills} SOAK_SEED={seed}, {workers} processes");
    let _watch = guard::watch_for(guard::LONG + SOON * 5 * kills as u32);
    start(|()| (), ()).join().unwrap();
    let before = family::stats();
    forget_what_was_borrowed();
    assert_eq!(family::stats().bytes_in_use, before.bytes_in_use);
    let pools = Pools {
        senders: Queue::bounded(64).unwrap(),
        receivers: Queue::bounded(64).unwrap(),
        over: Queue::bounded(1000).unwrap(),
        // A kill ends a few pipes at most.
        books: Books(Array::zeroed(2 * (PIPES + 4 * kills) as usize).unwrap()),
    };
    let mut made = 0;
    let mut make = |pools: &Pools| {
        let capacity = [256, 1000, 5000][made as usize % 3];
        let (receiver, sender) = Pipe::simplex_with_capacity(capacity).unwrap();
        pools.senders.put((made, sender, 0)).unwrap();
        pools.receivers.put((made, receiver, 0)).unwrap();
        made += 1;
    };
    (0..PIPES).for_each(|_| make(&pools));
    let mut random = Random(seed);
    let begin = |random: &mut Random| start(work, (pools.clone(), random.next()));
    let mut at_work: Vec<Process<()>> = (0..workers).map(|_| begin(&mut random)).collect();
    let mut over = HashMap::new();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(10_000)));
        let victim = at_work.swap_remove(random.below(workers as u64) as usize);
        assert!(victim.exitcode().is_none(), "one has failed by itself");
        victim.kill().unwrap();
        at_work.push(begin(&mut random));
        if random.below(2) == 0 {
            reap(victim);
        }
        // A pipe is over when either side says so; the other will, or was killed with its end in hand.
        while let Ok(pipe) = pools.over.try_get() {
            if over.insert(pipe, ()).is_none() {
                make(&pools);
            }
        }
        // Pipes both of whose owners were killed are missed by nobody.
        if pools.senders.len() + pools.receivers.len() < PIPES as usize {
            make(&pools);
        }
    }
    // What is left is received to the end. A worker ends when it cannot report, or is killed before.
    pools.over.close();
    for worker in at_work {
        let _ = worker.kill();
        let code = worker.wait();
        assert!(matches!(
            code,
            ExitCode::Exited(0) | ExitCode::Signaled(libc::SIGKILL)
        ));
    }
    let mut sent = HashMap::new();
    while let Ok((pipe, sender, next)) = pools.senders.try_get() {
        drop(sender);
        sent.insert(pipe, next);
    }
    let mut complete = 0;
    while let Ok((pipe, mut receiver, mut next)) = pools.receivers.try_get() {
        loop {
            match receive_one(pipe, &mut receiver, next, &mut random) {
                Ok(()) => next += 1,
                Err(RecvError::Empty) => {}
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        pools.books.check(pipe, next);
        if let Some(&sent) = sent.get(&pipe) {
            assert_eq!(next, sent, "all of it, and no more");
            complete += 1;
        }
    }
    println!("{made} pipes, {complete} to their end");
    drop(pools);
    let after = family::stats();
    assert_eq!(after.objects, before.objects);
    assert_eq!(after.bytes_in_use, before.bytes_in_use);
}
