//! Sweeps of channels: ends dropped, used and passed on. Whatever was killed, the other side comes to its end after what was
//! sent has arrived.

use std::time::Duration;

use multiprocess::{Process, Queue, Receiver, RecvError, Sender, channel, spawn};
use serde_bytes::ByteBuf;

use crate::ends;
use crate::ring::{BLOCK, LONG, SMALL, VICTIM, message, number};
use crate::stepper::End;
use crate::sweep::{Corpse, Outcome, Sweep, Victim, alone};
use crate::victim::marked;

type Messages = (Sender<ByteBuf>, Receiver<ByteBuf>);

/// A channel and the numbers that are in it.
struct World {
    sender: Option<Sender<ByteBuf>>,
    receiver: Option<Receiver<ByteBuf>>,
    sent: Vec<u64>,
    capacity: usize,
    size: usize,
}

impl World {
    fn new(capacity: usize, size: usize, filled: usize) -> World {
        let (sender, receiver): Messages = channel(capacity).expect("a channel");
        let sent: Vec<u64> = (1..=filled as u64).collect();
        for &number in &sent {
            sender.send(message(number, size)).expect("room");
        }
        World {
            sender: Some(sender),
            receiver: Some(receiver),
            sent,
            capacity,
            size,
        }
    }

    /// All that still arrives, until the end is said.
    fn receive_to_the_end(&mut self) -> Vec<u64> {
        let receiver = self.receiver.take().expect("this side holds it");
        let size = self.size;
        let receive = || {
            let message = receiver.recv_timeout(LONG)?;
            Ok(number(&message, size))
        };
        let numbers = ends::receive_to_the_end(receive);
        assert!(receiver.is_closed() && receiver.is_empty());
        numbers
    }

    /// Sends until the end is said.
    fn send_to_the_end(&mut self) {
        let sender = self.sender.take().expect("this side holds it");
        let send = |message| sender.send_timeout(message, LONG);
        ends::send_to_the_end(send, self.size, self.capacity);
        assert!(sender.is_closed());
    }
}

/// Sweeps something done with the last sender.
fn sweep_last_sender(
    verb: &str,
    operation: fn((Sender<ByteBuf>, usize)),
    shapes: [(usize, usize, usize); 3],
    whole: Outcome,
) {
    let alone = alone();
    for (capacity, size, filled) in shapes {
        Sweep {
            name: &format!("{verb}, {size} B, {filled} of {capacity} filled"),
            setup: &|| World::new(capacity, size, filled),
            victim: &|world: &mut World| {
                let sender = world.sender.take().expect("in every fresh world");
                spawn(operation, (sender, size)).expect("spawn")
            },
            unblock: None,
            // It may have to wait for who tidies up at the moment.
            steady: false,
            check: &|mut world: World, _| {
                let arrived = world.receive_to_the_end();
                ends::has_sent(&arrived, world.sent, whole)
            },
            whole,
        }
        .run(&alone);
    }
}

fn drop_sender((sender, _): (Sender<ByteBuf>, usize)) {
    marked(|| drop(sender));
}

fn send((sender, size): (Sender<ByteBuf>, usize)) {
    let message = message(VICTIM, size);
    marked(|| sender.send(message)).expect("send");
}

#[test]
fn dropping_the_last_sender() {
    let shapes = [(1, SMALL, 0), (2, SMALL, 2), (3, BLOCK, 2)];
    sweep_last_sender(
        "dropping the last sender",
        drop_sender,
        shapes,
        Outcome::Untold,
    );
}

#[test]
fn sending_as_the_last_sender() {
    let shapes = [(1, SMALL, 0), (2, SMALL, 1), (3, BLOCK, 2)];
    sweep_last_sender("send of the last sender", send, shapes, Outcome::Done);
}

/// Sweeps something done with the last receiver.
fn sweep_last_receiver(verb: &str, operation: fn(Receiver<ByteBuf>)) {
    let alone = alone();
    for (capacity, size, filled) in [(1, SMALL, 1), (2, SMALL, 1), (3, BLOCK, 3)] {
        Sweep {
            name: &format!("{verb}, {size} B, {filled} of {capacity} filled"),
            setup: &|| World::new(capacity, size, filled),
            victim: &|world: &mut World| {
                let receiver = world.receiver.take().expect("in every fresh world");
                spawn(operation, receiver).expect("spawn")
            },
            unblock: None,
            // As above.
            steady: false,
            check: &|mut world: World, _| {
                world.send_to_the_end();
                Outcome::Untold
            },
            whole: Outcome::Untold,
        }
        .run(&alone);
    }
}

