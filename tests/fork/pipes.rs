//! Ends of pipes, which have one owner.

use crate::{builder, sleep_for_ever};
use multiprocess::{
    Connection, Error, Event, ExitCode, JoinableQueue, Pipe, PipeReceiver, PipeSender, PutError,
    Queue, RecvError, RecvIntoError, SendError, Waitable, family, wait,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

pub fn an_end_of_a_pipe_goes_along_or_prevents_the_copy() {
    let (receiver, sender) = Pipe::simplex::<u32>().expect("a pipe");
    // One goes along, the other would be had twice.
    let refused = builder()
        .fork(
            |mut sender: PipeSender<u32>| sender.send(1).unwrap(),
            sender,
        )
        .expect_err("the receiver stays");
    assert_eq!(Error::from_io(refused.error()), Some(Error::Borrowed));
    let ends = (receiver, refused.into_inner());
    let both = |(mut receiver, mut sender): (PipeReceiver<u32>, PipeSender<u32>)| {
        sender.send(7).unwrap();
        let number = receiver.recv().unwrap();
        (number, receiver)
    };
    let process = builder().fork(both, ends).expect("a fork");
    let (number, mut receiver) = process.join().expect("a result");
    assert_eq!(number, 7);
    assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
}

/// An end that is set aside is the parent's alone, as soon as it uses it again.
pub fn a_process_has_a_pipe_to_its_copy() {
    let (mut here, there) = Pipe::duplex::<u32, u32>().expect("a pipe");
    here.set_aside();
    let answer = |mut there: Connection<u32, u32>| {
        // What is here in the copy is nobody's.
        assert!(matches!(here.send(1), Err(SendError::Closed(1))));
        assert!(matches!(here.try_recv(), Err(RecvError::Closed)));
        here.set_aside();
        let number = there.recv().unwrap();
        there.send(number + 1).unwrap();
        sleep_for_ever();
    };
    let process = builder().fork(answer, there).expect("a fork");
    let events = [&here as &dyn Waitable];
    assert_eq!(wait(&events, Some(Duration::ZERO)).expect("here"), []);
    here.send(6).expect("a receiver");
    assert_eq!(here.recv().expect("an answer"), 7);
    process.kill().expect("a child");
    assert!(matches!(here.recv(), Err(RecvError::Closed)));
    assert_eq!(process.wait(), ExitCode::Signaled(9));

    // While it is in use nothing is copied.
    let (mut here, there) = Pipe::duplex::<u32, u32>().expect("a pipe");
    here.set_aside();
    assert!(!here.is_closed() && here.try_recv().is_err());
    let refused = builder().fork(drop::<Connection<u32, u32>>, there);
    let refused = refused.expect_err("it came back");
    assert_eq!(Error::from_io(refused.error()), Some(Error::Borrowed));
    // Set aside and dropped, it is closed.
    here.set_aside();
    drop(here);
    let mut there = refused.into_inner();
    assert!(matches!(there.recv(), Err(RecvError::Closed)));
    assert!(matches!(there.send(1), Err(SendError::Closed(1))));
}

/// The copy of an end that was set aside holds nothing: to drop it does no harm to what has its memory by then.
pub fn a_copy_of_an_end_that_was_set_aside_holds_nothing() {
    static HERE: Mutex<Option<Connection<u32, u32>>> = Mutex::new(None);
    let take = || HERE.lock().expect("nobody panics").take();
    let used = Event::new().expect("an event");
    let (mut here, there) = Pipe::duplex::<u32, u32>().expect("a pipe");
    here.set_aside();
    *HERE.lock().expect("nobody panics") = Some(here);
    let work = |(there, used): (Connection<u32, u32>, Event)| {
        assert!(used.wait());
        drop(there);
        let pipe = |_| Pipe::simplex_with_capacity::<u32>(256).expect("a pipe");
        let mut pipes: Vec<_> = (0..200).map(pipe).collect();
        drop(take().expect("the copy"));
        for (receiver, sender) in &mut pipes {
            sender.send(5).expect("a receiver");
            assert_eq!(receiver.recv().expect("sent"), 5);
        }
        let objects = family::stats().objects;
        (
            objects.get("pipe reader").copied(),
            objects.get("pipe writer").copied(),
        )
    };
    let process = builder().fork(work, (there, used.clone()));
    let process = process.expect("a fork");
    let mut here = take().expect("the original");
    here.send(1).expect("a receiver");
    drop(here);
    used.set();
    assert_eq!(process.join().expect("a result"), (Some(200), Some(200)));
}

/// A send that failed leaves an end that comes back when it is used. It does not prevent a copy, which has no part in it.
pub fn an_end_that_may_come_back_is_not_the_copys() {
    let (receiver, sender) = Pipe::simplex::<u32>().expect("a pipe");
    let full = Queue::bounded(1).expect("a queue");
    full.put(Pipe::simplex::<u32>().expect("a pipe").1)
        .expect("room");
    let Err(PutError::Full(mut sender)) = full.try_put(sender) else {
        panic!("there is no room");
    };
    let use_it = move |mut receiver: PipeReceiver<u32>| {
        let looks_closed = sender.is_closed();
        let sent = sender.send(1);
        assert!(looks_closed && matches!(sent, Err(SendError::Closed(1))));
        assert!(matches!(receiver.recv(), Err(RecvError::Closed)));
    };
    // The only end that is in use here goes along.
    let process = builder().fork(use_it, receiver).expect("a fork");
    process.join().expect("the copy has nothing");
}

/// A copy that other code made has none of the memory: each call says so, and nothing there ends what the parent has.
pub fn a_foreign_fork_has_no_pipe() {
    let (mut here, mut there) = Pipe::duplex::<u8, u8>().expect("a pipe");
    let (mut receiver, mut sender) = Pipe::simplex::<u8>().expect("a pipe");
    let ends = Queue::<PipeSender<u8>>::bounded(1).expect("a queue");
    let jobs = JoinableQueue::<u8>::bounded(1).expect("a queue");
    let event = Event::new().expect("an event");
    let daemon = builder().daemon(true);
    let daemon = daemon.spawn(|()| sleep_for_ever(), ()).expect("a daemon");
    for bytes in [b"borrowed", b"the next"] {
        sender.send_bytes(bytes).expect("room");
    }
    let borrowed = receiver.recv_ref().expect("sent");
    let mut claim = there.claim(3).expect("room");
    // SAFETY: the process has one thread.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        std::panic::set_hook(Box::new(|_| ()));
        let items: [&dyn Waitable; 4] = [&here, &ends, &jobs, &event];
        for item in items {
            for list in [&[item][..], &[&daemon, item]] {
                let error = wait(list, None).expect_err("nobody waits here");
                assert_eq!(Error::from_io(&error), Some(Error::ForeignFork));
            }
        }
        assert!(here.poll(Duration::MAX) && here.is_closed());
        assert!(matches!(here.recv(), Err(RecvError::ForeignFork)));
        assert!(matches!(here.recv_bytes(), Err(RecvError::ForeignFork)));
        assert!(matches!(
            here.recv_bytes_into(&mut []),
            Err(RecvIntoError::Recv(RecvError::ForeignFork))
        ));
        assert!(matches!(here.try_recv_ref(), Err(RecvError::ForeignFork)));
        assert!(matches!(here.send(1), Err(SendError::ForeignFork(1))));
        assert!(matches!(
            here.send_bytes(&[0; 100_000]),
            Err(SendError::ForeignFork(()))
        ));
        assert!(matches!(here.claim(1), Err(SendError::ForeignFork(()))));
        assert!(catch_unwind(AssertUnwindSafe(|| borrowed.len())).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| claim.fill(1))).is_err());
        assert!(matches!(claim.commit(), Err(SendError::ForeignFork(()))));
        drop(borrowed);
        assert!(receiver.iter().next().is_some_and(|item| item.is_err()));
        let Err(SendError::ForeignFork(sender)) = ends.put(sender) else {
            panic!("it went");
        };
        drop((here, there, receiver, sender, ends, jobs, event));
        std::process::exit(9);
    }
    let mut status = 0;
    // SAFETY: the status is written to a variable of that type.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(libc::WEXITSTATUS(status), 9);
    assert_eq!(*borrowed, *b"borrowed");
    drop(borrowed);
    assert_eq!(receiver.recv_bytes().expect("sent"), b"the next");
    claim.fill(5);
    claim.commit().expect("a receiver");
    assert_eq!(here.recv_bytes().expect("sent"), [5; 3]);
    assert!(!here.is_closed() && !sender.is_closed());
    daemon.kill().expect("a child");
    assert_eq!(daemon.wait(), ExitCode::Signaled(9));
}
