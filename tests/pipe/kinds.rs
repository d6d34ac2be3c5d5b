//! `wait` for all that can be waited for, in one list, between processes.
#![allow(unsafe_code)] // a kernel without a system call

use std::time::Duration;

use multiprocess::{
    Connection, Event, JoinableQueue, Pipe, Process, Queue, Receiver, Sender, Waitable, channel,
    unbounded_channel, wait,
};
use serde::{Deserialize, Serialize};

use super::{LONG, SOON, reap, start, watch};

/// What is waited for, and the other side of it.
struct Here {
    connection: Connection<u8, u8>,
    bounded: Queue<u8>,
    unbounded: Queue<u8>,
    receiver: Receiver<u8>,
    endless: Receiver<u8>,
    jobs: JoinableQueue<u8>,
    event: Event,
}

#[derive(Serialize, Deserialize)]
struct There {
    connection: Connection<u8, u8>,
    bounded: Queue<u8>,
    unbounded: Queue<u8>,
    sender: Sender<u8>,
    endless: Sender<u8>,
    jobs: JoinableQueue<u8>,
    event: Event,
}

const KINDS: usize = 7;

fn sides() -> (Here, There) {
    let (connection, other) = Pipe::duplex().unwrap();
    let (sender, receiver) = channel(4).unwrap();
    let (endless_sender, endless) = unbounded_channel().unwrap();
    let here = Here {
        connection,
        bounded: Queue::bounded(4).unwrap(),
        unbounded: Queue::unbounded().unwrap(),
        receiver,
        endless,
        jobs: JoinableQueue::bounded(4).unwrap(),
        event: Event::new().unwrap(),
    };
    let there = There {
        connection: other,
        bounded: here.bounded.clone(),
        unbounded: here.unbounded.clone(),
        sender,
        endless: endless_sender,
        jobs: here.jobs.clone(),
        event: here.event.clone(),
    };
    (here, there)
}

impl Here {
    fn all<'a>(&'a self, process: Option<&'a Process<()>>) -> Vec<&'a dyn Waitable> {
        let mut all: Vec<&dyn Waitable> = vec![
            &self.connection,
            &self.bounded,
            &self.unbounded,
            &self.receiver,
            &self.endless,
            &self.jobs,
            &self.event,
        ];
        all.extend(process.map(|process| process as &dyn Waitable));
        all
    }

    /// Takes what made this one ready.
    fn take(&mut self, place: usize) -> u8 {
        match place {
            0 => self.connection.recv().unwrap(),
            1 => self.bounded.get().unwrap(),
            2 => self.unbounded.get().unwrap(),
            3 => self.receiver.recv().unwrap(),
            4 => self.endless.recv().unwrap(),
            5 => {
                let job = self.jobs.get().unwrap();
                self.jobs.task_done().unwrap();
                job
            }
            _ => {
                self.event.clear();
                6
            }
        }
    }
}

impl There {
    fn make_ready(&mut self, place: u8) {
        match place {
            0 => self.connection.send(place).unwrap(),
            1 => self.bounded.put(place).unwrap(),
            2 => self.unbounded.put(place).unwrap(),
            3 => self.sender.send(place).unwrap(),
            4 => self.endless.send(place).unwrap(),
            5 => self.jobs.put(place).unwrap(),
            _ => self.event.set(),
        }
    }
}

/// Makes ready what it is told to.
fn obey((mut there, orders): (There, Receiver<u8>)) {
    for order in orders.iter().flatten() {
        std::thread::sleep(SOON / 2);
        there.make_ready(order);
    }
}

