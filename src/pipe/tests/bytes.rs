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
