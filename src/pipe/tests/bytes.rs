use super::super::end::Refused;
use super::super::stream::{Arrived, BYTES};
use super::*;
use std::sync::mpsc;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8)) as u8).collect()
}

#[test]
fn any_length_in_any_way() {
    let (mut receiver, mut sender) = simplex::<()>(1024);
    let mut buffer = vec![0; 1 << 20];
    for len in [0, 1, 7, 8, 240, 241, 248, 249, 1000, 5000, 1 << 20] {
        let bytes = pattern(len);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..4 {
                    sender.send_bytes(&bytes).unwrap();
                }
            });
            assert_eq!(receiver.recv_bytes().unwrap(), bytes);
            assert_eq!(receiver.recv_bytes_into(&mut buffer).unwrap(), len);
            assert_eq!(buffer[..len], bytes);
            assert_eq!(*receiver.recv_ref().unwrap(), *bytes);
            let error = receiver.recv_bytes_into(&mut buffer[..len / 2]);
            match error {
                Err(RecvIntoError::TooShort(message)) => assert_eq!(message, bytes),
                other => assert!(len == 0 && matches!(other, Ok(0))),
            }
        });
        // In a block when there is no time.
        sender.try_send_bytes(&bytes).unwrap();
        assert_eq!(receiver.try_recv_bytes().unwrap(), bytes);
        assert!(!receiver.poll(Duration::ZERO));
    }
}

#[test]
fn in_place() {
    let (mut receiver, mut sender) = simplex::<()>(1024);
    for len in [0, 1, 248, 249, 100_000] {
        let mut claim = sender.claim(len).unwrap();
        claim.copy_from_slice(&pattern(len));
        claim.commit().unwrap();
        // Neither of these is sent.
        drop(sender.claim(len).unwrap());
        if len < 249 {
            std::mem::forget(sender.claim(len).unwrap());
        }
        let mut claim = sender.try_claim(len).unwrap();
        claim.fill(7);
        claim.truncate(len / 2);
        claim.commit().unwrap();
        assert_eq!(*receiver.recv_ref().unwrap(), *pattern(len));
        assert_eq!(*receiver.try_recv_ref().unwrap(), *vec![7; len / 2]);
        assert!(matches!(receiver.try_recv_ref(), Err(GetError::Empty)));
    }
    let claim = sender.claim(3).unwrap();
    drop(receiver);
    assert!(matches!(claim.commit(), Err(PutError::Closed(()))));
}

/// What is borrowed keeps its place; who forgets it does not get it again.
#[test]
fn a_borrow_keeps_its_place() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    for round in 0..50_u8 {
        sender.send_bytes(&[round; 20]).unwrap();
        while sender.try_send_bytes(&[0xee; 20]).is_ok() {}
        let borrowed = receiver.recv_ref().unwrap();
        assert!(sender.try_send_bytes(&[0xee; 20]).is_err());
        assert_eq!(*borrowed, [round; 20]);
        if round % 2 == 0 {
            drop(borrowed);
        } else {
            std::mem::forget(borrowed);
        }
        while let Ok(bytes) = receiver.try_recv_bytes() {
            assert_eq!(bytes, [0xee; 20]);
        }
    }
}

/// The beginning of a message that timed out is no message, and what comes next is whole.
#[test]
fn a_send_that_timed_out_is_skipped() {
    let (mut receiver, mut sender) = simplex::<u64>(1024);
    let long = pattern(10_000);
    for round in 0..5_u64 {
        let error = sender.send_bytes_timeout(&long, SOON);
        assert!(matches!(error, Err(PutError::Full(()))));
        thread::scope(|scope| {
            scope.spawn(|| match round % 3 {
                0 => sender.send(round).unwrap(),
                1 => sender.send_bytes(&long[..9000]).unwrap(),
                _ => sender.send_bytes(b"short").unwrap(),
            });
            match round % 3 {
                0 => assert_eq!(receiver.recv().unwrap(), round),
                1 => assert_eq!(receiver.recv_bytes().unwrap(), long[..9000]),
                _ => assert_eq!(receiver.recv_bytes_into(&mut [0; 5]).unwrap(), 5),
            }
        });
    }
    let error = sender.send_bytes_timeout(&long, SOON);
    assert!(error.is_err());
    drop(sender);
    assert!(matches!(receiver.recv_bytes(), Err(GetError::Closed)));
}

