//! Deaths that nobody reaps and nobody else asks about. One test, and a binary of its own: who starts a process reaps those that have
//! ended, and who waits in vain asks about the whole family, so that a neighbour would find out for who does not ask.

#[path = "common/children.rs"]
mod children;
#[path = "common/guard.rs"]
mod guard;
#[path = "common/kept.rs"]
mod kept;

use children::{reap, start};
use guard::{LONG, watch};
use kept::Kept;
use multiprocess::{
    JoinableQueue, Pipe, PipeReceiver, PipeSender, Process, Receiver, SendError, Sender, Waitable,
    channel, wait,
};
use std::thread;

/// Has it until it is killed.
fn keep<T>(held: T) {
    thread::sleep(LONG);
    drop(held);
}

fn take_and_keep((jobs, mut told): (JoinableQueue<u8>, PipeSender<()>)) {
    let task = jobs.get().unwrap();
    told.send(()).unwrap();
    keep(task);
}

type Held<T> = (T, Process<()>);

fn pipe() -> Held<PipeReceiver<u8>> {
    let (receiver, sender) = Pipe::simplex().unwrap();
    (receiver, start(keep::<PipeSender<u8>>, sender))
}

/// A pipe whose end has another name here.
fn named() -> (PipeReceiver<u8>, Process<()>, Kept<PipeSender<u8>>) {
    let (receiver, sender) = Pipe::simplex().unwrap();
    let kept = Kept::new(sender);
    let process = start(keep::<Kept<PipeSender<u8>>>, kept.clone());
    while !kept.get().is_closed() {
        thread::yield_now();
    }
    (receiver, process, kept)
}

fn queue() -> Held<Receiver<u8>> {
    let (sender, receiver) = channel(1).unwrap();
    (receiver, start(keep::<Sender<u8>>, sender))
}

fn full() -> Held<PipeSender<u8>> {
    let (receiver, sender) = Pipe::simplex().unwrap();
    (sender, start(keep::<PipeReceiver<u8>>, receiver))
}

fn jobs() -> Held<JoinableQueue<u8>> {
    let jobs = JoinableQueue::bounded(1).unwrap();
    jobs.put(1).unwrap();
    let (mut ready, told) = Pipe::simplex().unwrap();
    let process = start(take_and_keep, (jobs.clone(), told));
    ready.recv().unwrap();
    (jobs, process)
}

/// Waits for one beside another that ends each wait at once.
fn wait_beside(ready: &dyn Waitable, process: Process<()>, waited: &dyn Waitable) {
    process.kill().unwrap();
    while wait(&[ready, waited], None).unwrap() != [0, 1] {}
    reap(process);
}

#[test]
fn who_waits_or_works_asks() {
    let _watch = watch();
    // All are started first.
    let (waited, first) = pipe();
    let (mut received, second) = pipe();
    let (mut sent, third) = full();
    let (mut streamed, fourth) = full();
    let (beside, fifth) = pipe();
    let (beside_queue, sixth) = queue();
    let (beside_jobs, seventh) = jobs();
    let (busy, eighth) = jobs();
    let (mut known, ninth, _kept) = named();
    let (waited_known, tenth, _kept_too) = named();

    // Never idle: there is always something to get.
    eighth.kill().unwrap();
    loop {
        busy.put(2).unwrap();
        let job = busy.get().unwrap();
        busy.task_done().unwrap();
        if job == 1 {
            break;
        }
    }
    reap(eighth);

    first.kill().unwrap();
    let (other, mut sender) = Pipe::simplex::<u8>().unwrap();
    assert_eq!(wait(&[&other, &waited], None).unwrap(), [1]);

    second.kill().unwrap();
    assert!(received.recv().is_err());

    ninth.kill().unwrap();
    assert!(known.recv().is_err());

    tenth.kill().unwrap();
    assert_eq!(wait(&[&other, &waited_known], None).unwrap(), [1]);

    third.kill().unwrap();
    let closed = (0..100_000).find_map(|_| sent.send(1).err());
    assert!(matches!(closed, Some(SendError::Closed(1))));

    fourth.kill().unwrap();
    let closed = streamed.send_bytes(&vec![1; 1 << 20]);
    assert!(matches!(closed, Err(SendError::Closed(()))));

    sender.send(1).unwrap();
    wait_beside(&other, fifth, &beside);
    wait_beside(&other, sixth, &beside_queue);
    wait_beside(&other, seventh, &beside_jobs);

    for process in [first, second, third, fourth, ninth, tenth] {
        reap(process);
    }
}
