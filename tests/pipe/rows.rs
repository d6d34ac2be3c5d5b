//! The rows about `Pipe` and `Connection`.

use std::thread;
use std::time::Duration;

use multiprocess::{Connection, Pipe, PipeReceiver, RecvError, RecvIntoError, SendError};

use super::{SOON, start, watch};

type Numbers = Connection<u64, u64>;

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

/// Python: `EOFError` once nothing is left; here every time.
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
        // Python: `BrokenPipeError`, every time.
        assert!(matches!(here.send(3), Err(SendError::Closed(3))));
        assert!(matches!(here.send_bytes(b""), Err(SendError::Closed(()))));
    }
    process.join().unwrap();
}

/// A malformed message is an error of its own.
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

/// Timeouts bound the whole call, also in the middle of a long message.
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

/// Beyond 2 GiB. Takes 2 GiB of memory and some seconds.
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
