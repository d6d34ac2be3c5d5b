#![forbid(unsafe_code)]

use crate::arena::{Arena, Block, Object, ObjectSpec};
use crate::queue::TasksKind;
use crate::ring::{Outlook, Place, Tasks};
use crate::{GetError, JoinableQueue, OnDeath, PutError, Queue, QueueJoinError, TaskDoneError};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(20);
const TWICE: OnDeath = OnDeath::Redeliver { max: 2 };

fn queue_with<T: Serialize + DeserializeOwned>(
    capacity: usize,
    on_death: OnDeath,
) -> (Arena, JoinableQueue<T>) {
    let arena = Arena::heap(256, crate::KINDS).unwrap();
    let queue = JoinableQueue::bounded_in(&arena, capacity, on_death).unwrap();
    (arena, queue)
}

fn queue<T: Serialize + DeserializeOwned>(capacity: usize) -> (Arena, JoinableQueue<T>) {
    queue_with(capacity, TWICE)
}

fn is_unfinished<T>(queue: &JoinableQueue<T>) -> bool {
    queue.join_timeout(Duration::ZERO) == Err(QueueJoinError::TimedOut)
}

#[test]
fn each_item_is_to_be_done() {
    let (arena, queue) = queue::<String>(3);
    assert_eq!(queue.join(), Ok(()));
    for text in ["a", "b", "c"] {
        queue.put(text.into()).unwrap();
    }
    assert!(queue.is_full() && queue.try_put("d".into()).unwrap_err().is_full());
    for text in ["a", "b", "c"] {
        assert_eq!(queue.get().unwrap(), text);
        assert!(is_unfinished(&queue));
    }
    assert!(queue.is_empty() && matches!(queue.try_get(), Err(GetError::Empty)));
    for _ in 0..3 {
        assert_eq!(queue.join_timeout(SOON), Err(QueueJoinError::TimedOut));
        queue.task_done().unwrap();
    }
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    assert_eq!(queue.join(), Ok(()));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_slow_task_holds_nobody_up() {
    let (arena, queue) = queue::<u32>(1);
    queue.put(0).unwrap();
    let slow = queue.get_task().unwrap();
    for number in 1..500 {
        queue.put(number).unwrap();
        assert_eq!(queue.get().unwrap(), number);
    }
    for _ in 1..500 {
        queue.task_done().unwrap();
    }
    assert!(is_unfinished(&queue));
    drop(slow);
    assert_eq!(queue.join(), Ok(()));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn what_is_unfinished_goes_with_the_last_handle() {
    let (arena, queue) = queue::<Vec<u8>>(100);
    for number in 0..100 {
        queue.put(vec![1; number * 100]).unwrap();
    }
    for _ in 0..50 {
        queue.get().unwrap();
    }
    let task = queue.get_task().unwrap();
    drop(queue);
    assert!(arena.stats().bytes_in_use > 0, "a task holds its queue");
    drop(task);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_panic_gives_the_task_to_another() {
    let (arena, queue) = queue::<String>(4);
    queue.put("hot".into()).unwrap();
    queue.put("next".into()).unwrap();
    for _ in 0..3 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let task = queue.get_task().unwrap();
            assert_eq!(*task, "hot", "before anything else");
            panic!("{}", *task);
        }));
        assert!(caught.is_err());
    }
    // Once and twice again; now it is given up.
    assert_eq!(*queue.get_task().unwrap(), "next");
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert_eq!(queue.join(), Err(QueueJoinError::Lost(1)));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_panic_is_reported_where_nothing_is_given_again() {
    let (_arena, queue) = queue_with::<u32>(4, OnDeath::Report);
    queue.put(1).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _task = queue.get_task().unwrap();
        panic!();
    }));
    assert!(caught.is_err());
    assert_eq!(queue.join(), Err(QueueJoinError::Lost(1)));
}

