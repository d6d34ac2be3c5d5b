//! Python's `Pipe` and `Connection` row by row; where these differ, the comment says how.
//!
//! Rows that are types here: "wrong direction" (an end of a simplex pipe has the calls of its side, see `Pipe::simplex`), "after
//! `close()`" (it takes the connection), "concurrency" (every call takes `&mut self`, and an end is not `Sync`). "Sharing" is
//! `passing`, "EOF caveat" is `deaths::brothers_hold_nothing_open` and `promises::kin_of_the_dead_hold_nothing_open`.

use std::thread;
use std::time::Duration;

use multiprocess::{Connection, Pipe, PipeReceiver, RecvError, RecvIntoError, SendError};

use super::{SOON, start, watch};

type Numbers = Connection<u64, u64>;

/// Row `send`, `recv`.
#[test]
fn send_and_recv_both_ways() {
    let _watch = watch();
    fn double(mut connection: Numbers) -> u64 {
        let mut count = 0;
        while let Ok(number) = connection.recv() {
            connection.send(number * 2).unwrap();
            count += 1;
        }
        count
    }
    let (mut here, there) = Pipe::duplex::<u64, u64>().unwrap();
    let process = start(double, there);
    for number in 0..10_000 {
        here.send(number).unwrap();
        assert_eq!(here.recv().unwrap(), number * 2);
    }
    here.close();
    assert_eq!(process.join().unwrap(), 10_000);
}

/// Rows `recv` and `send*` after the peer closed: what was sent, then `EOFError` there; `BrokenPipeError`. Here `Closed`, every time.
#[test]
fn the_end_of_file() {
    let _watch = watch();
    fn send(mut connection: Numbers) {
        connection.send(1).unwrap();
        connection.send(2).unwrap();
    }
    let (mut here, there) = Pipe::duplex::<u64, u64>().unwrap();
    let process = start(send, there);
    assert_eq!(here.recv().unwrap(), 1);
    assert_eq!(here.recv().unwrap(), 2);
    for _ in 0..3 {
        assert!(matches!(here.recv(), Err(RecvError::Closed)));
        assert!(matches!(here.recv_bytes(), Err(RecvError::Closed)));
        assert!(here.poll(Duration::ZERO));
        assert!(matches!(here.send(3), Err(SendError::Closed(3))));
        assert!(matches!(here.send_bytes(b""), Err(SendError::Closed(()))));
    }
    process.join().unwrap();
}

/// Row `recv`, malformed: an error of its own, and the next message is whole.
#[test]
fn framing_stays_intact() {
    let _watch = watch();
    fn send(mut connection: Connection<String, ()>) {
        connection.send_bytes(&[5, 0xff, 0xff]).unwrap();
        connection.send("good".to_string()).unwrap();
    }
    let (mut here, there) = Pipe::duplex::<(), String>().unwrap();
    let process = start(send, there);
    assert!(matches!(here.recv(), Err(RecvError::Decode(_))));
    assert_eq!(here.recv().unwrap(), "good");
    process.join().unwrap();
}

/// Rows `send_bytes` (with no offset and size: a slice has its own), `recv_bytes` and `recv_bytes_into`.
#[test]
fn bytes_of_any_length() {
    let _watch = watch();
    fn echo(mut connection: Connection<(), ()>) {
        while let Ok(bytes) = connection.recv_bytes() {
            connection.send_bytes(&bytes).unwrap();
        }
    }
    let (mut here, there) = Pipe::duplex::<(), ()>().unwrap();
    let process = start(echo, there);
    let mut buffer = vec![0; 3 << 20];
    for len in [0, 1, 8, 100, 7000, 31_000, 100_000, 3 << 20] {
        let bytes: Vec<u8> = (0..len).map(|i: usize| (i ^ (i >> 8)) as u8).collect();
        here.send_bytes(&bytes).unwrap();
        assert_eq!(here.recv_bytes().unwrap(), bytes);
        here.send_bytes(&bytes).unwrap();
        assert_eq!(here.recv_bytes_into(&mut buffer).unwrap(), len);
        assert_eq!(buffer[..len], bytes);
        let mut claim = here.claim(len).unwrap();
        claim.copy_from_slice(&bytes);
        claim.commit().unwrap();
        assert_eq!(*here.recv_ref().unwrap(), *bytes);
    }
    // Too short a buffer: the message is in the error, the connection stays usable.
    here.send_bytes(b"too long").unwrap();
    match here.recv_bytes_into(&mut buffer[..3]) {
        Err(RecvIntoError::TooShort(message)) => assert_eq!(message, b"too long"),
        other => panic!("{other:?}"),
    }
    here.send_bytes(b"ok").unwrap();
    assert_eq!(here.recv_bytes_into(&mut buffer[..3]).unwrap(), 2);
    here.close();
    process.join().unwrap();
}

