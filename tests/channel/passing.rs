//! Ends that travel: in messages, results and copies of a process.

use std::thread;

use multiprocess::{GetError, PutError, Receiver, RecvError, SendError, Sender, channel, spawn};
use serde::{Deserialize, Serialize};

use super::{LONG, SOON, reap, start, watch};

type Question = (u64, Sender<u64>);

fn answer(questions: Receiver<Question>) -> usize {
    let mut answered = 0;
    for question in &questions {
        let (number, reply) = question.unwrap();
        // Whoever asked may have gone.
        answered += usize::from(reply.send(number * number).is_ok());
    }
    answered
}

#[test]
fn each_question_brings_its_way_back() {
    let _watch = watch();
    fn ask((questions, first): (Sender<Question>, u64)) {
        for number in first..first + 100 {
            let (reply, answer) = channel(1).unwrap();
            questions.send((number, reply)).unwrap();
            assert_eq!(answer.recv().unwrap(), number * number);
            assert!(matches!(answer.recv(), Err(RecvError::Closed)));
        }
    }
    let (ask_here, questions) = channel(4).unwrap();
    let servers = [(); 2].map(|()| start(answer, questions.clone()));
    let clients = [0, 100, 200].map(|first| start(ask, (ask_here.clone(), first)));
    drop((ask_here, questions));
    for client in clients {
        client.join().unwrap();
    }
    let answered: usize = servers.map(|server| server.join().unwrap()).iter().sum();
    assert_eq!(answered, 300);
}

/// The server is killed with questions in the channel and one in its hand.
#[test]
fn a_question_to_the_dead_is_not_waited_for() {
    let _watch = watch();
    fn stay(questions: Receiver<Question>) {
        let _first = questions.recv().unwrap();
        thread::sleep(LONG);
    }
    let (ask, questions) = channel(4).unwrap();
    let server = start(stay, questions);
    let answers: Vec<Receiver<u64>> = (0..3)
        .map(|number| {
            let (reply, answer) = channel(1).unwrap();
            ask.send((number, reply)).unwrap();
            answer
        })
        .collect();
    while ask.len() == 3 {
        thread::yield_now();
    }
    server.kill().unwrap();
    for answer in answers {
        assert!(matches!(answer.recv(), Err(RecvError::Closed)));
    }
    assert!(ask.is_closed());
    reap(server);
}

#[test]
fn receivers_travel() {
    let _watch = watch();
    fn work(inboxes: Receiver<Receiver<u32>>) -> u32 {
        let inboxes = inboxes.iter().map(Result::unwrap);
        inboxes
            .map(|inbox| inbox.iter().flatten().sum::<u32>())
            .sum()
    }
    let (give, inboxes) = channel(1).unwrap();
    let process = start(work, inboxes);
    for n in 0..10 {
        let (sender, receiver) = channel(4).unwrap();
        sender.send(n).unwrap();
        give.send(receiver).unwrap();
        sender.send(n).unwrap();
    }
    drop(give);
    assert_eq!(process.join().unwrap(), 90);
}

#[derive(Serialize, Deserialize)]
enum Message {
    Number(u32),
    Sender(Sender<Message>),
}

/// The last sender is within its own channel: whoever receives it may go on.
#[test]
fn a_channel_carries_its_own_sender() {
    let _watch = watch();
    fn hand_back(sender: Sender<Message>) {
        sender.send(Message::Number(1)).unwrap();
        let last = sender.clone();
        sender.send(Message::Sender(last)).unwrap();
    }
    let (sender, receiver) = channel(4).unwrap();
    start(hand_back, sender).join().unwrap();
    assert!(!receiver.is_closed());
    let mut sum = 0;
    for message in &receiver {
        match message.unwrap() {
            Message::Number(number) => sum += number,
            Message::Sender(sender) => sender.send(Message::Number(10)).unwrap(),
        }
    }
    assert_eq!(sum, 11);
}

/// An end in a result that nobody has asked for yet is held; then it goes like any other.
#[test]
fn an_end_comes_as_a_result() {
    let _watch = watch();
    fn pass(sender: Sender<u32>) -> Sender<u32> {
        sender.send(1).unwrap();
        sender
    }
    let (sender, receiver) = channel(4).unwrap();
    let process = spawn(pass, sender).unwrap();
    process.wait();
    assert_eq!(receiver.recv().unwrap(), 1);
    let nothing = receiver.recv_timeout(SOON);
    assert!(matches!(nothing, Err(RecvError::Empty)));
    let sender = process.join().unwrap();
    sender.send(2).unwrap();
    drop(sender);
    assert_eq!(receiver.iter().map(Result::unwrap).sum::<u32>(), 2);
}

/// A child that other code forked is no member: it can neither use an end nor let go of one.
#[test]
fn a_foreign_fork_has_no_ends() {
    let _watch = watch();
    let (sender, receiver) = channel::<u32>(2).unwrap();
    sender.send(1).unwrap();
    // SAFETY: the child only uses what is tested, which takes no lock in such a process, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = matches!(sender.send(2), Err(PutError::ForeignFork(2)))
            && matches!(sender.try_send(2), Err(SendError::ForeignFork(2)))
            && matches!(receiver.recv(), Err(GetError::ForeignFork))
            && matches!(receiver.try_recv(), Err(RecvError::ForeignFork))
            && matches!(receiver.iter().next(), Some(Err(RecvError::ForeignFork)))
            && (sender.len(), sender.is_empty(), receiver.is_full()) == (0, true, false)
            && sender.is_closed()
            && receiver.is_closed();
        drop((sender, receiver));
        // SAFETY: takes a number.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    assert!(pid > 0);
    let mut status = -1;
    // SAFETY: the child is this process's own.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert!(!sender.is_closed() && !receiver.is_closed());
    sender.send(2).unwrap();
    drop(sender);
    assert_eq!(receiver.iter().flatten().sum::<u32>(), 3);
}