/// A receive that ran out of time goes on where it was, by whatever call, in whoever has the end then.
#[test]
fn a_timed_receive_resumes() {
    let (mut receiver, mut sender) = simplex::<()>(1024);
    let long = pattern(100_000);
    let mut buffer = vec![0; long.len()];
    for way in 0..4 {
        thread::scope(|scope| {
            let (told, given_up) = mpsc::channel();
            let (sender, long) = (&mut sender, &long);
            scope.spawn(move || {
                if way == 3 {
                    let late = sender.send_bytes_timeout(&long[..50_000], SOON * 2);
                    assert!(late.is_err(), "nobody receives the end of it");
                    told.send(()).unwrap();
                } else {
                    sender.send_bytes(&long[..50_000]).unwrap();
                }
                sender.send_bytes(long).unwrap();
            });
            if way == 3 {
                // The first one is given up, after a part of it was received.
                assert!(
                    receiver
                        .recv_bytes_timeout(Duration::from_micros(1))
                        .is_err()
                );
                given_up.recv().unwrap();
                assert_eq!(receiver.recv_bytes().unwrap(), *long);
                return;
            }
            let mut tries = 0;
            let mut got = loop {
                tries += 1;
                let soon = Duration::from_micros(1);
                let got = match (way, tries % 3) {
                    (0, _) => receiver.recv_bytes_timeout(soon),
                    (1, _) | (2, 0) => match receiver.recv_bytes_into_timeout(&mut buffer, soon) {
                        Ok(len) => Ok(buffer[..len].to_vec()),
                        Err(RecvIntoError::Recv(error)) => Err(error),
                        Err(error) => panic!("{error:?}"),
                    },
                    (_, 1) => receiver.try_recv_ref().map(|bytes| bytes.to_vec()),
                    _ => {
                        receiver.poll(soon);
                        continue;
                    }
                };
                match got {
                    Ok(bytes) => break bytes,
                    Err(error) => assert!(matches!(error, GetError::Empty), "{error:?}"),
                }
            };
            assert_eq!(got, long[..50_000]);
            got = receiver.recv_bytes().unwrap();
            assert_eq!(got, *long);
        });
    }
}

#[test]
fn the_end_in_the_middle_of_a_message() {
    let (mut receiver, mut sender) = simplex::<()>(1024);
    sender.send_bytes(b"whole").unwrap();
    assert!(sender.send_bytes_timeout(&pattern(5000), SOON).is_err());
    drop(sender);
    assert_eq!(receiver.recv_bytes().unwrap(), b"whole");
    assert!(matches!(receiver.recv_bytes(), Err(GetError::Closed)));

    let (receiver, mut sender) = simplex::<()>(1024);
    thread::scope(|scope| {
        let sent = scope.spawn(move || sender.send_bytes(&pattern(5000)));
        thread::sleep(SOON);
        drop(receiver);
        assert!(matches!(sent.join().unwrap(), Err(PutError::Closed(()))));
    });
}

const FIRST_OF_BYTES: u8 = BYTES + 2;
const MORE: u8 = BYTES + 3;

fn send_piece<T>(sender: &mut PipeSender<T>, kind: u8, payload: &[u8]) {
    let writer = &mut sender.writer;
    let mut room = writer.room(payload.len(), Deadline::NOW).unwrap();
    writer.end.ring.room_mut(&mut room)[..payload.len()].copy_from_slice(payload);
    writer.commit(payload.len(), kind);
}

fn send_first<T>(sender: &mut PipeSender<T>, total: u64, data: &[u8]) {
    send_piece(
        sender,
        FIRST_OF_BYTES,
        &[&total.to_le_bytes(), data].concat(),
    );
}

/// A message that was begun goes on in the buffer of a call that has the time for all of it: no second copy at the end.
#[test]
fn what_was_begun_goes_on_in_the_buffer() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    let mut buffer = [0; 6];
    send_first(&mut sender, 6, b"abc");
    assert!(matches!(receiver.try_recv_bytes(), Err(GetError::Empty)));
    send_piece(&mut sender, MORE, b"def");
    let arrived = receiver.reader.next(Deadline::NEVER, Some(&mut buffer));
    assert!(matches!(arrived, Ok(Arrived::Filled(6))), "{arrived:?}");
    assert_eq!(&buffer, b"abcdef");
    // Too short for it: it is kept, and in the error.
    send_first(&mut sender, 6, b"abc");
    assert!(receiver.try_recv_bytes_into(&mut buffer).is_err());
    send_piece(&mut sender, MORE, b"def");
    match receiver.recv_bytes_into(&mut buffer[..5]) {
        Err(RecvIntoError::TooShort(message)) => assert_eq!(message, b"abcdef"),
        other => panic!("{other:?}"),
    }
}

/// What was kept once is not copied again by each call that is too short.
#[test]
fn what_was_kept_stays() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    let whole = pattern(100);
    let mut buffer = [0xee; 100];
    send_first(&mut sender, 100, &whole[..10]);
    assert!(receiver.try_recv_bytes_into(&mut buffer).is_err());
    for n in 1..10 {
        buffer = [0xee; 100];
        send_piece(&mut sender, MORE, &whole[n * 10..][..10]);
        let received = match n % 2 {
            0 => receiver.try_recv_bytes_into(&mut buffer),
            _ => receiver.recv_bytes_into_timeout(&mut buffer, SOON / 20),
        };
        match received {
            Err(_) => assert_eq!(buffer, [0xee; 100], "{n}"),
            Ok(len) => assert_eq!((n, len, &buffer[..]), (9, 100, &whole[..])),
        }
    }
}