/// Row `recv_bytes(maxlength)`: there a longer message ends the connection, or one direction of it. Here the buffer is
/// the bound, the message is in the error, and all goes on, however it comes: in the ring, in pieces, in a block.
#[test]
fn a_message_beyond_the_bound_is_an_error_of_its_own() {
    let _watch = watch();
    const LENS: [usize; 3] = [100, 100_000, 100_001];
    fn send(mut connection: Connection<(), ()>) {
        for len in LENS {
            match len % 2 {
                0 => connection.send_bytes(&vec![7; len]).unwrap(),
                _ => connection.try_send_bytes(&vec![7; len]).unwrap(),
            }
            connection.send_bytes(b"next").unwrap();
        }
        assert_eq!(connection.recv_bytes().unwrap(), b"still open");
    }
    let (mut here, there) = Pipe::duplex::<(), ()>().unwrap();
    let process = start(send, there);
    let mut bound = [0; 50];
    for len in LENS {
        match here.recv_bytes_into(&mut bound) {
            Err(RecvIntoError::TooShort(message)) => assert_eq!(message, vec![7; len]),
            other => panic!("{other:?}"),
        }
        assert_eq!(here.recv_bytes_into(&mut bound).unwrap(), 4);
        assert_eq!(&bound[..4], b"next");
    }
    here.send_bytes(b"still open").unwrap();
    process.join().unwrap();
}

/// Row "EOF in the middle of a message": an `OSError` there. Here a message that is not whole was not sent.
#[test]
fn the_end_in_the_middle_of_a_message() {
    let _watch = watch();
    fn send_half(mut connection: Connection<(), ()>) {
        connection.send_bytes(b"whole").unwrap();
        let error = connection.send_bytes_timeout(&[7; 100_000], SOON);
        assert!(matches!(error, Err(SendError::Full(()))));
    }
    let (mut here, there) = Pipe::duplex::<(), ()>().unwrap();
    start(send_half, there).join().unwrap();
    assert_eq!(here.recv_bytes().unwrap(), b"whole");
    for _ in 0..3 {
        assert!(matches!(here.recv_bytes(), Err(RecvError::Closed)));
    }
}

/// Row `poll`.
#[test]
fn poll_does_not_consume() {
    let _watch = watch();
    fn send_late(mut connection: Connection<(), ()>) {
        thread::sleep(SOON);
        connection.send_bytes(b"").unwrap();
        connection.recv_bytes().unwrap();
    }
    let (mut here, there) = Pipe::duplex::<(), ()>().unwrap();
    assert!(!here.poll(Duration::ZERO));
    assert!(!here.poll(SOON / 4));
    let process = start(send_late, there);
    assert!(here.poll(Duration::MAX), "an empty message counts");
    assert!(here.poll(Duration::ZERO));
    assert_eq!(here.recv_bytes().unwrap(), b"");
    assert!(!here.poll(Duration::ZERO));
    here.send_bytes(b"").unwrap();
    assert!(here.poll(Duration::MAX), "the end counts");
    assert!(matches!(here.recv(), Err(RecvError::Closed)));
    process.join().unwrap();
}

/// No row: there a timeout ends with the first byte (gh-82376). Here it bounds the whole call, also in the middle of a long
/// message.
#[test]
fn a_timeout_bounds_the_whole_call() {
    let _watch = watch();
    fn send_half((mut connection, go): (Connection<(), ()>, PipeReceiver<()>)) {
        let bytes = vec![7; 100_000];
        let error = connection.send_bytes_timeout(&bytes, SOON);
        assert!(matches!(error, Err(SendError::Full(()))));
        let mut go = go;
        go.recv().unwrap();
        connection.send_bytes(&bytes[..50_000]).unwrap();
    }
    let (mut here, there) = Pipe::duplex::<(), ()>().unwrap();
    let (go, mut tell) = Pipe::simplex::<()>().unwrap();
    let process = start(send_half, (there, go));
    thread::sleep(SOON * 3);
    assert!(matches!(
        here.recv_bytes_timeout(SOON),
        Err(RecvError::Empty)
    ));
    tell.send(()).unwrap();
    assert_eq!(here.recv_bytes().unwrap(), vec![7; 50_000]);
    process.join().unwrap();
}

/// Row `send_bytes`, and 23 of the survey: beyond 2 GiB. Takes 2 GiB of memory and some seconds.
#[test]
#[ignore = "2 GiB of memory"]
fn more_than_two_gibibytes() {
    const LEN: usize = (2 << 30) + 5;
    fn send(mut connection: Connection<(), ()>) {
        // Pages that are only read take no memory.
        connection.send_bytes(&vec![0; LEN]).unwrap();
        connection.send_bytes(b"next").unwrap();
    }
    let (mut here, there) = Pipe::duplex::<(), ()>().unwrap();
    let process = start(send, there);
    let bytes = here.recv_bytes().unwrap();
    assert_eq!(bytes.len(), LEN);
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(here.recv_bytes().unwrap(), b"next");
    process.join().unwrap();
}
