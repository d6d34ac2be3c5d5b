//! Ends that move: one owner at any time.

use super::*;
use crate::error::Error;
use std::sync::{Arc, Mutex};

fn ends<T>(arena: &Arena) -> (PipeReceiver<T>, PipeSender<T>) {
    Pipe::simplex_in(arena, 256).unwrap()
}

/// Goes into messages and is kept by way of a reference all the same.
struct Kept<T>(Arc<Mutex<T>>);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Kept(self.0.clone())
    }
}

impl<T: Serialize> Serialize for Kept<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.lock().unwrap().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Kept<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let held = T::deserialize(deserializer)?;
        Ok(Kept(Arc::new(Mutex::new(held))))
    }
}

#[test]
fn an_end_moves_with_what_is_in_the_pipe() {
    let arena = arena();
    let (mut take, mut give) = ends::<(PipeReceiver<String>, PipeSender<String>)>(&arena);
    let (mut receiver, mut sender) = ends::<String>(&arena);
    for round in 0..50 {
        sender.send(format!("before {round}")).unwrap();
        give.send((receiver, sender)).unwrap();
        (receiver, sender) = take.recv().unwrap();
        sender.send(format!("after {round}")).unwrap();
        assert_eq!(receiver.recv().unwrap(), format!("before {round}"));
        assert_eq!(receiver.recv().unwrap(), format!("after {round}"));
    }
    drop(sender);
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
    drop((receiver, take, give));
    assert_eq!((objects(&arena), arena.stats().bytes_in_use), (0, 0));
}

#[test]
fn a_connection_moves_through_itself() {
    type Through = Option<Box<Connection<u8, u8>>>;
    let arena = arena();
    let (mut a, mut b) = Pipe::duplex_in::<Through, u8>(&arena, 256).unwrap();
    let (inner, mut other) = Pipe::duplex_in::<u8, u8>(&arena, 256).unwrap();
    a.send(Some(Box::new(inner))).unwrap();
    let mut inner = b.recv().unwrap().unwrap();
    inner.send(3).unwrap();
    assert_eq!(other.recv().unwrap(), 3);
    other.send(4).unwrap();
    assert_eq!(inner.recv().unwrap(), 4);
}

#[test]
fn a_failed_send_leaves_the_end() {
    let arena = arena();
    let (take, mut give) = ends::<(PipeSender<u8>, Vec<u8>)>(&arena);
    let (mut receiver, mut sender) = ends::<u8>(&arena);
    let mut others = Vec::new();
    // Until it is full.
    loop {
        let (receiver, other) = ends::<u8>(&arena);
        others.push(receiver);
        if give.try_send((other, vec![0; 1000])).is_err() {
            break;
        }
    }
    for round in 0..3 {
        let Err(PutError::Full((back, _))) = give.try_send((sender, vec![0; 1000])) else {
            panic!("it is full");
        };
        sender = back;
        if round > 0 {
            sender.send(round).unwrap();
            assert_eq!(receiver.recv().unwrap(), round);
        }
    }
    drop(take);
    let Err(PutError::Closed((mut sender, _))) = give.send((sender, Vec::new())) else {
        panic!("it is closed");
    };
    sender.send(9).unwrap();
    assert_eq!(receiver.recv().unwrap(), 9);
    // Given back and dropped without any use, it ends all the same.
    let Err(PutError::Closed((sender, _))) = give.send((sender, Vec::new())) else {
        panic!("it is closed");
    };
    drop(sender);
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
    // The senders in the messages that nobody received are gone.
    others.pop();
    for mut receiver in others {
        assert!(matches!(receiver.recv(), Err(GetError::Closed)));
    }
}

#[test]
fn an_end_is_in_a_message_once() {
    let arena = arena();
    #[derive(Deserialize)]
    struct Twice(PipeSender<u8>, #[allow(dead_code)] Option<PipeSender<u8>>);
    impl Serialize for Twice {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (&self.0, Some(&self.0)).serialize(serializer)
        }
    }
    let (mut take, mut give) = ends::<Twice>(&arena);
    let (mut receiver, sender) = ends::<u8>(&arena);
    let Err(PutError::Encode(Twice(mut sender, _), error)) = give.send(Twice(sender, None)) else {
        panic!("it must not be sent");
    };
    assert!(error.to_string().contains(&Error::Moved.to_string()));
    assert!(take.try_recv().is_err());
    sender.send(5).unwrap();
    assert_eq!(receiver.recv().unwrap(), 5);
}

