#![forbid(unsafe_code)]

use crate::arena::Arena;
use crate::codec::Serde;
use crate::queue::channel::channel_in;
use crate::{GetError, PutError, Queue, Receiver, Sender};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(20);

fn arena() -> Arena {
    Arena::heap(256, crate::KINDS).unwrap()
}

fn channel<T: Serialize + DeserializeOwned>(capacity: usize) -> (Arena, Sender<T>, Receiver<T>) {
    let arena = arena();
    let (sender, receiver) = channel_in(&arena, capacity).unwrap();
    (arena, sender, receiver)
}

fn in_use(arena: &Arena) -> u64 {
    arena.stats().bytes_in_use
}

#[test]
fn receivers_end_after_draining_when_the_last_sender_is_gone() {
    let (arena, sender, receiver) = channel::<u32>(4);
    let clone = sender.clone();
    sender.send(1).unwrap();
    drop(sender);
    assert!(!receiver.is_closed() && !clone.is_closed());
    clone.send(2).unwrap();
    drop(clone);
    assert!(receiver.is_closed());
    assert_eq!(receiver.len(), 2);
    assert_eq!(
        receiver.iter().map(Result::unwrap).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
    assert!(matches!(receiver.try_recv(), Err(GetError::Closed)));
    let timed = receiver.recv_timeout(SOON);
    assert!(matches!(timed, Err(GetError::Closed)));
    drop(receiver);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn senders_end_when_the_last_receiver_is_gone() {
    let (arena, sender, receiver) = channel::<u32>(1);
    let clone = receiver.clone();
    drop(receiver);
    sender.send(1).unwrap();
    assert!(sender.try_send(2).unwrap_err().is_full());
    assert!(sender.send_timeout(2, SOON).unwrap_err().is_full());
    drop(clone);
    assert!(sender.is_closed());
    assert!(matches!(sender.send(3), Err(PutError::Closed(3))));
    assert!(matches!(sender.try_send(4), Err(PutError::Closed(4))));
    let timed = sender.send_timeout(5, SOON);
    assert!(matches!(timed, Err(PutError::Closed(5))));
    drop(sender);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn many_at_a_time_until_the_other_side_is_gone() {
    let (arena, sender, receiver) = channel::<u32>(4);
    assert_eq!(sender.send_many(0..3).unwrap(), 3);
    let full = sender.try_send_many(3..6).unwrap_err();
    assert!(full.sent == 1 && full.cause.is_full());
    assert_eq!(full.rest.collect::<Vec<_>>(), [4, 5]);
    let timed = sender.send_many_timeout([9], SOON).unwrap_err();
    assert!(timed.sent == 0 && timed.cause.is_full());
    assert_eq!(receiver.recv_many(3).unwrap(), [0, 1, 2]);
    assert_eq!(receiver.recv_many_timeout(3, SOON).unwrap(), [3]);
    assert!(receiver.recv_many(0).unwrap().is_empty());
    let nothing = receiver.try_recv_many(3).unwrap_err().cause;
    assert!(matches!(nothing, GetError::Empty));
    sender.send_many([7, 8]).unwrap();
    drop(sender);
    assert_eq!(receiver.try_recv_many(9).unwrap(), [7, 8]);
    for over in [
        receiver.recv_many(1),
        receiver.try_recv_many(1),
        receiver.recv_many_timeout(1, SOON),
    ] {
        assert!(matches!(over.unwrap_err().cause, GetError::Closed));
    }
    drop(receiver);
    assert_eq!(in_use(&arena), 0);

    let (_arena, sender, receiver) = channel::<u32>(4);
    drop(receiver);
    for closed in [
        sender.send_many(0..3),
        sender.try_send_many(0..3),
        sender.send_many_timeout(0..3, SOON),
    ] {
        let closed = closed.unwrap_err();
        assert!(closed.sent == 0 && closed.cause.is_closed());
    }
}

#[test]
fn who_waits_is_woken() {
    let (_arena, sender, receiver) = channel::<u32>(1);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.recv());
        thread::sleep(SOON);
        drop(sender);
        assert!(matches!(waiting.join().unwrap(), Err(GetError::Closed)));
    });
    let (_arena, sender, receiver) = channel::<u32>(1);
    sender.send(1).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| sender.send(2));
        thread::sleep(SOON);
        drop(receiver);
        assert!(matches!(waiting.join().unwrap(), Err(PutError::Closed(2))));
    });
}

