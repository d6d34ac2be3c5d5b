//! Owners that are killed while their end has other names: a reference that was kept, a message in which it was before. None of them
//! holds the pipe open, and a message that has the end still does.

use std::thread;

use multiprocess::{
    GetError, JoinableQueue, Pipe, PipeReceiver, PipeSender, Pool, Process, Queue, QueueJoinError,
    RecvError, SendError,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::kept::Kept;
use super::{LONG, SOON, reap, start, watch};

type Told = PipeSender<()>;

/// Kills a process when it has told that it is ready. Nobody reaps it.
fn kill_ready<R>(process: &Process<R>, mut ready: PipeReceiver<()>) {
    ready.recv().unwrap();
    process.kill().unwrap();
}

/// Has it until it is killed.
fn keep<T>(held: T, mut told: Told) {
    told.send(()).unwrap();
    thread::sleep(LONG);
    drop(held);
}

fn keep_sender((sender, told): (Kept<PipeSender<u32>>, Told)) {
    sender.get().send(1).unwrap();
    keep(sender, told);
}

fn is_moved<T>(got: Result<T, GetError>) -> bool {
    matches!(got, Err(GetError::Decode(error)) if error.to_string().contains("owner"))
}

/// The reference from which it was sent is still there.
#[test]
fn a_kept_reference_holds_nothing_open() {
    let _watch = watch();
    let (mut receiver, sender) = Pipe::simplex::<u32>().unwrap();
    let kept = Kept::new(sender);
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(keep_sender, (kept.clone(), told));
    kill_ready(&process, ready);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    assert!(matches!(kept.get().send(2), Err(SendError::Closed(2))));
    reap(process);
}

/// The task comes again, and with it a message in which the end was.
#[test]
fn a_task_that_comes_again_holds_nothing_open() {
    let _watch = watch();
    type Jobs = JoinableQueue<PipeSender<u32>>;
    fn work((jobs, told): (Jobs, Told)) {
        let mut sender = jobs.get().unwrap();
        sender.send(1).unwrap();
        keep(sender, told);
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let jobs = Jobs::bounded(1).unwrap();
    jobs.put(sender).unwrap();
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(work, (jobs.clone(), told));
    kill_ready(&process, ready);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    // Nobody can do it: the end went down with the one who had it.
    assert!(is_moved(jobs.get()));
    assert_eq!(jobs.join(), Err(QueueJoinError::Lost(1)));
    reap(process);
}

/// A worker that is killed before it has taken the end leaves it to the next one.
#[test]
fn a_task_that_nobody_has_opened_keeps_its_end() {
    let _watch = watch();
    type Jobs = JoinableQueue<Slow>;
    /// Decodes what comes in front of the end, and then stays there.
    struct Slow(u8, PipeSender<u32>);
    impl serde::Serialize for Slow {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (self.0, &self.1).serialize(serializer)
        }
    }
    impl<'de> serde::Deserialize<'de> for Slow {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (stay, sender) = serde::Deserialize::deserialize(deserializer)?;
            let Stay(number) = stay;
            Ok(Slow(number, sender))
        }
    }
    struct Stay(u8);
    thread_local! {
        static TOLD: std::cell::RefCell<Option<Told>> = const { std::cell::RefCell::new(None) };
    }
    impl<'de> serde::Deserialize<'de> for Stay {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let number = u8::deserialize(deserializer)?;
            if let Some(told) = TOLD.take() {
                keep((), told);
            }
            Ok(Stay(number))
        }
    }
    fn work((jobs, told): (Jobs, Told)) {
        TOLD.set(Some(told));
        let _ = jobs.get();
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let jobs = Jobs::bounded(1).unwrap();
    jobs.put(Slow(9, sender)).unwrap();
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(work, (jobs.clone(), told));
    kill_ready(&process, ready);
    let nothing = receiver.recv_timeout(SOON * 10);
    assert!(matches!(nothing, Err(RecvError::Empty)), "it is in a task");
    let Slow(number, mut sender) = jobs.get().unwrap();
    sender.send(number.into()).unwrap();
    assert_eq!(receiver.recv().unwrap(), 9);
    reap(process);
}