/// Each in turn wakes who sleeps for all of them, and it alone.
fn one_after_the_other(with_process: bool) {
    let (mut here, there) = sides();
    let (orders, to_obey) = channel(8).unwrap();
    let process = start(obey, (there, to_obey));
    for place in (0..KINDS).chain((0..KINDS).rev()) {
        orders.send(place as u8).unwrap();
        let all = here.all(with_process.then_some(&process));
        assert_eq!(wait(&all, None).unwrap(), [place]);
        assert_eq!(wait(&all, Some(Duration::ZERO)).unwrap(), [place], "again");
        assert_eq!(here.take(place), place as u8);
        let all = here.all(with_process.then_some(&process));
        assert_eq!(wait(&all, Some(Duration::ZERO)).unwrap(), [], "taken");
    }
    // The other side's end is the end of what it alone could have sent.
    drop(orders);
    let ended: &[usize] = if with_process {
        &[0, 3, 4, 7]
    } else {
        &[0, 3, 4]
    };
    process.wait();
    let all = here.all(with_process.then_some(&process));
    assert_eq!(wait(&all, Some(LONG)).unwrap(), ended);
    process.join().unwrap();
}

#[test]
fn every_kind_wakes() {
    let _watch = watch();
    one_after_the_other(false);
}

#[test]
fn every_kind_wakes_beside_a_process() {
    let _watch = watch();
    one_after_the_other(true);
}

/// As on a kernel before 5.16.
fn forget_futex_waitv() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD, 0, 0, 0), // the number of the call
        step(EQUAL, 0, 1, libc::SYS_futex_waitv as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: takes away rights of this process.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0);
    // SAFETY: the program is as long as it says.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(done, 0);
    // SAFETY: refused before it looks at anything.
    let done = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    assert_eq!(done, -1);
    let error = std::io::Error::last_os_error();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
}

#[test]
fn every_kind_wakes_without_the_system_call() {
    let _watch = watch();
    fn without(with_process: bool) {
        forget_futex_waitv();
        one_after_the_other(with_process);
    }
    for with_process in [false, true] {
        start(without, with_process).join().unwrap();
    }
}

