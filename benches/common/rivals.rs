//! What a user would pick instead: an OS pipe and Unix sockets between processes, crossbeam-channel between threads.

use super::CAPACITY;
use super::exchange::{Link, Meeting, answer, ask};
use super::machine::Place;
use super::message::Message;
use super::team::Team;
use super::throughput::{consume, consume_into, produce};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::io::{read, write};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::os::fd::OwnedFd;

/// Which of the kernel's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// A pipe.
    Pipe,
    /// A stream between two Unix sockets.
    Stream,
    /// Packets between two Unix sockets.
    SeqPacket,
}

impl Kernel {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Stream => "unix stream",
            Self::SeqPacket => "unix seqpacket",
        }
    }

    /// The end to write to and the end to read from, with buffers that suit messages of this length.
    /// (A packet must fit into what any user may ask for: about 200 KiB.)
    fn open(self, len: usize) -> (OwnedFd, OwnedFd) {
        const LARGE: usize = 1 << 20;
        if self == Self::Pipe {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
            if len > 4096 {
                let _ = fcntl_setpipe_size(&writer, LARGE);
            }
            return (writer, reader);
        }
        let kind = match self {
            Self::Stream => SocketType::STREAM,
            _ => SocketType::SEQPACKET,
        };
        let (writer, reader) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .expect("a pair of sockets");
        if len > 4096 {
            let _ = set_socket_send_buffer_size(&writer, LARGE);
        }
        (writer, reader)
    }
}

const PACKET: usize = 128 << 10;

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = write(fd, bytes).expect("the reader is there");
        bytes = &bytes[n..];
    }
}

fn read_exact(fd: &OwnedFd, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        let n = read(fd, &mut *bytes).expect("a readable end");
        assert!(n > 0, "the writer is gone");
        bytes = &mut bytes[n..];
    }
}

/// A process that writes and one that reads.
pub fn kernel<M: Message>(kind: Kernel) -> Team {
    let mut team = Team::new(kind.name());
    let (writer, reader) = kind.open(M::LEN);
    team.fork(Place::First, |round| {
        produce(round, 0, |m: M| {
            // A packet has to fit into the buffer, so that large messages are several.
            for part in m.bytes().chunks(PACKET) {
                write_all(&writer, part);
            }
        })
    });
    team.fork(Place::Second, |round| {
        consume_into::<M>(round, |buffer| read_exact(&reader, buffer))
    });
    team
}

/// `pairs` threads that send and as many that receive, all through one channel.
pub fn crossbeam<M: Message>(pairs: u8, capacity: usize) -> Team {
    crossbeam_through(bounded::<M>(capacity), pairs)
}

/// The same without a bound.
pub fn crossbeam_unbounded<M: Message>(pairs: u8) -> Team {
    crossbeam_through(unbounded::<M>(), pairs)
}

fn crossbeam_through<M: Message>((sender, receiver): (Sender<M>, Receiver<M>), pairs: u8) -> Team {
    let mut team = Team::new("crossbeam-channel");
    for from in 0..pairs {
        let sender = sender.clone();
        team.thread(place(pairs, Place::First), move |round| {
            produce(round, from, |m: M| sender.send(m).expect("a receiver"))
        });
    }
    for _ in 0..pairs {
        let receiver = receiver.clone();
        team.thread(place(pairs, Place::Second), move |round| {
            consume(round, pairs == 1, || receiver.recv().expect("a sender"))
        });
    }
    team
}

/// One pair has a CPU each; more are placed by the kernel.
pub fn place(pairs: u8, alone: Place) -> Place {
    if pairs == 1 { alone } else { Place::Either }
}

/// Two ends of a pair of pipes or channels.
#[derive(Debug)]
struct Both<S, R>(S, R);

impl Link for Both<OwnedFd, OwnedFd> {
    fn send(&mut self, number: u64) {
        write_all(&self.0, number.bytes());
    }

    fn receive(&mut self) -> u64 {
        let mut bytes = [0; 8];
        read_exact(&self.1, &mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

impl Link for Both<Sender<u64>, Receiver<u64>> {
    fn send(&mut self, number: u64) {
        self.0.send(number).expect("a receiver");
    }

    fn receive(&mut self) -> u64 {
        self.1.recv().expect("a sender")
    }
}

/// Round trips between two processes through the kernel.
pub fn kernel_exchange(kind: Kernel, meeting: Meeting) -> Team {
    let mut team = Team::new(kind.name());
    let (there_in, there_out) = kind.open(8);
    let (back_in, back_out) = kind.open(8);
    let [first, second] = meeting.places();
    let mut end = Both(there_in, back_out);
    team.fork(first, |round| ask(round, meeting, &mut end));
    let mut end = Both(back_in, there_out);
    team.fork(second, |round| answer(round, meeting, &mut end));
    team
}

/// Round trips between two threads.
pub fn crossbeam_exchange(meeting: Meeting) -> Team {
    let mut team = Team::new("crossbeam-channel");
    let there = bounded::<u64>(CAPACITY);
    let back = bounded::<u64>(CAPACITY);
    let [first, second] = meeting.places();
    let mut end = Both(there.0, back.1);
    team.thread(first, move |round| ask(round, meeting, &mut end));
    let mut end = Both(back.0, there.1);
    team.thread(second, move |round| answer(round, meeting, &mut end));
    team
}
