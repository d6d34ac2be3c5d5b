//! Sweeps of pipes: ends used, dropped and passed on. Whatever was killed, what was committed arrives, then the end is said.

use multiprocess::{GetError, Pipe, PipeReceiver, PipeSender, Process, Queue, RecvError, spawn};
use serde_bytes::ByteBuf;

use crate::ends;
use crate::kept::Kept;
use crate::ring::{BLOCK, LARGE, LONG, SMALL, VICTIM, message, number};
use crate::sweep::{Outcome, Sweep, alone};
use crate::victim::marked;

/// A pipe and the numbers that are in it.
struct World {
    sender: Option<PipeSender<ByteBuf>>,
    receiver: Option<PipeReceiver<ByteBuf>>,
    sent: Vec<u64>,
    size: usize,
    raw: bool,
}

impl World {
    /// With `raw`, the messages are bytes; `turned` were sent and received before.
    fn new(capacity: usize, size: usize, turned: usize, filled: usize, raw: bool) -> World {
        let (receiver, sender) = Pipe::simplex_with_capacity(capacity).expect("a pipe");
        let mut world = World {
            sender: Some(sender),
            receiver: Some(receiver),
            sent: Vec::new(),
            size,
            raw,
        };
        for _ in 0..turned {
            world.send(0);
            assert_eq!(world.receive().expect("sent"), 0);
        }
        for number in 1..=filled as u64 {
            world.send(number);
            world.sent.push(number);
        }
        world
    }

    fn send(&mut self, number: u64) {
        let sender = self.sender.as_mut().expect("this side holds it");
        let message = message(number, self.size);
        match self.raw {
            true => sender.send_bytes(&message).expect("room"),
            false => sender.send(message).expect("room"),
        }
    }

    fn receive(&mut self) -> Result<u64, RecvError> {
        let receiver = self.receiver.as_mut().expect("this side holds it");
        let message = match self.raw {
            true => ByteBuf::from(receiver.recv_bytes_timeout(LONG)?),
            false => receiver.recv_timeout(LONG)?,
        };
        Ok(number(&message, self.size))
    }

    /// All that still arrives, until the end is said.
    fn receive_to_the_end(&mut self) -> Vec<u64> {
        ends::receive_to_the_end(|| self.receive())
    }

    /// Sends until the end is said.
    fn send_to_the_end(&mut self) {
        let mut sender = self.sender.take().expect("this side holds it");
        ends::send_to_the_end(|message| sender.send_timeout(message, LONG), SMALL, 100_000);
    }
}

/// (capacity, size, turned, filled)
type Shape = (usize, usize, usize, usize);

