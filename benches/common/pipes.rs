//! This crate's pipes between this crate's processes, and rtrb between threads.

use super::CAPACITY;
use super::exchange::{Link, Meeting, answer, ask};
use super::machine::Place;
use super::message::Message;
use super::ours::Item;
use super::team::{Seat, Team};
use super::throughput::{consume, consume_into, produce};
use multiprocess::{Connection, Pipe, PipeReceiver, PipeSender};
use std::hint;

fn produce_items<M: Item>((seat, mut sender): (Seat, PipeSender<M>)) {
    seat.serve(|round| produce(round, 0, |m| sender.send(m).expect("a receiver")));
}

fn consume_items<M: Item>((seat, mut receiver): (Seat, PipeReceiver<M>)) {
    seat.serve(|round| consume(round, true, || receiver.recv().expect("a sender")));
}

/// Values.
pub fn items<M: Item>() -> Team {
    let mut team = Team::new("multiprocess");
    let (receiver, sender) = Pipe::simplex::<M>().expect("a pipe");
    team.spawn(Place::First, produce_items::<M>, sender);
    team.spawn(Place::Second, consume_items::<M>, receiver);
    team
}

fn produce_bytes<M: Message>((seat, mut sender): (Seat, PipeSender<()>)) {
    seat.serve(|round| {
        produce(round, 0, |m: M| {
            sender.send_bytes(m.bytes()).expect("a receiver");
        })
    });
}

fn consume_bytes<M: Message>((seat, mut receiver): (Seat, PipeReceiver<()>)) {
    seat.serve(|round| {
        consume_into::<M>(round, |buffer| {
            receiver.recv_bytes_into(buffer).expect("a sender");
        })
    });
}

/// Bytes that are copied in and out.
pub fn bytes<M: Message>(capacity: Option<usize>) -> Team {
    let mut team = Team::new("multiprocess");
    let pipe = match capacity {
        Some(bytes) => Pipe::simplex_with_capacity::<()>(bytes),
        None => Pipe::simplex::<()>(),
    };
    let (receiver, sender) = pipe.expect("a pipe");
    team.spawn(Place::First, produce_bytes::<M>, sender);
    team.spawn(Place::Second, consume_bytes::<M>, receiver);
    team
}

fn produce_in_place((seat, (len, mut sender)): (Seat, (usize, PipeSender<()>))) {
    seat.serve(|round| {
        produce(round, 0, |number: u64| {
            let mut claim = sender.claim(len).expect("a receiver");
            claim[..8].copy_from_slice(&number.to_ne_bytes());
            claim.commit().expect("a receiver");
        })
    });
}

fn consume_in_place((seat, mut receiver): (Seat, PipeReceiver<()>)) {
    seat.serve(|round| {
        consume(round, true, || {
            let message = receiver.recv_ref().expect("a sender");
            u64::from_ne_bytes(message[..8].try_into().expect("eight bytes"))
        })
    });
}

/// Messages of this length of which only the head is written and read.
pub fn in_place(len: usize) -> Team {
    let mut team = Team::new("multiprocess");
    let (receiver, sender) = Pipe::simplex::<()>().expect("a pipe");
    team.spawn(Place::First, produce_in_place, (len, sender));
    team.spawn(Place::Second, consume_in_place, receiver);
    team
}

impl Link for Connection<u64, u64> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        Connection::send(self, number).expect("the other end");
    }

    #[inline(always)]
    fn receive(&mut self) -> u64 {
        self.recv().expect("the other end")
    }
}

type Exchange = (Meeting, Connection<u64, u64>);

fn ask_all((seat, (meeting, mut end)): (Seat, Exchange)) {
    seat.serve(|round| ask(round, meeting, &mut end));
}

fn answer_all((seat, (meeting, mut end)): (Seat, Exchange)) {
    seat.serve(|round| answer(round, meeting, &mut end));
}

/// Round trips between two processes.
pub fn exchange(meeting: Meeting) -> Team {
    let mut team = Team::new("multiprocess");
    let (here, there) = Pipe::duplex::<u64, u64>().expect("a pipe");
    let [first, second] = meeting.places();
    team.spawn(first, ask_all, (meeting, here));
    team.spawn(second, answer_all, (meeting, there));
    team
}

/// Two threads with rtrb's ring, one push and one pop a message, awake all the time.
pub fn rtrb<M: Message>() -> Team {
    let mut team = Team::new("rtrb");
    let (mut producer, mut consumer) = rtrb::RingBuffer::<M>::new(CAPACITY);
    team.thread(Place::First, move |round| {
        produce(round, 0, |mut message: M| {
            while let Err(rtrb::PushError::Full(back)) = producer.push(message) {
                message = back;
                hint::spin_loop();
            }
        })
    });
    team.thread(Place::Second, move |round| {
        consume(round, true, || {
            loop {
                match consumer.pop() {
                    Ok(message) => break message,
                    Err(_) => hint::spin_loop(),
                }
            }
        })
    });
    team
}
