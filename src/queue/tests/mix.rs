//! Any mix of all calls against a `VecDeque`.

use super::*;
use crate::{Bytes, GetIntoError, Loan, Pod, Ref};

#[derive(Clone, Debug)]
enum Step {
    Put(u16),
    PutMany(usize, u16),
    PutLoan(u16),
    KeepLoan(u16),
    PutKept,
    DropKept,
    Get,
    GetMany(usize),
    GetInto(usize),
    GetRef,
    DropRef,
    Close,
}

fn steps(most: u16) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..most).prop_map(Step::Put),
        4 => (0..150_usize, 0..most).prop_map(|(n, value)| Step::PutMany(n, value)),
        3 => (0..most).prop_map(Step::PutLoan),
        1 => (0..most).prop_map(Step::KeepLoan),
        1 => Just(Step::PutKept),
        1 => Just(Step::DropKept),
        4 => Just(Step::Get),
        4 => (0..150_usize).prop_map(Step::GetMany),
        3 => (0..most as usize).prop_map(Step::GetInto),
        3 => Just(Step::GetRef),
        2 => Just(Step::DropRef),
    ];
    let steps = prop::collection::vec(step, 0..200);
    (steps, prop::option::weighted(0.3, 0..200_usize)).prop_map(|(mut steps, close)| {
        if let Some(at) = close.filter(|&at| at < steps.len()) {
            steps.insert(at, Step::Close);
        }
        steps
    })
}

/// The queue's capacity, or the slots of its segments.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Bounded(usize),
    Unbounded(u64),
}

fn bound(most: usize) -> impl Strategy<Value = Bound> {
    prop_oneof![
        (1..most).prop_map(Bound::Bounded),
        (1..most as u64).prop_map(Bound::Unbounded),
    ]
}

impl Bound {
    fn queue<T, C: crate::Holds<T>>(self, arena: &Arena) -> Queue<T, C> {
        match self {
            Bound::Bounded(capacity) => Queue::bounded_in(arena, capacity).unwrap(),
            Bound::Unbounded(slots) => Queue::unbounded_with(arena, slots).unwrap(),
        }
    }

    fn capacity(self) -> usize {
        match self {
            Bound::Bounded(capacity) => capacity,
            Bound::Unbounded(_) => usize::MAX,
        }
    }
}

/// What the queue should hold, and what a refused or accepted item means for it.
struct Model<T> {
    capacity: usize,
    items: VecDeque<T>,
    closed: bool,
}

impl<T: PartialEq + std::fmt::Debug> Model<T> {
    fn put(&mut self, item: T) -> bool {
        let room = !self.closed && self.items.len() < self.capacity;
        if room {
            self.items.push_back(item);
        }
        room
    }

    fn get(&mut self, got: Result<T, GetError>) {
        match self.items.pop_front() {
            Some(due) => assert_eq!(got.unwrap(), due),
            None if self.closed => assert!(matches!(got, Err(GetError::Closed))),
            None => assert!(matches!(got, Err(GetError::Empty))),
        }
    }

    fn get_many(&mut self, max: usize, got: Result<Vec<T>, GetError>) {
        if max == 0 {
            assert_eq!(got.unwrap(), []);
        } else if self.items.is_empty() {
            assert!(matches!(got, Err(GetError::Closed | GetError::Empty)));
        } else {
            let count = max.min(self.items.len());
            assert!(self.items.drain(..count).eq(got.unwrap()));
        }
    }
}

