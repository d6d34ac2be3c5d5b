//! This crate's queues between this crate's processes.

use super::CAPACITY;
use super::exchange::{Link, Meeting, answer, ask};
use super::machine::Place;
use super::message::Message;
use super::rivals::place;
use super::team::{Seat, Team};
use super::throughput::{consume, produce};
use multiprocess::Queue;
use serde::{Serialize, de::DeserializeOwned};

/// What a queue may carry.
pub trait Item: Message + Serialize + DeserializeOwned + Clone {}

impl<M: Message + Serialize + DeserializeOwned + Clone> Item for M {}

fn produce_all<M: Item>((seat, (from, queue)): (Seat, (u8, Queue<M>))) {
    seat.serve(|round| produce(round, from, |m| queue.put(m).expect("room in the queue")));
}

fn consume_all<M: Item>((seat, (alone, queue)): (Seat, (bool, Queue<M>))) {
    seat.serve(|round| consume(round, alone, || queue.get().expect("a message")));
}

/// `pairs` processes that put and as many that get, all through one queue.
pub fn queue<M: Item>(pairs: u8, capacity: usize) -> Team {
    through(Queue::<M>::bounded(capacity).expect("a queue"), pairs)
}

/// The same through a queue without a bound.
pub fn unbounded<M: Item>(pairs: u8) -> Team {
    through(Queue::<M>::unbounded().expect("a queue"), pairs)
}

fn through<M: Item>(queue: Queue<M>, pairs: u8) -> Team {
    let mut team = Team::new("multiprocess");
    for from in 0..pairs {
        let place = place(pairs, Place::First);
        team.spawn(place, produce_all::<M>, (from, queue.clone()));
    }
    for _ in 0..pairs {
        let place = place(pairs, Place::Second);
        team.spawn(place, consume_all::<M>, (pairs == 1, queue.clone()));
    }
    team
}

struct Ends(Queue<u64>, Queue<u64>);

impl Link for Ends {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        self.0.put(number).expect("room in the queue");
    }

    #[inline(always)]
    fn receive(&mut self) -> u64 {
        self.1.get().expect("a message")
    }
}

type Exchange = (Meeting, Queue<u64>, Queue<u64>);

fn ask_all((seat, (meeting, there, back)): (Seat, Exchange)) {
    let mut ends = Ends(there, back);
    seat.serve(|round| ask(round, meeting, &mut ends));
}

fn answer_all((seat, (meeting, there, back)): (Seat, Exchange)) {
    let mut ends = Ends(back, there);
    seat.serve(|round| answer(round, meeting, &mut ends));
}

/// Round trips between two processes through two queues.
pub fn exchange(meeting: Meeting) -> Team {
    let mut team = Team::new("multiprocess");
    let there = Queue::bounded(CAPACITY).expect("a queue");
    let back = Queue::bounded(CAPACITY).expect("a queue");
    let [first, second] = meeting.places();
    team.spawn(first, ask_all, (meeting, there.clone(), back.clone()));
    team.spawn(second, answer_all, (meeting, there, back));
    team
}