/// A copy by way of a reference that was kept: one of the two is the owner.
#[test]
fn a_second_copy_is_an_error() {
    let arena = arena();
    let (mut take, mut give) = ends::<Kept<PipeSender<u8>>>(&arena);

    // Received: the one who kept it has lost it.
    let (mut receiver, sender) = ends::<u8>(&arena);
    let kept = Kept(Arc::new(Mutex::new(sender)));
    give.send(kept.clone()).unwrap();
    give.send(kept.clone()).unwrap();
    let got = take.recv().unwrap();
    let second = take.recv().err().unwrap();
    assert!(matches!(second, GetError::Decode(error) if error.to_string().contains("owner")));
    assert!(matches!(
        kept.0.lock().unwrap().send(1),
        Err(PutError::Closed(1))
    ));
    assert!(matches!(give.send(kept.clone()), Err(PutError::Encode(..))));
    drop(kept);
    got.0.lock().unwrap().send(2).unwrap();
    assert_eq!(receiver.recv().unwrap(), 2);
    drop(got);
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));

    // Used again before it was received: the copy in the message is nobody's.
    let (mut receiver, sender) = ends::<u8>(&arena);
    let kept = Kept(Arc::new(Mutex::new(sender)));
    give.send(kept.clone()).unwrap();
    kept.0.lock().unwrap().send(3).unwrap();
    assert!(matches!(take.recv(), Err(GetError::Decode(_))));
    kept.0.lock().unwrap().send(4).unwrap();
    assert_eq!(receiver.recv().unwrap(), 3);
    assert_eq!(receiver.recv().unwrap(), 4);
}

#[test]
fn a_part_that_has_arrived_moves_along() {
    let arena = arena();
    let (mut take, mut give) = ends::<PipeReceiver<()>>(&arena);
    let (mut receiver, mut sender) = ends::<()>(&arena);
    let long: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| sender.send_bytes(&long).unwrap());
        while receiver.reader.partial.done == 0 {
            receiver.poll(Duration::from_millis(1));
        }
        assert!(receiver.reader.partial.done < long.len() || receiver.poll(Duration::ZERO));
        give.send(receiver).unwrap();
        let mut moved = take.recv().unwrap();
        assert_eq!(moved.recv_bytes().unwrap(), long);
        give.send(moved).unwrap();
    });
    let mut receiver = take.recv().unwrap();
    // What was borrowed and forgotten stays behind.
    sender.send_bytes(b"first").unwrap();
    sender.send_bytes(b"second").unwrap();
    std::mem::forget(receiver.recv_ref().unwrap());
    give.send(receiver).unwrap();
    receiver = take.recv().unwrap();
    assert_eq!(receiver.recv_bytes().unwrap(), b"second");
}

#[test]
fn only_within_a_message_and_of_its_type() {
    let arena = arena();
    let (receiver, sender) = ends::<u8>(&arena);
    assert!(postcard::to_allocvec(&sender).is_err());
    assert!(postcard::to_allocvec(&receiver).is_err());
    let (mut take, mut give) = ends::<PipeSender<u8>>(&arena);
    give.send(sender).unwrap();
    let mut take = {
        // Another type at the same place.
        let bytes = take.recv_bytes().unwrap();
        assert!(!bytes.is_empty());
        take
    };
    assert!(take.try_recv().is_err());
    // The end in the message whose bytes alone were wanted is gone.
    let mut receiver = receiver;
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
}

#[test]
fn ends_of_the_gone_wake_who_waits() {
    let arena = arena();
    let (take, mut give) = ends::<PipeSender<u8>>(&arena);
    let (mut receiver, sender) = ends::<u8>(&arena);
    give.send(sender).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.recv());
        thread::sleep(SOON);
        // With it goes the message, and the end in it.
        drop(take);
        assert!(matches!(waiting.join().unwrap(), Err(GetError::Closed)));
    });
}

