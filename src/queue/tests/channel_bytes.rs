//! Bytes, plain old data and messages in place at the ends of a channel.

use super::arena;
use crate::queue::channel::{channel_in, ends};
use crate::{Bytes, GetIntoError, Pod, Queue, Receiver, RecvError, SendError, Sender, channel};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(5);

#[test]
fn bytes_in_all_forms() {
    let arena = arena();
    let (sender, receiver) = channel_in::<Bytes, _>(&arena, 3).unwrap();
    let long = vec![7; 5000];
    sender.send_bytes(b"a").unwrap();
    sender.try_send_bytes(&long).unwrap();
    sender.send_bytes_timeout(b"", SOON).unwrap();
    let full = [
        sender.try_send_bytes(b"b"),
        sender.send_bytes_timeout(b"b", SOON),
    ];
    assert!(
        full.iter()
            .all(|sent| matches!(sent, Err(SendError::Full(()))))
    );

    assert_eq!(receiver.recv_bytes().unwrap(), b"a");
    let mut short = [0; 10];
    let too_short = receiver.try_recv_into(&mut short).unwrap_err();
    assert!(matches!(too_short, GetIntoError::TooShort(message) if message[..] == long));
    assert_eq!(receiver.recv_into_timeout(&mut short, SOON).unwrap(), 0);

    let mut loan = sender.loan(5000).unwrap();
    loan.copy_from_slice(&long);
    loan.put().unwrap();
    sender.loan(0).unwrap().put().unwrap();
    assert_eq!(&*receiver.recv_ref().unwrap(), long);
    assert_eq!(&*receiver.try_recv_ref().unwrap(), b"");

    let empty = |error| matches!(error, RecvError::Empty);
    assert!(empty(receiver.try_recv_bytes().unwrap_err()));
    assert!(empty(receiver.recv_bytes_timeout(SOON).unwrap_err()));
    assert!(empty(receiver.try_recv_ref().unwrap_err()));
    assert!(empty(receiver.recv_ref_timeout(SOON).unwrap_err()));

    sender.send_bytes(b"last").unwrap();
    drop(sender);
    assert_eq!(receiver.recv_into(&mut short).unwrap(), 4);
    assert!(matches!(receiver.recv_bytes(), Err(RecvError::Closed)));
    let closed = receiver.recv_into(&mut short).unwrap_err();
    assert!(matches!(closed, GetIntoError::Get(RecvError::Closed)));
    drop(receiver);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn plain_old_data_in_all_forms() {
    let arena = arena();
    for bounded in [true, false] {
        let (sender, receiver): (Sender<_, Pod>, Receiver<_, Pod>) = if bounded {
            channel_in(&arena, 100).unwrap()
        } else {
            ends(Queue::unbounded_in(&arena).unwrap()).unwrap()
        };
        sender.send([1, 2]).unwrap();
        sender.try_send([3, 4]).unwrap();
        assert_eq!(sender.send_many((5..50).map(|i| [i; 2])).unwrap(), 45);
        let mut loan = sender.loan().unwrap();
        *loan = [50u64; 2];
        loan.put().unwrap();
        assert_eq!(receiver.recv().unwrap(), [1, 2]);
        assert_eq!(*receiver.recv_ref().unwrap(), [3, 4]);
        assert_eq!(receiver.recv_many(44).unwrap().len(), 44);
        assert_eq!(*receiver.try_recv_ref().unwrap(), [49; 2]);
        drop(sender);
        let rest: Result<Vec<_>, _> = receiver.iter().collect();
        assert_eq!(rest.unwrap(), [[50; 2]]);
        let closed = receiver.recv_ref_timeout(SOON).unwrap_err();
        assert!(matches!(closed, RecvError::Closed));
    }
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn an_end_of_another_codec_is_another_type() {
    let (sender, _receiver) = crate::channel_pod::<u64>(2).unwrap();
    let (ends, other) = channel::<Sender<u64, Pod>>(1).unwrap();
    ends.send(sender).unwrap();
    other.recv().unwrap().send(7).unwrap();

    let arena = arena();
    let (sender, _receiver) = channel_in::<u64, Pod>(&arena, 2).unwrap();
    let parcel = crate::codec::encode_parcel(&arena, &sender, None).unwrap();
    let mistaken = crate::codec::decode_parcel::<Sender<u64>>(&arena, &parcel, Vec::new());
    assert!(mistaken.is_err());
    let right = crate::codec::decode_parcel::<Sender<u64, Pod>>(&arena, &parcel, Vec::new());
    right.unwrap().send(7).unwrap();
}