fn drop_receiver(receiver: Receiver<ByteBuf>) {
    marked(|| drop(receiver));
}

fn receive(receiver: Receiver<ByteBuf>) {
    marked(|| receiver.recv()).expect("recv");
}

#[test]
fn dropping_the_last_receiver() {
    sweep_last_receiver("dropping the last receiver", drop_receiver);
}

#[test]
fn receiving_as_the_last_receiver() {
    sweep_last_receiver("recv of the last receiver", receive);
}

/// What a killed receiver had in its hands arrives before the end is said.
#[test]
fn receiving_from_a_channel_at_its_end() {
    let alone = alone();
    for (capacity, size, filled) in [(1, SMALL, 1), (3, SMALL, 2), (2, BLOCK, 2)] {
        Sweep {
            name: &format!("recv at the end, {size} B, {filled} of {capacity} filled"),
            setup: &|| {
                let mut world = World::new(capacity, size, filled);
                world.sender = None;
                world
            },
            victim: &|world: &mut World| spawn(receive, world.receiver.clone().unwrap()).unwrap(),
            unblock: None,
            steady: true,
            check: &|mut world: World, corpse| {
                let mut arrived = world.receive_to_the_end();
                if arrived == world.sent[1..] {
                    return Outcome::Done;
                }
                // The first one is not in its place when nobody knew that it must be delivered again.
                if corpse == Corpse::Zombie {
                    arrived.sort();
                }
                assert_eq!(arrived, world.sent);
                Outcome::NotDone
            },
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

/// One of several drops its end: the others notice nothing.
#[test]
fn dropping_one_end_of_several() {
    let alone = alone();
    fn drop_both((sender, receiver): Messages) {
        marked(|| drop((sender, receiver)));
    }
    Sweep {
        name: "dropping a sender and a receiver of several",
        setup: &|| World::new(3, BLOCK, 2),
        victim: &|world: &mut World| {
            let ends = (
                world.sender.clone().unwrap(),
                world.receiver.clone().unwrap(),
            );
            spawn(drop_both, ends).expect("spawn")
        },
        unblock: None,
        steady: true,
        check: &|mut world: World, _| {
            let sender = world.sender.take().unwrap();
            sender.send(message(7, BLOCK)).expect("it is open");
            drop(sender);
            assert_eq!(world.receive_to_the_end(), [1, 2, 7]);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
}

/// A channel whose last sender goes through another one.
struct Passing {
    inner: World,
    outer: (Sender<Sender<ByteBuf>>, Receiver<Sender<ByteBuf>>),
}

impl Passing {
    fn new() -> Passing {
        Passing {
            inner: World::new(2, SMALL, 1),
            outer: channel(2).expect("a channel"),
        }
    }

    /// Whether the sender arrives; in any case the channel ends when it is gone.
    fn arrives(mut self) -> bool {
        let (outer, passed) = self.outer;
        drop(outer);
        let sender = passed.recv_timeout(LONG);
        let arrived = sender.is_ok();
        match sender {
            Ok(sender) => {
                sender.send(message(VICTIM, SMALL)).expect("it is open");
                self.inner.sent.push(VICTIM);
            }
            Err(error) => assert!(matches!(error, RecvError::Closed), "{error:?}"),
        }
        assert!(matches!(passed.recv_timeout(LONG), Err(RecvError::Closed)));
        assert_eq!(self.inner.receive_to_the_end(), self.inner.sent);
        arrived
    }
}

#[test]
fn sending_the_last_sender() {
    let alone = alone();
    fn pass((outer, inner): (Sender<Sender<ByteBuf>>, Sender<ByteBuf>)) {
        marked(|| outer.send(inner)).expect("send");
    }
    Sweep {
        name: "sending the last sender",
        setup: &Passing::new,
        victim: &|world: &mut Passing| {
            let ends = (world.outer.0.clone(), world.inner.sender.take().unwrap());
            spawn(pass, ends).expect("spawn")
        },
        unblock: None,
        steady: true,
        check: &|world: Passing, _| Outcome::from(world.arrives()),
        whole: Outcome::Done,
    }
    .run(&alone);
}

#[test]
fn receiving_the_last_sender() {
    let alone = alone();
    fn take(outer: Receiver<Sender<ByteBuf>>) {
        let sender = marked(|| outer.recv()).expect("recv");
        drop(sender);
    }
    Sweep {
        name: "receiving the last sender",
        setup: &|| {
            let mut world = Passing::new();
            let sender = world.inner.sender.take().unwrap();
            world.outer.0.send(sender).expect("room");
            world
        },
        victim: &|world: &mut Passing| spawn(take, world.outer.1.clone()).expect("spawn"),
        unblock: None,
        steady: true,
        check: &|world: Passing, _| Outcome::from(!world.arrives()),
        whole: Outcome::Done,
    }
    .run(&alone);
}

/// The last receiver goes, and with it what was sent: among that the last sender of the same channel, and of another one.
#[test]
fn dropping_the_last_receiver_of_ends() {
    let alone = alone();
    type Ends = (Sender<(Passed, Passed)>, Receiver<(Passed, Passed)>);
    #[derive(serde::Serialize, serde::Deserialize)]
    enum Passed {
        Own(Sender<(Passed, Passed)>),
        Other(Sender<ByteBuf>),
    }
    fn drop_it(receiver: Receiver<(Passed, Passed)>) {
        marked(|| drop(receiver));
    }
    Sweep {
        name: "dropping the last receiver of senders",
        setup: &|| (World::new(2, SMALL, 1), None),
        victim: &|(world, _): &mut (World, Option<()>)| {
            let (sender, receiver): Ends = channel(2).expect("a channel");
            let other = Passed::Other(world.sender.take().unwrap());
            sender
                .send((Passed::Own(sender.clone()), other))
                .expect("room");
            spawn(drop_it, receiver).expect("spawn")
        },
        unblock: None,
        steady: true,
        check: &|(mut world, _): (World, Option<()>), _| {
            assert_eq!(world.receive_to_the_end(), world.sent);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
}

/// Who waits is killed while, or before, or after the other side goes.
#[test]
fn receiving_until_the_end() {
    let alone = alone();
    fn wait(receiver: Receiver<ByteBuf>) {
        let end = marked(|| receiver.recv());
        assert!(matches!(end, Err(RecvError::Closed)));
    }
    let report = Sweep {
        name: "recv that waits for the end",
        setup: &|| World::new(1, SMALL, 0),
        victim: &|world: &mut World| spawn(wait, world.receiver.clone().unwrap()).unwrap(),
        unblock: Some(&|world: &mut World| world.sender = None),
        steady: false,
        check: &|mut world: World, _| {
            world.sender = None;
            assert!(world.receive_to_the_end().is_empty());
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
    assert!(report.trace.slept(), "it never slept: nothing was shown");
}

/// A channel whose last sender is killed as soon as the victim is a member: who joins a family looks for the dead.
struct Deserted {
    world: World,
    dead: Process<()>,
}

impl Deserted {
    fn new() -> Deserted {
        fn stay(sender: Sender<ByteBuf>) {
            sender.send(message(VICTIM, SMALL)).expect("room");
            std::thread::sleep(LONG);
        }
        let mut world = World::new(2, SMALL, 0);
        let dead = spawn(stay, world.sender.take().unwrap()).expect("spawn");
        let got = world.receiver.as_ref().unwrap().recv_timeout(LONG);
        assert_eq!(number(&got.expect("sent"), SMALL), VICTIM);
        Deserted { world, dead }
    }

    fn start_who_finds_it(&mut self) -> Process<()> {
        let (ready, go) = (Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap());
        let receiver = self.world.receiver.clone().unwrap();
        let victim = spawn(find, (receiver, ready.clone(), go.clone())).expect("spawn");
        ready.get_timeout(LONG).expect("it begins with it");
        self.dead.kill().expect("kill");
        // Without reaping it: then it would be known.
        let stat = format!("/proc/{}/stat", self.dead.pid());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_micros(100));
        }
        go.put(()).expect("put");
        victim
    }
}

fn find((receiver, ready, go): (Receiver<ByteBuf>, Queue<()>, Queue<()>)) {
    ready.put(()).expect("put");
    go.get().expect("get");
    drop((ready, go));
    assert!(!receiver.is_closed());
    let end = marked(|| receiver.try_recv());
    assert!(matches!(end, Err(RecvError::Closed)));
}

/// Who finds out that the other side has died is killed as it does.
#[test]
fn finding_the_last_sender_dead() {
    let alone = alone();
    Sweep {
        name: "finding the last sender dead",
        setup: &Deserted::new,
        victim: &Deserted::start_who_finds_it,
        unblock: None,
        steady: false,
        check: &|mut deserted: Deserted, _| {
            assert!(deserted.world.receive_to_the_end().is_empty());
            let reaped = deserted.dead.reap(End::Killed(libc::SIGKILL));
            reaped.expect("the dead sender");
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
}
