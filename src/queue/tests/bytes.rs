use super::*;
use crate::{Bytes, GetIntoError};

fn bytes(capacity: usize) -> (Arena, Queue<Bytes>) {
    let arena = arena();
    let queue = Queue::bounded_in(&arena, capacity).unwrap();
    (arena, queue)
}

const LENGTHS: [usize; 12] = [
    0, 1, 8, 119, 120, 121, 4000, 32_704, 32_705, 65_472, 65_473, 1_000_000,
];

#[test]
fn bytes_of_all_lengths_pass_in_every_way() {
    let (arena, queue) = bytes(2);
    let empty = arena.stats().bytes_in_use;
    for len in LENGTHS {
        let sent: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
        queue.put_bytes(&sent).unwrap();
        assert_eq!(queue.get_bytes().unwrap(), sent);

        queue.try_put_bytes(&sent).unwrap();
        let mut buffer = vec![0; len + 5];
        assert_eq!(queue.get_into(&mut buffer).unwrap(), len);
        assert_eq!(buffer[..len], sent);
        assert_eq!(buffer[len..], [0; 5]);

        queue.put_bytes(&sent).unwrap();
        let borrowed = queue.get_ref().unwrap();
        assert_eq!(&*borrowed, &*sent);
        assert_eq!(borrowed.as_ptr() as usize % 64, 0);
        drop(borrowed);

        let mut loan = queue.loan(len).unwrap();
        assert_eq!((loan.len(), loan.as_ptr() as usize % 64), (len, 0));
        loan.copy_from_slice(&sent);
        loan.put().unwrap();
        assert_eq!(queue.try_get_bytes().unwrap(), sent);
        assert_eq!(arena.stats().bytes_in_use, empty);
    }
}

#[test]
fn nothing_is_copied_between_loan_and_borrow() {
    let (_arena, queue) = bytes(1);
    let loan = queue.loan(100_000).unwrap();
    let written = loan.as_ptr();
    loan.put().unwrap();
    let borrowed = queue.get_ref().unwrap();
    assert_eq!(borrowed.as_ptr(), written);
}

#[test]
fn a_buffer_that_is_too_short_loses_nothing() {
    let (_arena, queue) = bytes(2);
    for len in [100, 10_000] {
        queue.put_bytes(&vec![3; len]).unwrap();
        let error = queue.get_into(&mut [0; 99]).unwrap_err();
        assert!(error.to_string().contains(&len.to_string()), "{error}");
        let GetIntoError::TooShort(message) = error else {
            panic!("{error}")
        };
        assert_eq!(**message, vec![3; len]);
    }
    let error = queue.try_get_into(&mut []).unwrap_err();
    assert!(matches!(error, GetIntoError::Get(GetError::Empty)));
}

#[test]
fn full_and_closed_queues_refuse_bytes_and_give_loans_back() {
    let (arena, queue) = bytes(1);
    queue.put_bytes(b"first").unwrap();
    let moment = Duration::from_millis(1);
    assert!(queue.try_put_bytes(b"x").unwrap_err().is_full());
    let late = queue.put_bytes_timeout(&[1; 500], moment);
    assert!(late.unwrap_err().is_full());

    let mut loan = queue.loan(500).unwrap();
    loan.fill(9);
    let error = loan.try_put().unwrap_err();
    assert!(error.is_full(), "{error:?}");
    let error = error.into_inner().put_timeout(moment).unwrap_err();
    assert!(error.is_full());
    let loan = error.into_inner();
    assert_eq!(&*loan, &[9; 500], "it is as it was");

    assert_eq!(queue.get_bytes().unwrap(), b"first");
    loan.put().unwrap();
    assert_eq!(&*queue.get_ref_timeout(moment).unwrap(), &[9; 500]);
    assert!(matches!(queue.try_get_ref(), Err(GetError::Empty)));
    assert!(matches!(
        queue.get_bytes_timeout(moment),
        Err(GetError::Empty)
    ));

    let loan = queue.loan(7).unwrap();
    queue.close();
    assert!(loan.put().unwrap_err().is_closed());
    assert!(queue.put_bytes(b"x").unwrap_err().is_closed());
    assert!(matches!(queue.get_ref(), Err(GetError::Closed)));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_shortened_loan_is_a_shorter_message() {
    let (_arena, queue) = bytes(2);
    for len in [0, 5, 700] {
        let mut loan = queue.loan(1000).unwrap();
        loan.fill(len as u8);
        loan.truncate(len);
        loan.truncate(2000);
        assert_eq!(loan.len(), len);
        loan.put().unwrap();
        assert_eq!(queue.get_bytes().unwrap(), vec![len as u8; len]);
    }
}

#[test]
fn loans_and_borrows_outlive_the_queue_and_go_back() {
    let (arena, queue) = bytes(2);
    queue.put_bytes(&[5; 3000]).unwrap();
    let borrowed = queue.get_ref().unwrap();
    let loan = queue.loan(3000).unwrap();
    assert!(arena.is_lent());
    drop(queue);
    assert_eq!(&*borrowed, &[5; 3000]);
    assert_eq!(arena.stats().objects["queue"], 1, "the loan has a handle");
    drop(loan);
    assert!(!arena.stats().objects.contains_key("queue"));
    std::thread::spawn(move || assert_eq!(borrowed[2999], 5))
        .join()
        .unwrap();
    assert_eq!(arena.stats().bytes_in_use, 0);
    assert!(!arena.is_lent());
}

#[test]
fn forgotten_ones_stay_and_nothing_else_happens() {
    let (arena, queue) = bytes(2);
    let before = arena.stats().bytes_in_use;
    std::mem::forget(queue.loan(1000).unwrap());
    queue.put_bytes(&[1; 1000]).unwrap();
    std::mem::forget(queue.get_ref().unwrap());
    let stays = arena.stats().bytes_in_use - before;
    assert!((2000..4000).contains(&stays), "{stays}");
    queue.put_bytes(b"on").unwrap();
    assert_eq!(queue.get_bytes().unwrap(), b"on");
    assert_eq!(arena.stats().bytes_in_use, before + stays);
}

#[test]
fn too_much_is_an_error() {
    let (_arena, queue) = bytes(2);
    for len in [17 << 20, usize::MAX] {
        let refused = queue.loan(len).unwrap_err();
        assert_eq!(Error::from_io(&refused), Some(Error::NoMemory));
    }
    let huge = vec![0; 17 << 20];
    let refused = queue.put_bytes(&huge);
    assert!(matches!(refused, Err(PutError::NoMemory(()))));
}