/// The same object several times, as itself and as a clone.
#[test]
fn twice_is_allowed() {
    let _watch = watch();
    let queue = Queue::<u8>::unbounded().unwrap();
    let (clone, event) = (queue.clone(), Event::new().unwrap());
    let all: [&dyn Waitable; 5] = [&queue, &event, &clone, &event, &queue];
    assert_eq!(wait(&all, Some(SOON)).unwrap(), []);
    queue.put(1).unwrap();
    assert_eq!(wait(&all, None).unwrap(), [0, 2, 4]);
    event.set();
    assert_eq!(wait(&all, None).unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(queue.get().unwrap(), 1);
    event.clear();
    assert_eq!(wait(&all, Some(Duration::ZERO)).unwrap(), []);
}

#[test]
fn closing_wakes() {
    let _watch = watch();
    fn close((bounded, unbounded, jobs): (Queue<u8>, Queue<u8>, JoinableQueue<u8>)) {
        std::thread::sleep(SOON / 2);
        bounded.close();
        std::thread::sleep(SOON);
        unbounded.close();
        std::thread::sleep(SOON);
        jobs.close();
    }
    let (bounded, unbounded) = (Queue::bounded(1).unwrap(), Queue::unbounded().unwrap());
    let jobs = JoinableQueue::bounded(1).unwrap();
    let process = start(close, (bounded.clone(), unbounded.clone(), jobs.clone()));
    let all: [&dyn Waitable; 3] = [&bounded, &unbounded, &jobs];
    assert_eq!(wait(&all, None).unwrap()[0], 0);
    assert_eq!(wait(&all[1..], None).unwrap()[0], 0);
    assert_eq!(wait(&all[2..], None).unwrap(), [0]);
    process.join().unwrap();
}

/// Senders that are killed: nobody says so.
#[test]
fn the_death_of_all_senders_wakes() {
    let _watch = watch();
    fn stay(senders: (Sender<u8>, Sender<u8>)) {
        std::thread::sleep(LONG);
        drop(senders);
    }
    let (sender, receiver) = channel::<u8>(1).unwrap();
    let (endless_sender, endless) = unbounded_channel::<u8>().unwrap();
    let (other, _other) = Pipe::simplex::<u8>().unwrap();
    let process = start(stay, (sender, endless_sender));
    let all: [&dyn Waitable; 3] = [&other, &receiver, &endless];
    assert_eq!(wait(&all, Some(SOON)).unwrap(), []);
    process.kill().unwrap();
    assert_eq!(wait(&all[..2], None).unwrap(), [1]);
    assert_eq!(wait(&[&other, &endless], None).unwrap(), [1]);
    reap(process);
}

/// The death of who holds a task is found by who waits, also while others wake it all the time.
#[test]
fn what_a_dead_one_held_wakes_amid_noise() {
    let _watch = watch();
    fn stay((jobs, has): (JoinableQueue<u8>, Event)) {
        let task = jobs.get_task().unwrap();
        has.set();
        std::thread::sleep(LONG);
        drop(task);
    }
    fn noise((queue, over): (Queue<u8>, Event)) {
        while !over.wait_timeout(SOON / 10) {
            let _ = queue.try_put(0);
            let _ = queue.try_get();
        }
    }
    let (jobs, queue) = (
        JoinableQueue::bounded(1).unwrap(),
        Queue::bounded(1).unwrap(),
    );
    let (has, over) = (Event::new().unwrap(), Event::new().unwrap());
    jobs.put(7).unwrap();
    jobs.close();
    let process = start(stay, (jobs.clone(), has.clone()));
    assert!(has.wait());
    let noisy = start(noise, (queue.clone(), over.clone()));
    let all: [&dyn Waitable; 2] = [&queue, &jobs];
    // It is at its end, but the task may come back: a `get` would wait.
    assert_eq!(wait(&all[1..], Some(SOON)).unwrap(), []);
    process.kill().unwrap();
    while !wait(&all, None).unwrap().contains(&1) {}
    assert_eq!(jobs.get().unwrap(), 7);
    assert_eq!(wait(&all[1..], None).unwrap(), [0], "holds one itself");
    jobs.task_done().unwrap();
    assert_eq!(wait(&all[1..], None).unwrap(), [0], "the end");
    over.set();
    noisy.join().unwrap();
    reap(process);
}

/// Several wait for the same and take from it: everything arrives, once.
#[test]
fn many_wait_and_take() {
    const EACH: u32 = 300;
    let _watch = watch();
    fn consume((one, other, sum): (Receiver<u32>, Receiver<u32>, Sender<u64>)) {
        let (mut total, mut open) = (0, [true; 2]);
        while open.contains(&true) {
            let receivers = [&one, &other];
            let left: Vec<usize> = (0..2).filter(|&place| open[place]).collect();
            let all: Vec<&dyn Waitable> = left.iter().map(|&p| receivers[p] as _).collect();
            for place in wait(&all, None).unwrap() {
                let place = left[place];
                match receivers[place].try_recv() {
                    Ok(number) => total += u64::from(number),
                    Err(multiprocess::RecvError::Closed) => open[place] = false,
                    Err(_) => {}
                }
            }
        }
        sum.send(total).unwrap();
    }
    let (one, one_receiver) = channel(2).unwrap();
    let (other, other_receiver) = unbounded_channel().unwrap();
    let (sum, sums) = channel(8).unwrap();
    let consumers = [(); 3].map(|()| {
        let ends = (one_receiver.clone(), other_receiver.clone(), sum.clone());
        start(consume, ends)
    });
    for number in 0..EACH {
        one.send(number).unwrap();
        other.send(number).unwrap();
    }
    drop((one, other, sum));
    let total: u64 = sums.iter().map(Result::unwrap).sum();
    assert_eq!(total, u64::from(EACH * (EACH - 1)));
    for consumer in consumers {
        consumer.join().unwrap();
    }
}