fn blob(len: u16) -> Vec<u8> {
    (0..len).map(|i| (i ^ len) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn plain_data_behaves_like_a_deque(bound in bound(100), steps in steps(u16::MAX)) {
        let arena = arena();
        let queue: Queue<[u16; 50], Pod> = bound.queue(&arena);
        let mut model = Model { capacity: bound.capacity(), items: VecDeque::new(), closed: false };
        let mut loans: Vec<Loan<[u16; 50]>> = Vec::new();
        let mut refs: VecDeque<(Ref<[u16; 50]>, [u16; 50])> = VecDeque::new();
        for step in steps {
            match step {
                Step::Put(value) => {
                    prop_assert_eq!(queue.try_put([value; 50]).is_ok(), model.put([value; 50]));
                }
                Step::PutMany(count, value) => {
                    let items = (0..count).map(|i| [value.wrapping_add(i as u16); 50]);
                    let fits = items.clone().take_while(|&item| model.put(item)).count();
                    match queue.try_put_many(items.clone()) {
                        Ok(sent) => prop_assert_eq!((sent, sent), (count, fits)),
                        Err(error) => {
                            prop_assert_eq!(error.sent, fits);
                            prop_assert!(fits < count && error.rest.eq(items.skip(fits)));
                        }
                    }
                }
                Step::PutLoan(value) | Step::KeepLoan(value) => {
                    let mut loan = queue.loan().unwrap();
                    *loan = [value; 50];
                    if matches!(step, Step::KeepLoan(_)) {
                        loans.push(loan);
                    } else {
                        prop_assert_eq!(loan.try_put().is_ok(), model.put([value; 50]));
                    }
                }
                Step::PutKept => if let Some(loan) = loans.pop() {
                    let value = *loan;
                    match loan.try_put() {
                        Ok(()) => prop_assert!(model.put(value)),
                        Err(error) => {
                            prop_assert!(!model.put(value));
                            loans.push(error.into_inner());
                        }
                    }
                },
                Step::DropKept => drop(loans.pop()),
                Step::Get | Step::GetInto(_) => model.get(queue.try_get()),
                Step::GetMany(max) => model.get_many(max, queue.try_get_many(max).map_err(GetError::from)),
                Step::GetRef => match queue.try_get_ref() {
                    Ok(borrowed) => {
                        let due = model.items.pop_front().unwrap();
                        prop_assert_eq!(*borrowed, due);
                        refs.push_back((borrowed, due));
                    }
                    Err(error) => model.get(Err(error)),
                },
                Step::DropRef => drop(refs.pop_front()),
                Step::Close => {
                    queue.close();
                    model.closed = true;
                }
            }
            prop_assert_eq!(queue.len(), model.items.len());
            prop_assert!(refs.iter().all(|(borrowed, value)| **borrowed == *value), "a borrow has changed");
        }
        drop((queue, loans, refs));
        prop_assert_eq!(arena.stats().bytes_in_use, 0);
    }

    #[test]
    fn bytes_behave_like_a_deque(bound in bound(20), steps in steps(400)) {
        let arena = arena();
        let queue: Queue<Bytes> = bound.queue(&arena);
        let mut model = Model { capacity: bound.capacity(), items: VecDeque::new(), closed: false };
        let mut loans: Vec<Loan<[u8]>> = Vec::new();
        let mut refs: VecDeque<(Ref<[u8]>, Vec<u8>)> = VecDeque::new();
        for step in steps {
            match step {
                Step::Put(len) | Step::PutMany(_, len) => {
                    prop_assert_eq!(queue.try_put_bytes(&blob(len)).is_ok(), model.put(blob(len)));
                }
                Step::PutLoan(len) | Step::KeepLoan(len) => {
                    let mut loan = queue.loan(usize::from(len) + 3).unwrap();
                    loan[..len.into()].copy_from_slice(&blob(len));
                    loan.truncate(len.into());
                    if matches!(step, Step::KeepLoan(_)) {
                        loans.push(loan);
                    } else {
                        prop_assert_eq!(loan.try_put().is_ok(), model.put(blob(len)));
                    }
                }
                Step::PutKept => if let Some(loan) = loans.pop() {
                    let sent = model.put(loan.to_vec());
                    match loan.try_put() {
                        Ok(()) => prop_assert!(sent),
                        Err(error) => {
                            prop_assert!(!sent);
                            loans.push(error.into_inner());
                        }
                    }
                },
                Step::DropKept => drop(loans.pop()),
                Step::Get | Step::GetMany(_) => model.get(queue.try_get_bytes()),
                Step::GetInto(room) => {
                    let mut buffer = vec![0; room];
                    model.get(match queue.try_get_into(&mut buffer) {
                        Ok(len) => Ok(buffer[..len].to_vec()),
                        Err(GetIntoError::TooShort(message)) => {
                            prop_assert!(message.len() > room);
                            Ok(message.to_vec())
                        }
                        Err(GetIntoError::Get(error)) => Err(error),
                    });
                }
                Step::GetRef => match queue.try_get_ref() {
                    Ok(borrowed) => {
                        let due = model.items.pop_front().unwrap();
                        prop_assert_eq!(&*borrowed, &*due);
                        refs.push_back((borrowed, due));
                    }
                    Err(error) => model.get(Err(error)),
                },
                Step::DropRef => drop(refs.pop_front()),
                Step::Close => {
                    queue.close();
                    model.closed = true;
                }
            }
            prop_assert_eq!(queue.len(), model.items.len());
            prop_assert!(refs.iter().all(|(borrowed, value)| **borrowed == **value), "a borrow has changed");
        }
        drop((queue, loans, refs));
        prop_assert_eq!(arena.stats().bytes_in_use, 0);
    }

    #[test]
    fn items_of_any_length_behave_like_a_deque(bound in bound(100), steps in steps(300)) {
        let arena = arena();
        let queue: Queue<Vec<u8>> = bound.queue(&arena);
        let mut model = Model { capacity: bound.capacity(), items: VecDeque::new(), closed: false };
        for step in steps {
            match step {
                Step::PutMany(count, value) => {
                    let items = (0..count).map(|i| blob((value + i as u16) % 300));
                    let fits = items.clone().take_while(|item| model.put(item.clone())).count();
                    match queue.try_put_many(items.clone()) {
                        Ok(sent) => prop_assert_eq!((sent, sent), (count, fits)),
                        Err(error) => {
                            prop_assert_eq!(error.sent, fits);
                            prop_assert!(fits < count && error.rest.eq(items.skip(fits)));
                        }
                    }
                }
                Step::Put(len) => prop_assert_eq!(queue.try_put(blob(len)).is_ok(), model.put(blob(len))),
                Step::Get => model.get(queue.try_get()),
                Step::GetMany(max) => model.get_many(max, queue.try_get_many(max).map_err(GetError::from)),
                Step::Close => {
                    queue.close();
                    model.closed = true;
                }
                _ => {}
            }
            prop_assert_eq!(queue.len(), model.items.len());
        }
        drop(queue);
        prop_assert_eq!(arena.stats().bytes_in_use, 0);
    }
}