/// What was borrowed and forgotten makes nobody's `wait` end; what lies behind it does.
#[test]
fn a_forgotten_borrow_is_not_ready() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    let is_ready = |receiver: &PipeReceiver<()>| {
        let ready = crate::sync::wait(&[receiver], Some(Duration::ZERO));
        !ready.unwrap().is_empty()
    };
    // At every place of the ring.
    for round in 0..60 {
        sender.send_bytes(&[7; 20]).unwrap();
        assert!(is_ready(&receiver));
        std::mem::forget(receiver.recv_ref().unwrap());
        assert!(!is_ready(&receiver), "{round}: it was received");
        sender.send_bytes(b"next").unwrap();
        assert!(is_ready(&receiver), "{round}: one behind it");
        assert_eq!(receiver.recv_bytes().unwrap(), b"next");
        assert!(!is_ready(&receiver));
    }
}

/// A piece of a message of which the beginning is unknown is nobody's; nor is what goes beyond a message's end.
#[test]
fn a_piece_of_nothing_is_dropped() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    send_piece(&mut sender, MORE, b"lost");
    assert!(!receiver.poll(Duration::ZERO));
    sender.send_bytes(b"whole").unwrap();
    assert_eq!(receiver.recv_bytes().unwrap(), b"whole");
    send_first(&mut sender, 4, b"ab");
    send_piece(&mut sender, MORE, b"cdef");
    assert_eq!(receiver.recv_bytes().unwrap(), b"abcd");
}

/// A part without an end ends with the next message, also for who only polls.
#[test]
fn a_whole_message_ends_a_part() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    for size in [5, 4] {
        send_first(&mut sender, size, b"part");
        assert_eq!(receiver.poll(Duration::ZERO), size == 4);
        sender.send_bytes(b"whole").unwrap();
        if size == 4 {
            assert_eq!(receiver.recv_bytes().unwrap(), b"part");
        }
        assert_eq!(receiver.recv_bytes().unwrap(), b"whole");
        // It is not gone on with.
        send_piece(&mut sender, MORE, b"e");
        assert!(!receiver.poll(Duration::ZERO));
        assert!(!receiver.reader.end.has(super::super::end::PARTIAL));
    }
}

/// No piece goes just because there is room for a header: each is of some size.
#[test]
fn no_piece_is_small() {
    let (mut receiver, mut sender) = simplex::<()>(256);
    // A little less room each time, at all places of the ring.
    for filled in 0..31 {
        (0..filled).for_each(|_| sender.send_bytes(&[]).unwrap());
        // As many pieces as there is room for.
        let late = sender.writer.stream(&pattern(1000), true, Deadline::NOW);
        assert!(matches!(late, Err(Refused::NotNow)));
        for _ in 0..filled {
            assert_eq!(receiver.recv_bytes().unwrap(), []);
        }
        let least = sender.writer.largest / 2;
        while let Some(record) = receiver.reader.cursor.peek(&receiver.reader.end.ring) {
            assert!(record.len >= least, "{filled}: a piece of {}", record.len);
            receiver.reader.release(record.len);
        }
    }
}

/// However well the writer keeps up: the time bounds the whole call.
#[test]
fn a_call_gathers_no_more_than_the_ring_holds() {
    const RING: usize = 1 << 16;
    const LEN: usize = 64 << 20;
    let (mut receiver, mut sender) = simplex::<()>(RING);
    thread::scope(|scope| {
        scope.spawn(move || sender.send_bytes(&vec![7; LEN]).unwrap());
        loop {
            let before = receiver.reader.partial.done;
            match receiver.try_recv_bytes() {
                Ok(bytes) => break assert!(bytes == vec![7; LEN]),
                Err(error) => assert!(matches!(error, GetError::Empty), "{error:?}"),
            }
            let gathered = receiver.reader.partial.done - before;
            assert!(gathered <= RING + RING / 4, "{gathered}");
        }
    });
}

/// What has no room in one piece is not begun by a call that has no time.
#[test]
fn without_memory_and_time_nothing_is_begun() {
    let arena = Arena::heap(4, crate::KINDS).unwrap();
    let (mut receiver, mut sender) = Pipe::simplex_in::<Vec<u8>>(&arena, 1024).unwrap();
    let refused = sender.try_send(vec![1; 64 << 20]);
    assert!(matches!(refused, Err(PutError::NoMemory(_))));
    sender.try_send(vec![2]).unwrap();
    assert_eq!(receiver.try_recv().unwrap(), [2]);
}