/// The same end is in two messages; the one who took it out of the first has it.
#[test]
fn a_second_message_holds_nothing_open() {
    let _watch = watch();
    type Ends = Queue<Kept<PipeSender<u32>>>;
    fn work((ends, told): (Ends, Told)) {
        keep_sender((ends.get().unwrap(), told));
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let kept = Kept::new(sender);
    let ends = Ends::bounded(2).unwrap();
    ends.put(kept.clone()).map_err(drop).unwrap();
    ends.put(kept).map_err(drop).unwrap();
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(work, (ends.clone(), told));
    kill_ready(&process, ready);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    assert!(is_moved(ends.get()));
    reap(process);
}

/// The other side: what was sent and not received goes with the reader, though something else keeps its pipe.
#[test]
fn a_reader_with_another_name_goes_with_its_owner() {
    let _watch = watch();
    type Item = Option<PipeSender<u8>>;
    fn work((receiver, told): (Kept<PipeReceiver<Item>>, Told)) {
        keep(receiver, told);
    }
    let (receiver, mut sender) = Pipe::simplex().unwrap();
    let kept = Kept::new(receiver);
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(work, (kept.clone(), told));
    // It comes to its end when the message does that it is in.
    let (mut inner, end) = Pipe::simplex().unwrap();
    sender.send(Some(end)).unwrap();
    kill_ready(&process, ready);
    let closed = (0..100_000).find_map(|_| sender.send(None).err());
    assert!(matches!(closed, Some(SendError::Closed(None))));
    assert!(matches!(inner.recv(), Err(RecvError::Closed)));
    assert!(matches!(kept.get().recv(), Err(RecvError::Closed)));
    reap(process);
}

/// An end that is in a message lives as long as that, whoever has sent it and whoever else knows it.
#[test]
fn a_message_holds_its_end_when_the_sender_is_killed() {
    let _watch = watch();
    type Ends = Queue<Kept<PipeSender<u32>>>;
    fn pass_on((ends, sender, told): (Ends, Kept<PipeSender<u32>>, Told)) {
        ends.put(sender.clone()).map_err(drop).unwrap();
        keep(sender, told);
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let kept = Kept::new(sender);
    let ends = Ends::bounded(1).unwrap();
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(pass_on, (ends.clone(), kept.clone(), told));
    kill_ready(&process, ready);
    let nothing = receiver.recv_timeout(SOON * 10);
    assert!(
        matches!(nothing, Err(RecvError::Empty)),
        "it is in a message"
    );
    let got = ends.get().map_err(drop).unwrap();
    got.get().send(3).unwrap();
    assert_eq!(receiver.recv().unwrap(), 3);
    drop(got);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    reap(process);

    // The message goes with the queue, of which nobody is left.
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let kept = Kept::new(sender);
    let ends = Ends::bounded(1).unwrap();
    let (mut ready, told) = Pipe::simplex().unwrap();
    let process = start(pass_on, (ends.clone(), kept.clone(), told));
    ready.recv().unwrap();
    drop(ends);
    process.kill().unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    reap(process);
}

/// Lent for a message that did not go, and then its process was killed: nobody has it, whoever else knows it.
#[test]
fn an_end_that_was_not_sent_goes_with_its_owner() {
    let _watch = watch();
    type Ends = Queue<Kept<PipeSender<u32>>>;
    fn fail_to_pass_on((full, sender, told): (Ends, Kept<PipeSender<u32>>, Told)) {
        let refused = full.try_put(sender).err().unwrap();
        keep(refused, told);
    }
    let full = Ends::bounded(1).unwrap();
    let (_other, other) = Pipe::simplex().unwrap();
    full.put(Kept::new(other)).map_err(drop).unwrap();
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let kept = Kept::new(sender);
    // A message in which it was before.
    let old = Ends::bounded(1).unwrap();
    old.put(kept.clone()).map_err(drop).unwrap();
    let (ready, told) = Pipe::simplex().unwrap();
    let process = start(fail_to_pass_on, (full.clone(), kept.clone(), told));
    kill_ready(&process, ready);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    assert!(is_moved(old.get()));
    reap(process);
}

/// A sender within a pipe whose receiver is a task's.
type Inner = PipeReceiver<PipeSender<u32>>;

fn inner() -> (PipeReceiver<u32>, Inner, PipeSender<PipeSender<u32>>) {
    let (receiver, sender) = Pipe::simplex().unwrap();
    let (inner, mut outer) = Pipe::simplex().unwrap();
    outer.send(sender).unwrap();
    (receiver, inner, outer)
}

/// What was sent to a receiver goes when that is dropped, though a task that is not done still has it.
#[test]
fn what_was_sent_to_a_dropped_end_goes() {
    let _watch = watch();
    let (mut receiver, end, outer) = inner();
    let jobs = JoinableQueue::<Inner>::bounded(1).unwrap();
    jobs.put(end).unwrap();
    drop(jobs.get().unwrap());
    assert!(outer.is_closed());
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    jobs.task_done().unwrap();

    fn work((end, mut receiver): (Inner, PipeReceiver<u32>)) -> bool {
        drop(end);
        matches!(receiver.recv(), Err(RecvError::Closed))
    }
    let (receiver, end, outer) = inner();
    let pool = Pool::new(1).unwrap();
    assert!(matches!(pool.apply(work, (end, receiver)), Ok(true)));
    assert!(outer.is_closed());
}

/// The end was lost on its way, in a message that is no message. A task that had it before holds it, and nothing more.
#[test]
fn what_was_sent_to_a_lost_end_goes() {
    struct Bad<T>(T);
    impl<T: Serialize> Serialize for Bad<T> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(serializer)
        }
    }
    impl<'de, T> Deserialize<'de> for Bad<T> {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("bad"))
        }
    }
    let _watch = watch();
    let (mut receiver, end, outer) = inner();
    let jobs = JoinableQueue::<Inner>::bounded(1).unwrap();
    jobs.put(end).unwrap();
    let end = jobs.get().unwrap();
    let queue = Queue::bounded(1).unwrap();
    queue.put(Bad(end)).unwrap();
    assert!(queue.get().is_err());
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    assert!(outer.is_closed());
    jobs.task_done().unwrap();
}
