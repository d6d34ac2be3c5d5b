//! What is promised where Python's users suffer. (The deaths of processes inside an operation are the kill sweeps' and
//! the soak's; processes as such are `tests/process`'s.)

use super::*;

/// A timeout bounds the whole call, even while another process stands still, alive, in the middle of its own operation.
#[test]
fn a_peer_that_stands_still_keeps_nobody() {
    const ROUNDS: usize = 60;
    let _watch = watch();
    let queue = queue::<(u64, Vec<u8>)>(4);
    fn put(queue: Queue<(u64, Vec<u8>)>) {
        for number in 0.. {
            let len = [0, 100, 70_000][number as usize % 3];
            if queue.put((number, vec![7; len])).is_err() {
                return;
            }
        }
    }
    let producer = start(put, queue.clone());
    let mut next = 0;
    let mut check = |(number, bytes): (u64, Vec<u8>)| {
        assert_eq!(number, next);
        assert!(bytes.iter().all(|byte| *byte == 7));
        next += 1;
    };
    for round in 0..ROUNDS {
        // At a different place each time.
        for _ in 0..round {
            check(queue.get().unwrap());
        }
        stop(&producer);
        while let Ok(item) = queue.get_timeout(SOON / 4) {
            check(item);
        }
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        signal(&producer, libc::SIGCONT);
    }
    queue.close();
    while let Ok(item) = queue.get() {
        check(item);
    }
    producer.join().unwrap();

    let queue = super::queue::<(u64, Vec<u8>)>(4);
    fn get(queue: Queue<(u64, Vec<u8>)>) -> u64 {
        let items = queue.iter().map(Result::unwrap);
        (0..)
            .zip(items)
            .map(|(n, item)| assert_eq!(n, item.0))
            .count() as u64
    }
    let consumer = start(get, queue.clone());
    let mut sent = 0;
    let item = |number| (number, vec![9; [0, 100, 70_000][number as usize % 3]]);
    for round in 0..ROUNDS {
        for _ in 0..round {
            queue.put(item(sent)).unwrap();
            sent += 1;
        }
        stop(&consumer);
        while queue.put_timeout(item(sent), SOON / 4).is_ok() {
            sent += 1;
        }
        assert!(queue.try_put(item(sent)).unwrap_err().is_full());
        signal(&consumer, libc::SIGCONT);
    }
    queue.close();
    assert_eq!(consumer.join().unwrap(), sent);
}

/// What `put` returned for is there, for everybody and at once, whatever becomes of who put it: there is no thread that
/// must flush, so nothing has to be drained before a process may end.
#[test]
fn a_put_that_returned_is_done() {
    let _watch = watch();
    for round in 0..30 {
        let queue = queue::<Vec<u8>>(3);
        let (told, telling) = std::os::unix::net::UnixStream::pair().unwrap();
        fn work((queue, telling): (Queue<Vec<u8>>, Fd)) {
            for len in [1, 1000, 100_000] {
                queue.put(vec![5; len]).unwrap();
            }
            // Not by the crate's own means.
            let mut telling = std::os::unix::net::UnixStream::from(telling);
            std::io::Write::write_all(&mut telling, b"x").unwrap();
            thread::sleep(LONG);
        }
        let process = start(work, (queue.clone(), telling.into()));
        std::io::Read::read_exact(&mut &told, &mut [0]).unwrap();
        let killed = round % 2 == 0;
        if killed {
            process.kill().unwrap();
        }
        assert_eq!(
            (queue.len(), queue.is_empty(), queue.is_full()),
            (3, false, true)
        );
        for len in [1, 1000, 100_000] {
            assert_eq!(queue.try_get().unwrap(), vec![5; len]);
        }
        kill(process);
    }
}

/// No mount is needed, no name is made: all that the family shares is memory without a name.
#[test]
fn nothing_has_a_name() {
    let _watch = watch();
    fn look(queue: Queue<u8>) -> (usize, Vec<String>) {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        drop(queue);
        // address, rights, offset, device, inode, path
        let shared = maps
            .lines()
            .filter(|line| line.split_ascii_whitespace().nth(1).unwrap().ends_with('s'));
        let (arena, others): (Vec<_>, Vec<_>) =
            shared.partition(|line| line.contains("/memfd:multiprocess (deleted)"));
        (arena.len(), others.into_iter().map(String::from).collect())
    }
    let queue = queue::<u8>(1);
    for (arena, others) in [look(queue.clone()), start(look, queue).join().unwrap()] {
        assert!(arena > 0);
        assert!(others.is_empty(), "{others:?}");
    }
}