/// Who only looks at an end in a message leaves it there; it may come back as long as nobody has taken it.
#[test]
fn a_look_takes_nothing_back() {
    let arena = arena();
    type Both = Kept<(PipeSender<u8>, PipeReceiver<u8>)>;
    // Whether each is closed, is said to be, and whether a message or the end is there.
    let look = |kept: &Both| {
        let ends = kept.0.lock().unwrap();
        let (sender, receiver) = &*ends;
        let says = |closed: bool, said: String| {
            assert_eq!(said.contains("closed: true"), closed, "{said}");
            closed
        };
        let sent = says(sender.is_closed(), format!("{sender:?}"));
        let received = says(receiver.is_closed(), format!("{receiver:?}"));
        let ready = crate::sync::wait(&[receiver], Some(Duration::ZERO)).unwrap();
        (sent, received, !ready.is_empty())
    };
    let (mut take, mut give) = ends::<Both>(&arena);
    for is_used in [false, true] {
        let (receiver, mut other_sender) = ends::<u8>(&arena);
        let (_other_receiver, sender) = ends::<u8>(&arena);
        let kept = Kept(Arc::new(Mutex::new((sender, receiver))));
        assert_eq!(look(&kept), (false, false, false));
        give.send(kept.clone()).unwrap();
        assert_eq!(look(&kept), (false, false, false));
        other_sender.send(1).unwrap();
        assert_eq!(look(&kept), (false, false, true));
        if is_used {
            kept.0.lock().unwrap().0.send(2).unwrap();
            assert_eq!(kept.0.lock().unwrap().1.recv().unwrap(), 1);
            assert!(matches!(take.recv(), Err(GetError::Decode(_))));
        } else {
            let taken = take.recv().unwrap();
            assert_eq!(look(&kept), (true, true, true));
            assert_eq!(taken.0.lock().unwrap().1.recv().unwrap(), 1);
            drop(taken);
        }
        // Who took them has closed them.
        assert_eq!(look(&kept), (!is_used, !is_used, !is_used));
        assert_eq!(other_sender.is_closed(), !is_used);
    }
}

/// Given up by who could have had it back: with nobody left who can have it, it ends, though others still know it.
#[test]
fn what_was_given_up_is_closed() {
    let arena = arena();
    type Sender = Kept<PipeSender<u8>>;
    let (mut take, mut give) = ends::<Sender>(&arena);
    for is_sent in [false, true] {
        let (mut receiver, sender) = ends::<u8>(&arena);
        // Three who know it: who had it first, who has it, and a message in which it was.
        let first = Kept(Arc::new(Mutex::new(sender)));
        give.send(first.clone()).unwrap();
        give.send(first.clone()).unwrap();
        let second = take.recv().unwrap();
        let (mut other_take, mut other_give) = ends::<Sender>(&arena);
        if is_sent {
            other_give.send(second).unwrap();
            assert!(
                receiver
                    .recv_timeout(SOON)
                    .is_err_and(|e| matches!(e, GetError::Empty))
            );
            other_take.recv_bytes().unwrap();
        } else {
            drop(other_take);
            let refused = other_give.send(second).err().unwrap();
            drop(refused);
        }
        assert!(matches!(receiver.recv(), Err(GetError::Closed)));
        // The sender learns that it is somebody else's before it sends it once more.
        assert!(matches!(give.send(first), Err(PutError::Encode(..))));
        assert!(matches!(take.recv(), Err(GetError::Decode(_))));
    }
    drop((take, give));
    assert_eq!((objects(&arena), arena.stats().bytes_in_use), (0, 0));
}

/// Its next owner goes on where it was.
#[test]
fn what_was_set_aside_moves() {
    let arena = arena();
    let (mut take, mut give) = ends::<PipeSender<String>>(&arena);
    let (mut receiver, mut sender) = ends::<String>(&arena);
    for round in 0..50 {
        sender.send(format!("before {round}")).unwrap();
        sender.set_aside();
        give.send(sender).unwrap();
        sender = take.recv().unwrap();
        sender.send(format!("after {round}")).unwrap();
        receiver.set_aside();
        assert_eq!(receiver.recv().unwrap(), format!("before {round}"));
        assert_eq!(receiver.recv().unwrap(), format!("after {round}"));
    }
}
