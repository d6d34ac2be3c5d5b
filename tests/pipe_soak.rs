//! The soak: processes pass the ends of pipes around, and send and receive with the ends that they have, while one of them is killed every
//! few milliseconds and replaced. From each pipe everything arrives that was sent, once, whole and in order, up to the death of
//! an owner; at the end the memory is as it was.
//!
//! PIPE_SOAK_KILLS says how many are killed (60). A test of its own, since it looks at the whole family's memory.

use std::collections::HashMap;
use std::time::Duration;

use multiprocess::{
    ExitCode, GetError, Pipe, PipeReceiver, PipeSender, Process, PutError, Queue, RecvError, family,
};

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);
const SOON: Duration = Duration::from_millis(20);

const WORKERS: usize = 4;
const PIPES: u64 = 6;

/// An end, the number of its pipe, and of the next message.
type Sending = (u64, PipeSender<()>, u64);
type Receiving = (u64, PipeReceiver<()>, u64);

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Pools {
    senders: Queue<Sending>,
    receivers: Queue<Receiving>,
    /// Pipes that are to be replaced.
    over: Queue<u64>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
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
    let mut random = Random(seed | 1);
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
        let len = [0, 60, 700, 9000][random.below(4) as usize];
        let bytes = message(pipe, next, len);
        let soon = Duration::from_millis(2);
        let sent = match random.below(3) {
            0 => sender
                .claim_timeout(bytes.len(), soon)
                .and_then(|mut claim| {
                    claim.copy_from_slice(&bytes);
                    claim.commit()
                }),
            1 => sender.try_send_bytes(&bytes),
            _ => sender.send_bytes_timeout(&bytes, soon),
        };
        match sent {
            Ok(()) => next += 1,
            Err(PutError::Full(())) => break,
            Err(PutError::Closed(())) => return pools.over.put(pipe).is_ok(),
            Err(error) => panic!("{error:?}"),
        }
    }
    // Also when the pools are closed: then it goes, and the receiver finds the end.
    pools.senders.put((pipe, sender, next)).is_ok()
}

fn receive(pools: &Pools, (pipe, mut receiver, mut next): Receiving, random: &mut Random) -> bool {
    for _ in 0..random.below(40) {
        let soon = Duration::from_millis(2);
        let got = match random.below(3) {
            0 => receiver
                .recv_ref_timeout(soon)
                .map(|bytes| check(&bytes, pipe, next)),
            1 => receiver
                .try_recv_bytes()
                .map(|bytes| check(&bytes, pipe, next)),
            _ => receiver
                .recv_bytes_timeout(soon)
                .map(|bytes| check(&bytes, pipe, next)),
        };
        match got {
            Ok(()) => next += 1,
            Err(RecvError::Empty) => break,
            Err(RecvError::Closed) => return pools.over.put(pipe).is_ok(),
            Err(error) => panic!("{error:?}"),
        }
    }
    pools.receivers.put((pipe, receiver, next)).is_ok()
}

/// A child that ends with this process, whatever fails.
fn start<A>(function: fn(A), arguments: A) -> Process<()>
where
    A: serde::Serialize + serde::de::DeserializeOwned,
{
    let daemon = Process::builder().daemon(true);
    daemon.spawn(function, arguments).unwrap()
}

/// Reaps a process that was killed.
fn reap(process: Process<()>) {
    assert_eq!(process.wait(), ExitCode::Signaled(libc::SIGKILL));
}

/// Ends this process with its daemons when it hangs.
fn watch() {
    std::thread::spawn(|| {
        std::thread::sleep(LONG);
        eprintln!("the soak hangs");
        std::process::abort();
    });
}

#[test]
fn ends_go_around_while_their_owners_are_killed() {
    watch();
    let kills = std::env::var("PIPE_SOAK_KILLS").map_or(60, |text| text.parse().unwrap());
    start(|()| (), ()).join().unwrap();
    let before = family::stats();
    let pools = Pools {
        senders: Queue::bounded(64).unwrap(),
        receivers: Queue::bounded(64).unwrap(),
        over: Queue::bounded(1000).unwrap(),
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
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let begin = |random: &mut Random| start(work, (pools.clone(), random.below(u64::MAX)));
    let mut workers: Vec<Process<()>> = (0..WORKERS).map(|_| begin(&mut random)).collect();
    let mut over = HashMap::new();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(10_000)));
        let victim = workers.swap_remove(random.below(WORKERS as u64) as usize);
        assert!(victim.exitcode().is_none(), "one has failed by itself");
        victim.kill().unwrap();
        workers.push(begin(&mut random));
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
    for worker in workers {
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
            match receiver.recv_bytes() {
                Ok(bytes) => check(&bytes, pipe, next),
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error:?}"),
            }
            next += 1;
        }
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