#[test]
fn a_message_that_does_not_decode_is_finished() {
    #[derive(Debug, Serialize)]
    struct Odd(u64);
    impl<'de> Deserialize<'de> for Odd {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u64::deserialize(deserializer)? {
                2 => Err(serde::de::Error::custom("even")),
                4 => panic!("four"),
                odd => Ok(Odd(odd)),
            }
        }
    }
    let (arena, queue) = queue::<Odd>(4);
    for number in [2, 3, 4] {
        queue.put(Odd(number)).unwrap();
    }
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
    assert_eq!(queue.get_task().unwrap().0, 3);
    assert!(catch_unwind(AssertUnwindSafe(|| queue.get())).is_err());
    assert_eq!(queue.join(), Ok(()));
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    drop(queue);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn closing_ends_gets_but_not_tasks() {
    let (_arena, queue) = queue::<u32>(4);
    queue.put(1).unwrap();
    queue.close();
    assert!(matches!(queue.put(2), Err(PutError::Closed(2))));
    assert_eq!(queue.get().unwrap(), 1);
    // Who has a task is not made to wait for it.
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(is_unfinished(&queue));
    queue.task_done().unwrap();
    assert_eq!(queue.join(), Ok(()));
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

#[test]
fn senseless_capacities_are_errors() {
    let arena = Arena::heap(256, crate::KINDS).unwrap();
    for capacity in [0, usize::MAX, 1 << 32] {
        assert!(JoinableQueue::<u8>::bounded_in(&arena, capacity, TWICE).is_err());
    }
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn it_travels_and_carries_handles() {
    #[derive(Serialize, Deserialize)]
    struct Job(Queue<u32>);
    let (arena, queue) = queue::<Job>(2);
    let outer = Queue::<JoinableQueue<Job>>::bounded_in(&arena, 1).unwrap();
    let inner = Queue::<u32>::bounded_in(&arena, 1).unwrap();
    outer.put(queue.clone()).unwrap();
    queue.put(Job(inner.clone())).unwrap();
    drop(queue);
    let queue = outer.get().unwrap();
    let job = queue.get_task().unwrap();
    job.0.put(7).unwrap();
    drop(job);
    assert_eq!(inner.get().unwrap(), 7);
    queue.put(Job(inner)).unwrap();
    assert_eq!(arena.stats().objects["queue"], 3);
    drop((queue, outer));
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_join_waits_for_what_tasks_put() {
    for capacity in [1, 64] {
        let (arena, queue) = queue::<u32>(capacity);
        thread::scope(|scope| {
            for _ in 0..3 {
                let queue = queue.clone();
                scope.spawn(move || {
                    while let Ok(task) = queue.get_task() {
                        // Never waits for room: all may be here at the same time.
                        if *task > 0 && queue.try_put(*task - 1).is_err() {
                            std::hint::black_box(*task);
                        }
                    }
                });
            }
            for round in 0..300 {
                queue.put(round % 10).unwrap();
                assert_eq!(queue.join(), Ok(()));
                assert!(queue.is_empty());
                // Nobody is left who could put anything.
                assert_eq!(queue.join_timeout(Duration::ZERO), Ok(()));
            }
            queue.close();
        });
        drop(queue);
        assert_eq!(arena.stats().bytes_in_use, 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16),
    Get,
    Done,
    GetTask,
    DropTask(usize),
    PanicTask(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u16>().prop_map(Step::Put),
        3 => Just(Step::Get),
        3 => Just(Step::Done),
        2 => Just(Step::GetTask),
        1 => any::<usize>().prop_map(Step::DropTask),
        1 => any::<usize>().prop_map(Step::PanicTask),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn it_behaves_like_a_deque_and_a_list(capacity in 1_usize..8, retries in 0_u8..3, steps in steps()) {
        let (arena, queue) = queue_with::<u16>(capacity, OnDeath::Redeliver { max: retries });
        let mut waiting = VecDeque::new();
        let mut back: Vec<(u16, u8)> = Vec::new();
        let mut open = VecDeque::new();
        let mut tasks = Vec::new();
        let mut lost = 0;
        for step in steps {
            match step {
                Step::Put(value) => {
                    let put = queue.try_put(value);
                    prop_assert_eq!(put.is_ok(), waiting.len() < capacity);
                    if put.is_ok() {
                        waiting.push_back(value);
                    }
                }
                Step::Get | Step::GetTask => {
                    let got = queue.try_get_task();
                    let Ok(task) = got else {
                        prop_assert!(waiting.is_empty() && back.is_empty());
                        continue;
                    };
                    let tries = match back.iter().position(|(value, _)| *value == *task) {
                        Some(at) => back.remove(at).1,
                        None => {
                            prop_assert!(back.is_empty());
                            prop_assert_eq!(waiting.pop_front(), Some(*task));
                            0
                        }
                    };
                    tasks.push((task, tries + 1));
                }
                Step::Done => {
                    // Through the other door, as far as there is something.
                    if back.is_empty() && !waiting.is_empty() {
                        prop_assert_eq!(queue.try_get().ok(), waiting.pop_front());
                        open.push_back(());
                    }
                    prop_assert_eq!(queue.task_done().is_ok(), open.pop_front().is_some());
                }
                Step::DropTask(at) if !tasks.is_empty() => drop(tasks.remove(at % tasks.len())),
                Step::PanicTask(at) if !tasks.is_empty() => {
                    let (task, tries) = tasks.remove(at % tasks.len());
                    let value = *task;
                    let hook = std::panic::catch_unwind(AssertUnwindSafe(move || {
                        let _task = task;
                        std::panic::resume_unwind(Box::new(()));
                    }));
                    prop_assert!(hook.is_err());
                    if tries > retries {
                        lost += 1;
                    } else {
                        back.push((value, tries));
                    }
                }
                _ => {}
            }
            let settled = waiting.is_empty() && back.is_empty() && open.is_empty() && tasks.is_empty();
            let expected = match (settled, lost) {
                (false, _) => Err(QueueJoinError::TimedOut),
                (true, 0) => Ok(()),
                (true, lost) => Err(QueueJoinError::Lost(lost)),
            };
            prop_assert_eq!(queue.join_timeout(Duration::ZERO), expected);
            prop_assert_eq!(queue.len(), waiting.len());
        }
        drop((queue, tasks));
        prop_assert_eq!(arena.stats().bytes_in_use, 0);
    }
}

/// At every moment one cell or another is in use: a look that takes its time must not find all of them free, one by one.
#[test]
fn a_look_is_about_one_moment() {
    const LOOKS: u32 = 20_000;
    let arena = Arena::heap(256, crate::KINDS).unwrap();
    let spec = ObjectSpec {
        kind: &TasksKind,
        type_hash: 0,
        len: Tasks::LEN,
    };
    let nowhere = Block {
        index: 0,
        generation: 0,
    };
    let object = Object::create(&arena, spec, |view| Tasks::init(view, nowhere, 0)).unwrap();
    let table = Tasks::new(object.view());
    let (low, high) = (Place::default(), Place::default());
    let all: Vec<_> = (0..2000)
        .map(|_| table.reserve(&high, arena.me()).unwrap())
        .collect();
    let mut last = *all.last().unwrap();
    all[..all.len() - 1]
        .iter()
        .for_each(|held| table.finish(*held));
    let over = std::sync::Barrier::new(2);
    thread::scope(|scope| {
        let looker = scope.spawn(|| {
            over.wait();
            (0..LOOKS).all(|_| table.outlook() == Outlook::Unfinished)
        });
        over.wait();
        while !looker.is_finished() {
            let first = table.reserve(&low, arena.me()).unwrap();
            table.finish(last);
            last = table.reserve(&high, arena.me()).unwrap();
            table.finish(first);
        }
        assert!(looker.join().unwrap());
    });
    table.finish(last);
    assert_eq!(table.outlook(), Outlook::Settled(0));
    drop(object);
    assert_eq!(arena.stats().bytes_in_use, 0);
}

#[test]
fn a_task_that_a_destructor_does_during_a_panic_is_done() {
    struct Cleanup(JoinableQueue<u8>);
    impl Drop for Cleanup {
        fn drop(&mut self) {
            drop(self.0.try_get_task().unwrap());
        }
    }
    let (_arena, queue) = queue(2);
    queue.put(1).unwrap();
    let cleanup = Cleanup(queue.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _cleanup = cleanup;
        panic!("after which it does the task");
    }));
    assert!(panicked.is_err());
    assert_eq!(queue.join_timeout(Duration::ZERO), Ok(()));
}
