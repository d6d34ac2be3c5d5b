//! What is promised where Python's users suffer, by the numbers of the survey. (Deaths inside an operation are the kill
//! sweeps' and the soak's.)

use std::process::Command;
use std::thread;

use multiprocess::{Pipe, PipeReceiver, PipeSender, Process, RecvError, SendError};

use super::{LONG, SOON, reap, signal, start, stop, watch};

const LENS: [usize; 4] = [8, 100, 7000, 70_000];

fn message(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(LENS[number as usize % 4], number as u8);
    bytes
}

fn while_open(mut step: impl FnMut(u64) -> bool) {
    let _ = (0..).find(|number| !step(*number));
}

/// 6: a timeout bounds the whole call, though the peer stands still, alive, in the middle of a message; and what arrives is
/// whole.
#[test]
fn a_peer_that_stands_still_keeps_nobody() {
    const ROUNDS: usize = 60;
    let _watch = watch();
    fn send(mut sender: PipeSender<()>) {
        while_open(|number| sender.send_bytes(&message(number)).is_ok());
    }
    fn receive(mut receiver: PipeReceiver<()>) {
        while_open(|number| match receiver.recv_bytes() {
            Ok(bytes) => {
                assert_eq!(bytes, message(number));
                true
            }
            Err(_) => false,
        });
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let process = start(send, sender);
    let mut next = 0;
    let mut check = |bytes: Vec<u8>| {
        assert_eq!(bytes, message(next));
        next += 1;
    };
    for round in 0..ROUNDS {
        // At a different place each time.
        for _ in 0..round {
            check(receiver.recv_bytes().unwrap());
        }
        stop(&process);
        while let Ok(bytes) = receiver.recv_bytes_timeout(SOON / 4) {
            check(bytes);
        }
        assert!(matches!(receiver.try_recv_bytes(), Err(RecvError::Empty)));
        signal(&process, libc::SIGCONT);
    }
    drop(receiver);
    process.join().unwrap();

    let (receiver, mut sender) = Pipe::simplex().unwrap();
    let process = start(receive, receiver);
    let mut next = 0;
    for round in 0..ROUNDS {
        for _ in 0..round {
            sender.send_bytes(&message(next)).unwrap();
            next += 1;
        }
        stop(&process);
        // What was not sent is sent again: nothing of it arrives twice.
        let sent = |result| match result {
            Ok(()) => true,
            Err(SendError::Full(())) => false,
            Err(error) => panic!("{error:?}"),
        };
        while sent(sender.send_bytes_timeout(&message(next), SOON / 4)) {
            next += 1;
        }
        signal(&process, libc::SIGCONT);
    }
    drop(sender);
    process.join().unwrap();
}

/// 12: written in place and read in place, at one and the same address, whether short or long.
#[test]
fn nothing_is_copied() {
    let _watch = watch();
    let (mut receiver, mut sender) = Pipe::simplex::<()>().unwrap();
    for len in [8, 5000, 100_000, 10 << 20] {
        let mut claim = sender.claim(len).unwrap();
        claim[len - 1] = 7;
        let written = claim.as_ptr();
        claim.commit().unwrap();
        let read = receiver.recv_ref().unwrap();
        assert_eq!((read.as_ptr(), read.len()), (written, len));
        assert_eq!(read[len - 1], 7);
    }
}

/// 12: a number is not encoded, nor is what is bytes already.
#[test]
fn plain_data_is_sent_as_it_is() {
    let _watch = watch();
    let (mut receiver, mut sender) = Pipe::simplex::<u64>().unwrap();
    for number in [0, 1, 300, u64::MAX] {
        sender.send(number).unwrap();
        assert_eq!(receiver.recv_bytes().unwrap(), number.to_ne_bytes());
    }
}

/// 19: who lives on holds nothing open: not the dead one's own child, not a program that it has started, not one that is
/// just being started.
#[test]
fn kin_of_the_dead_hold_nothing_open() {
    let _watch = watch();
    type Ends = (PipeSender<u32>, PipeReceiver<u32>, PipeSender<(u32, u32)>);
    fn live((sender, receiver, mut told): Ends) {
        let child = Process::builder().spawn(|()| thread::sleep(LONG), ());
        let child = child.unwrap();
        let mut program = Command::new("sleep").arg("100").spawn().unwrap();
        told.send((child.pid(), program.id())).unwrap();
        program.wait().unwrap();
        drop((sender, receiver));
    }
    let (mut receiver, to_here) = Pipe::simplex().unwrap();
    let (from_here, mut sender) = Pipe::simplex().unwrap();
    let (mut kin, told) = Pipe::simplex().unwrap();
    let process = start(live, (to_here, from_here, told));
    let (child, program) = kin.recv().unwrap();
    process.kill().unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    let closed = (0..).find_map(|number| sender.send(number).err());
    assert!(matches!(closed, Some(SendError::Closed(_))));
    for pid in [child, program] {
        // SAFETY: of this test; an orphan now, whose pid nobody else has as long as it lives.
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
    reap(process);
}

/// 19, too: a pipe takes no descriptor, so that there is none to be inherited.
#[test]
fn a_pipe_is_no_descriptor() {
    let _watch = watch();
    fn count(_: ()) -> (usize, usize) {
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let first = Pipe::duplex::<u8, u8>().unwrap();
        let before = count();
        let pipes = [(); 100].map(|()| Pipe::duplex::<u8, u8>().unwrap());
        let after = count();
        drop((first, pipes));
        (before, after)
    }
    let (before, after) = start(count, ()).join().unwrap();
    assert_eq!(before, after);
}
