//! Ends that move between processes.

use multiprocess::{
    Connection, Pipe, PipeReceiver, PipeSender, Process, Queue, RecvError, SendError, StartMethod,
    channel,
};

use super::{start, watch};

/// An end goes around a circle of processes; each uses it.
#[test]
fn an_end_goes_around() {
    let _watch = watch();
    type Passed = Option<PipeSender<u32>>;
    fn pass_on((mut from, mut to, me): (PipeReceiver<Passed>, PipeSender<Passed>, u32)) {
        while let Ok(Some(mut sender)) = from.recv() {
            sender.send(me).unwrap();
            if to.send(Some(sender)).is_err() {
                return;
            }
        }
    }
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let (first_from, mut first_to) = Pipe::simplex::<Passed>().unwrap();
    let mut from = first_from;
    let mut processes = Vec::new();
    for me in 0..3 {
        let (next_from, to) = Pipe::simplex::<Passed>().unwrap();
        processes.push(start(pass_on, (from, to, me)));
        from = next_from;
    }
    let mut sender = sender;
    for round in 0..50 {
        sender.send(100 + round).unwrap();
        first_to.send(Some(sender)).unwrap();
        assert_eq!(receiver.recv().unwrap(), 100 + round);
        for me in 0..3 {
            assert_eq!(receiver.recv().unwrap(), me);
        }
        sender = from.recv().unwrap().unwrap();
    }
    drop(first_to);
    for process in processes {
        process.join().unwrap();
    }
    drop(sender);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
}

/// Ends travel through queues and channels, as arguments and as results.
#[test]
fn an_end_goes_any_way() {
    let _watch = watch();
    fn make(_: ()) -> PipeReceiver<String> {
        let (receiver, mut sender) = Pipe::simplex().unwrap();
        sender
            .send("from a child that has ended".to_string())
            .unwrap();
        receiver
    }
    let mut receiver = start(make, ()).join().unwrap();
    assert_eq!(receiver.recv().unwrap(), "from a child that has ended");
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));

    let queue = Queue::<Connection<u8, u8>>::bounded(2).unwrap();
    let (sender, ends) = channel::<Connection<u8, u8>>(2).unwrap();
    let (here, mut there) = Pipe::duplex::<u8, u8>().unwrap();
    queue.put(here).unwrap();
    sender.send(queue.get().unwrap()).unwrap();
    let mut here = ends.recv().unwrap();
    here.send(1).unwrap();
    assert_eq!(there.recv().unwrap(), 1);
    // In the queue when it goes.
    queue.put(here).unwrap();
    drop(queue);
    assert!(matches!(there.recv(), Err(RecvError::Closed)));
    assert!(matches!(there.send(1), Err(SendError::Closed(1))));
}

/// A process that could not be started leaves the end to who has it.
#[test]
fn a_failed_start_leaves_the_end() {
    let _watch = watch();
    fn never(_: PipeSender<u8>) {}
    let (mut receiver, sender) = Pipe::simplex().unwrap();
    let builder = Process::builder().name("\0");
    let error = builder.spawn(never, sender).unwrap_err();
    let mut sender = error.into_inner();
    sender.send(1).unwrap();
    let builder = Process::builder().start_method(StartMethod::Spawn);
    let error = builder.fork(never, sender).unwrap_err();
    let mut sender = error.into_inner();
    sender.send(2).unwrap();
    assert_eq!(receiver.recv().unwrap(), 1);
    assert_eq!(receiver.recv().unwrap(), 2);
}