fn sweep_sender(
    verb: &str,
    operation: fn((PipeSender<ByteBuf>, usize)),
    shapes: &[Shape],
    raw: bool,
    whole: Outcome,
    unblock: Option<&dyn Fn(&mut World)>,
) {
    let alone = alone();
    for &(capacity, size, turned, filled) in shapes {
        Sweep {
            name: &format!("{verb}, {size} B, {turned} turned, {filled} filled"),
            setup: &|| World::new(capacity, size, turned, filled, raw),
            victim: &|world: &mut World| {
                let sender = world.sender.take().expect("in every fresh world");
                spawn(operation, (sender, size)).expect("spawn")
            },
            unblock,
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

#[test]
fn pipe_send() {
    fn send((mut sender, size): (PipeSender<ByteBuf>, usize)) {
        let message = message(VICTIM, size);
        marked(|| sender.send(message)).expect("send");
    }
    let shapes = [
        (256, SMALL, 0, 0),
        // At the end of the ring: padding comes first.
        (256, SMALL, 10, 1),
        (20_000, BLOCK, 1, 2),
        (256, LARGE, 1, 1),
    ];
    sweep_sender("send", send, &shapes, false, Outcome::Done, None);
}

/// A message in pieces through a ring that it does not fit into: who reads makes room.
#[test]
fn pipe_stream() {
    fn stream((mut sender, size): (PipeSender<ByteBuf>, usize)) {
        let message = message(VICTIM, size);
        marked(|| sender.send_bytes(&message)).expect("send");
    }
    let drain = |world: &mut World| {
        let receiver = world.receiver.as_mut().expect("this side holds it");
        receiver.poll(std::time::Duration::ZERO);
    };
    let shapes = [(1024, 700, 1, 0)];
    sweep_sender("stream", stream, &shapes, true, Outcome::Done, None);
    // How many steps a wait takes depends on when it ends, so that points behind it are not the same in each round.
    let (shapes, untold) = ([(512, 1000, 0, 0)], Outcome::Untold);
    sweep_sender("stream", stream, &shapes, true, untold, Some(&drain));
}

#[test]
fn pipe_claim_and_commit() {
    fn claim((mut sender, size): (PipeSender<ByteBuf>, usize)) {
        let message = message(VICTIM, size);
        marked(|| {
            let mut claim = sender.claim(size)?;
            claim.copy_from_slice(&message);
            claim.commit()
        })
        .expect("claim and commit");
    }
    let shapes = [(256, SMALL, 10, 1), (1024, BLOCK, 0, 0)];
    sweep_sender("claim", claim, &shapes, true, Outcome::Done, None);
}

#[test]
fn pipe_drop_sender() {
    fn drop_sender((sender, _): (PipeSender<ByteBuf>, usize)) {
        marked(|| drop(sender));
    }
    let shapes = [(256, SMALL, 0, 1), (256, LARGE, 0, 1)];
    sweep_sender(
        "drop of a sender",
        drop_sender,
        &shapes,
        false,
        Outcome::Untold,
        None,
    );
}

fn sweep_receiver(verb: &str, operation: fn(PipeReceiver<ByteBuf>), shapes: &[Shape], raw: bool) {
    let alone = alone();
    for &(capacity, size, turned, filled) in shapes {
        Sweep {
            name: &format!("{verb}, {size} B, {turned} turned, {filled} filled"),
            setup: &|| World::new(capacity, size, turned, filled, raw),
            victim: &|world: &mut World| {
                let receiver = world.receiver.take().expect("in every fresh world");
                spawn(operation, receiver).expect("spawn")
            },
            unblock: None,
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

#[test]
fn pipe_recv() {
    fn receive(mut receiver: PipeReceiver<ByteBuf>) {
        marked(|| receiver.recv()).expect("recv");
    }
    let shapes = [
        (256, SMALL, 10, 2),
        (20_000, BLOCK, 0, 1),
        (256, LARGE, 0, 2),
    ];
    sweep_receiver("recv", receive, &shapes, false);
}

#[test]
fn pipe_recv_in_place_and_in_pieces() {
    fn borrow(mut receiver: PipeReceiver<ByteBuf>) {
        marked(|| receiver.recv_ref().map(drop)).expect("recv");
    }
    // The second comes in pieces that are all there.
    sweep_receiver(
        "borrow",
        borrow,
        &[(256, SMALL, 0, 2), (1024, 700, 0, 1)],
        true,
    );
}

#[test]
fn pipe_drop_receiver() {
    fn drop_receiver(receiver: PipeReceiver<ByteBuf>) {
        marked(|| drop(receiver));
    }
    let shapes = [(256, SMALL, 0, 1), (256, LARGE, 0, 2)];
    sweep_receiver("drop of a receiver", drop_receiver, &shapes, false);
}

/// Who waits is killed while, or before, or after the other side goes.
#[test]
fn pipe_waiting_for_the_end() {
    let alone = alone();
    fn wait(mut receiver: PipeReceiver<ByteBuf>) {
        let end = marked(|| receiver.recv());
        assert!(matches!(end, Err(RecvError::Closed)));
    }
    Sweep {
        name: "recv that waits for the end",
        setup: &|| World::new(256, SMALL, 0, 0, false),
        victim: &|world: &mut World| spawn(wait, world.receiver.take().unwrap()).unwrap(),
        unblock: Some(&|world: &mut World| world.sender = None),
        steady: false,
        check: &|world: World, _| {
            drop(world);
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
}

type Sender = Kept<PipeSender<ByteBuf>>;

/// A pipe whose sender goes through a queue.
struct Passing {
    inner: World,
    queue: Queue<Sender>,
    sender: Option<Sender>,
    /// A reference to it from before it moved, and a message with it. Nobody gets it there.
    names: (Sender, Queue<Sender>),
}

impl Passing {
    fn new() -> Passing {
        let mut inner = World::new(256, SMALL, 3, 0, false);
        let first = Kept::new(inner.sender.take().expect("in every fresh world"));
        let [queue, old] = [2, 1].map(|room| Queue::bounded(room).expect("a queue"));
        for to in [&old, &queue] {
            to.put(first.clone()).map_err(drop).expect("room");
        }
        let sender: Sender = queue.get().map_err(drop).expect("put");
        let sent = sender.get().send(message(1, SMALL));
        sent.expect("room");
        inner.sent.push(1);
        Passing {
            inner,
            queue,
            sender: Some(sender),
            names: (first, old),
        }
    }

    fn sender(&mut self) -> Sender {
        self.sender.take().expect("in every fresh world")
    }

    /// Whether the sender is in the queue; in any case the pipe ends when it is gone. When it is `named`, in spite of its other names.
    fn arrives(mut self, named: bool) -> bool {
        let sender = self.queue.try_get();
        let arrived = sender.is_ok();
        match sender {
            Ok(sender) => {
                let sent = sender.get().send(message(VICTIM, SMALL));
                sent.expect("it is open");
                self.inner.sent.push(VICTIM);
            }
            Err(error) => assert!(matches!(error, GetError::Empty), "{error:?}"),
        }
        if !named {
            drop(self.names);
            assert_eq!(self.inner.receive_to_the_end(), self.inner.sent);
            return arrived;
        }
        assert_eq!(self.inner.receive_to_the_end(), self.inner.sent);
        let (first, old) = self.names;
        assert!(first.get().is_closed());
        assert!(matches!(old.get(), Err(GetError::Decode(_))));
        arrived
    }
}

#[test]
fn pipe_sending_an_end() {
    let alone = alone();
    fn pass((queue, sender): (Queue<Sender>, Sender)) {
        marked(|| queue.put(sender).map_err(drop)).expect("put");
    }
    for named in [false, true] {
        Sweep {
            name: &format!("sending an end, named: {named}"),
            setup: &Passing::new,
            victim: &|world: &mut Passing| {
                spawn(pass, (world.queue.clone(), world.sender())).expect("spawn")
            },
            unblock: None,
            steady: false,
            check: &|world: Passing, _| world.arrives(named).into(),
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

#[test]
fn pipe_receiving_an_end() {
    let alone = alone();
    fn take(queue: Queue<Sender>) {
        let sender = marked(|| queue.get()).map_err(drop);
        drop(sender.expect("get"));
    }
    for named in [false, true] {
        Sweep {
            name: &format!("receiving an end, named: {named}"),
            setup: &|| {
                let mut world = Passing::new();
                let sender = world.sender();
                world.queue.put(sender).map_err(drop).expect("room");
                world
            },
            victim: &|world: &mut Passing| spawn(take, world.queue.clone()).expect("spawn"),
            unblock: None,
            steady: false,
            check: &|world: Passing, _| (!world.arrives(named)).into(),
            whole: Outcome::Done,
        }
        .run(&alone);
    }
}

/// Who collects what an owner left is killed: somebody else does it.
#[test]
fn pipe_collecting_an_end() {
    let alone = alone();
    fn hold(sender: Sender) {
        sender.get().send(message(2, SMALL)).expect("room");
        std::thread::sleep(LONG);
        drop(sender);
    }
    fn collect((): ()) {
        marked(multiprocess::family::stats);
    }
    Sweep {
        name: "collecting an end",
        setup: &|| {
            let mut world = Passing::new();
            let owner = spawn(hold, world.sender()).expect("spawn");
            for number in [1, 2] {
                assert_eq!(world.inner.receive().expect("sent"), number);
            }
            world.inner.sent.clear();
            owner.kill().expect("a child");
            (world, owner)
        },
        victim: &|_| spawn(collect, ()).expect("spawn"),
        unblock: None,
        steady: false,
        check: &|(world, owner): (Passing, Process<()>), _| {
            assert!(!world.arrives(true));
            owner.wait();
            Outcome::Untold
        },
        whole: Outcome::Untold,
    }
    .run(&alone);
}