#[test]
fn what_nobody_can_receive_goes_with_the_last_receiver() {
    let (arena, sender, receiver) = channel::<Vec<u8>>(4);
    let before = in_use(&arena);
    for len in [10, 1000, 100_000] {
        sender.send(vec![1; len]).unwrap();
    }
    assert!(in_use(&arena) > before + 101_000);
    drop(receiver);
    assert!(in_use(&arena) < before, "the role itself has gone, too");
    assert_eq!(sender.len(), 0);
    drop(sender);
    assert_eq!(in_use(&arena), 0);
}

#[derive(Serialize, Deserialize)]
enum Parts {
    Sender(Sender<Parts>),
    Receiver(Receiver<Parts>),
    Nothing,
}

#[test]
fn an_end_in_its_own_channel_is_held() {
    let (arena, sender, receiver) = channel::<Parts>(4);
    sender.send(Parts::Sender(sender.clone())).unwrap();
    drop(sender);
    assert!(!receiver.is_closed(), "the message holds a sender");
    let Ok(Parts::Sender(sender)) = receiver.recv() else {
        panic!("the sender was sent");
    };
    sender.send(Parts::Receiver(receiver.clone())).unwrap();
    sender.send(Parts::Nothing).unwrap();
    let Ok(Parts::Receiver(again)) = receiver.recv() else {
        panic!("the receiver was sent");
    };
    drop(receiver);
    assert!(!sender.is_closed());
    drop(sender);
    assert!(matches!(again.recv(), Ok(Parts::Nothing)));
    assert!(matches!(again.recv(), Err(GetError::Closed)));
    drop(again);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn a_channel_whose_senders_are_all_within_it_goes_with_its_receivers() {
    let (arena, sender, receiver) = channel::<Parts>(4);
    for _ in 0..3 {
        sender.send(Parts::Sender(sender.clone())).unwrap();
    }
    drop(sender);
    assert!(!receiver.is_closed());
    drop(receiver);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn a_long_chain_of_channels_is_dropped_without_recursion() {
    #[derive(Serialize, Deserialize)]
    struct Chain(Option<Receiver<Chain>>);
    let arena = Arena::heap(2000, crate::KINDS).unwrap();
    let mut senders = Vec::new();
    let mut first = None;
    for _ in 0..10_000 {
        let (sender, receiver) = channel_in::<Chain, Serde>(&arena, 1).unwrap();
        sender.send(Chain(first)).unwrap();
        first = Some(receiver);
        senders.push(sender);
    }
    drop(first);
    assert!(senders.iter().all(Sender::is_closed));
    drop(senders);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn ends_pass_through_queues() {
    let (arena, sender, receiver) = channel::<String>(2);
    let queue = Queue::<(Sender<String>, u8)>::bounded_in(&arena, 2).unwrap();
    queue.put((sender, 1)).unwrap();
    assert!(!receiver.is_closed());
    let (sender, _) = queue.get().unwrap();
    sender.send("hello".into()).unwrap();
    queue.put((sender, 2)).unwrap();
    drop(queue);
    assert_eq!(receiver.recv().unwrap(), "hello");
    assert!(
        matches!(receiver.recv(), Err(GetError::Closed)),
        "the sender went with the queue"
    );
    assert_eq!(arena.stats().objects.get("senders"), None);
    assert_eq!(arena.stats().objects["receivers"], 1);
    drop(receiver);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn an_end_is_not_taken_for_another() {
    /// Encodes as a sender, decodes as something else.
    struct Sent(Sender<u8>);
    impl Serialize for Sent {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }
    fn decode<D: DeserializeOwned>(arena: &Arena, value: &Sent) -> Option<String> {
        let parcel = crate::codec::encode_parcel(arena, value, None).unwrap();
        let decoded = crate::codec::decode_parcel::<D>(arena, &parcel, Vec::new());
        decoded.err().map(|error| error.to_string())
    }
    let (arena, sender, receiver) = channel::<u8>(2);
    let sent = Sent(sender);
    assert_eq!(decode::<Sender<u8>>(&arena, &sent), None);
    let refused = decode::<Receiver<u8>>(&arena, &sent).unwrap();
    assert!(refused.contains("another type"), "{refused}");
    let refused = decode::<Sender<String>>(&arena, &sent).unwrap();
    assert!(refused.contains("another type"), "{refused}");
    drop(sent);
    assert!(receiver.is_closed(), "whatever was refused holds nothing");
}

#[test]
fn a_role_opens_its_own_channel_only() {
    /// The role of one sender with the queue of another.
    struct Mixed(Sender<u8>, Queue<u8>);
    impl Serialize for Mixed {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // The sender's role is handle 0 and its ring 1; the other queue is 2.
            (&self.0, &self.1).serialize(serializer)
        }
    }
    #[derive(Debug)]
    #[allow(dead_code)]
    struct Crossed(Sender<u8>);
    impl<'de> Deserialize<'de> for Crossed {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Sender::deserialize(deserializer).map(Crossed)
        }
    }
    let arena = arena();
    let (sender, receiver) = channel_in::<u8, Serde>(&arena, 1).unwrap();
    let other = Queue::<u8>::bounded_in(&arena, 1).unwrap();
    let mut parcel = crate::codec::encode_parcel(&arena, &Mixed(sender, other), None).unwrap();
    assert_eq!(parcel.bytes(), [0, 1, 2]);
    parcel.bytes_mut().copy_from_slice(&[0, 2, 0]);
    let crossed = crate::codec::decode_parcel::<(Crossed, u8)>(&arena, &parcel, Vec::new());
    assert!(crossed.is_err());
    drop(crossed);
    drop(parcel);
    assert!(receiver.is_closed());
    drop(receiver);
    assert_eq!(in_use(&arena), 0);
}

#[test]
fn an_end_outside_a_message_is_an_error() {
    let (_arena, sender, receiver) = channel::<u8>(1);
    assert!(postcard::to_allocvec(&sender).is_err());
    assert!(postcard::to_allocvec(&receiver).is_err());
    assert!(postcard::from_bytes::<Sender<u8>>(&[0, 1]).is_err());
}

#[test]
fn many_threads_end_without_being_told() {
    for capacity in [1, 3, 64] {
        let (arena, sender, receiver) = channel::<u64>(capacity);
        let each = if capacity == 1 { 1000 } else { 5000 };
        let sum: u64 = thread::scope(|scope| {
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    let receiver = receiver.clone();
                    scope.spawn(move || receiver.iter().map(Result::unwrap).sum::<u64>())
                })
                .collect();
            for _ in 0..3 {
                let sender = sender.clone();
                scope.spawn(move || (1..=each).for_each(|i| sender.send(i).unwrap()));
            }
            drop((sender, receiver));
            consumers.into_iter().map(|c| c.join().unwrap()).sum()
        });
        assert_eq!(sum, 3 * each * (each + 1) / 2);
        assert_eq!(in_use(&arena), 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u16),
    Receive,
    CloneSender,
    CloneReceiver,
    DropSender,
    DropReceiver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => any::<u16>().prop_map(Step::Send),
        5 => Just(Step::Receive),
        1 => Just(Step::CloneSender),
        1 => Just(Step::CloneReceiver),
        1 => Just(Step::DropSender),
        1 => Just(Step::DropReceiver),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_like_a_deque_with_two_counts(capacity in 1_usize..8, steps in steps()) {
        let (arena, sender, receiver) = channel::<(u16, Vec<u8>)>(capacity);
        let (mut senders, mut receivers) = (vec![sender], vec![receiver]);
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                Step::Send(value) => if let Some(sender) = senders.last() {
                    let item = (value, vec![1; usize::from(value) / 100]);
                    match sender.try_send(item.clone()) {
                        Ok(()) => model.push_back(item),
                        Err(PutError::Closed(_)) => prop_assert!(receivers.is_empty()),
                        Err(error) => prop_assert!(error.is_full() && model.len() == capacity),
                    }
                },
                Step::Receive => if let Some(receiver) = receivers.last() {
                    match receiver.try_recv() {
                        Ok(item) => prop_assert_eq!(Some(item), model.pop_front()),
                        Err(GetError::Closed) => prop_assert!(senders.is_empty() && model.is_empty()),
                        Err(_) => prop_assert!(!senders.is_empty() && model.is_empty()),
                    }
                },
                Step::CloneSender => senders.extend(senders.last().cloned()),
                Step::CloneReceiver => receivers.extend(receivers.last().cloned()),
                Step::DropSender => drop(senders.pop()),
                Step::DropReceiver => drop(receivers.pop()),
            }
            if receivers.is_empty() {
                model.clear();
            }
            let ends = senders.is_empty() || receivers.is_empty();
            for sender in &senders {
                prop_assert_eq!((sender.len(), sender.is_closed()), (model.len(), ends));
            }
            for receiver in &receivers {
                prop_assert_eq!((receiver.len(), receiver.is_closed()), (model.len(), ends));
            }
        }
        drop((senders, receivers));
        prop_assert_eq!(arena.stats().bytes_in_use, 0);
    }
}
