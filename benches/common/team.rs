//! A team of workers (processes or threads) that run round after round of the same work, measured.
//!
//! The workers are started once and sleep between rounds, so that what is measured is the steady state and not their
//! start. A round is timed from the moment the first worker begins, after all have gathered, until the last one ends.
//! A worker that dies ends the bench with a message; the others are killed.

#![allow(unsafe_code)]

use super::machine::{self, Place};
use super::shared::Shared;
use rustix::process::{
    Pid, Signal, WaitOptions, getppid, kill_process, set_parent_process_death_signal, waitpid,
};
use rustix::thread::{futex, sched_yield};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};
use std::hint;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};
use zerocopy::FromZeros;

const SEATS: usize = 16;

/// The value of `round` that sends everybody home.
const OVER: u32 = u32::MAX;

/// For a futex: the kernel reads a signed number.
const EVERYBODY: u32 = i32::MAX as u32;

/// No round takes this long unless somebody hangs.
const STUCK: Duration = Duration::from_secs(120);

/// The page on which the rounds are announced and reported.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Board {
    /// The process that announces the rounds.
    coordinator: AtomicU32,
    members: AtomicU32,
    /// Whether this round checks the messages rather than being measured.
    check: AtomicU32,
    messages: AtomicU64,
    round: Alone,
    arrived: Alone,
    done: Alone,
    reports: [Report; SEATS],
}

/// A counter in its own cache line.
#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
struct Alone(AtomicU32);

#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
struct Report {
    begin: AtomicU64,
    end: AtomicU64,
    /// What the worker measured itself, if it did; in nanoseconds.
    spent: AtomicU64,
    digest: AtomicU64,
}

/// What a worker is to do in a round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// How many messages each worker sends or receives.
    pub messages: u64,
    /// Whether each message is to be checked. Such a round is not measured.
    pub check: bool,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// A sum over its messages: those who sent and those who received must agree.
    pub digest: u64,
    /// What the round cost, where that is not simply its length.
    pub spent: Option<Duration>,
}

/// A worker's place in its team: what is passed to a new process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seat {
    board: String,
    number: usize,
    place: Place,
}

impl Seat {
    /// Does `work` in every round. For a process that maps the board itself; returns when the team is over.
    pub fn serve(&self, work: impl FnMut(Round) -> Done) {
        let board = Shared::open(&self.board).expect("the coordinator's board");
        die_with_parent(&board);
        self.work_at(&board, work);
    }

    fn work_at(&self, board: &Board, mut work: impl FnMut(Round) -> Done) {
        machine::pin(self.place);
        let report = &board.reports[self.number];
        let mut seen = 0;
        loop {
            seen = board.next_round(seen);
            if seen == OVER || !board.gather(seen) {
                return;
            }
            let round = Round {
                messages: board.messages.load(Relaxed),
                check: board.check.load(Relaxed) != 0,
            };
            report.begin.store(machine::now(), Relaxed);
            let done = work(round);
            report.end.store(machine::now(), Relaxed);
            let spent = done.spent.map_or(0, |d| d.as_nanos() as u64);
            report.spent.store(spent, Relaxed);
            report.digest.store(done.digest, Relaxed);
            board.finish();
        }
    }
}

/// A process that does not outlive the one that started it, even when that one is killed.
pub fn die_with_parent(board: &Board) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    assert_eq!(
        parent as u32,
        board.coordinator.load(Relaxed),
        "the coordinator died"
    );
}

impl Board {
    /// Sleeps until there is another round than `seen`.
    fn next_round(&self, seen: u32) -> u32 {
        loop {
            let round = self.round.0.load(Acquire);
            if round != seen {
                return round;
            }
            let _ = futex::wait(&self.round.0, futex::Flags::empty(), seen, None);
        }
    }

    /// Waits, awake, until all have arrived; false when the team is over.
    fn gather(&self, round: u32) -> bool {
        self.arrived.0.fetch_add(1, AcqRel);
        let all = self.members.load(Relaxed) * round;
        let mut turns = 0u32;
        while self.arrived.0.load(Acquire) < all {
            if self.round.0.load(Relaxed) == OVER {
                return false;
            }
            turns += 1;
            if turns < 100 {
                hint::spin_loop();
            } else {
                sched_yield();
            }
        }
        true
    }

    fn finish(&self) {
        if self.done.0.fetch_add(1, AcqRel) + 1 == self.members.load(Relaxed) {
            let _ = futex::wake(&self.done.0, futex::Flags::empty(), EVERYBODY);
        }
    }
}

/// The workers, seen by who coordinates them.
#[derive(Debug)]
pub struct Team {
    name: &'static str,
    board: Arc<Shared<Board>>,
    members: Vec<Member>,
    rounds: u32,
}

#[derive(Debug)]
enum Member {
    Forked(Pid),
    Thread(thread::JoinHandle<()>),
    Ours(multiprocess::Process<()>),
}

impl Team {
    /// One without workers. The first half of those that join are the senders, the other half the receivers.
    pub fn new(name: &'static str) -> Self {
        let board = Shared::<Board>::new().expect("memory for the board");
        board.coordinator.store(std::process::id(), Relaxed);
        Self {
            name,
            board: Arc::new(board),
            members: Vec::new(),
            rounds: 0,
        }
    }

    fn seat(&mut self, place: Place) -> Seat {
        assert_eq!(self.rounds, 0, "the team is at work");
        let number = self.members.len();
        assert!(number < SEATS, "no seat left");
        self.board.members.fetch_add(1, Relaxed);
        Seat {
            board: self.board.path(),
            number,
            place,
        }
    }

    /// Adds a process made by `fork`, which has all that this one has.
    pub fn fork(&mut self, place: Place, work: impl FnMut(Round) -> Done) {
        let seat = self.seat(place);
        let board = &self.board;
        let pid = fork_to(|| {
            die_with_parent(board);
            seat.work_at(board, work);
        });
        self.members.push(Member::Forked(pid));
    }

    /// Adds a thread of this process.
    pub fn thread(&mut self, place: Place, work: impl FnMut(Round) -> Done + Send + 'static) {
        let seat = self.seat(place);
        let board = Arc::clone(&self.board);
        let thread = thread::spawn(move || seat.work_at(&board, work));
        self.members.push(Member::Thread(thread));
    }

    /// Adds a process of this crate: `target` is to call [`Seat::serve`].
    pub fn spawn<A>(&mut self, place: Place, target: fn((Seat, A)), argument: A)
    where
        A: Serialize + for<'de> Deserialize<'de> + 'static,
    {
        let seat = self.seat(place);
        let process = multiprocess::Process::builder()
            .daemon(true)
            .spawn(target, (seat, argument))
            .unwrap_or_else(|e| panic!("{}: no process: {}", self.name, std::io::Error::from(e)));
        self.members.push(Member::Ours(process));
    }

    /// One round that checks every message; then the team is warm.
    pub fn check(&mut self, messages: u64) {
        self.run(messages, true);
    }

    /// One round in which each worker handles so many messages, and how long it took.
    pub fn time(&mut self, messages: u64) -> Duration {
        self.run(messages, false)
    }

    fn run(&mut self, messages: u64, check: bool) -> Duration {
        let board = &**self.board;
        board.messages.store(messages, Relaxed);
        board.check.store(check.into(), Relaxed);
        board.done.0.store(0, Relaxed);
        self.rounds += 1;
        board.round.0.store(self.rounds, Release);
        let _ = futex::wake(&board.round.0, futex::Flags::empty(), EVERYBODY);
        self.wait();
        self.sum_up()
    }

    /// Sleeps until all are done; panics when one has died or all are stuck.
    fn wait(&mut self) {
        let end = Instant::now() + STUCK;
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        loop {
            let board = &**self.board;
            let done = board.done.0.load(Acquire);
            if done == self.members.len() as u32 {
                return;
            }
            let _ = futex::wait(&board.done.0, futex::Flags::empty(), done, Some(&slice));
            let name = self.name;
            for (i, member) in self.members.iter_mut().enumerate() {
                assert!(member.is_alive(), "{name}: worker {i} died");
            }
            assert!(Instant::now() < end, "{name}: stuck");
        }
    }

    /// The length of the round that just ended, once its sums agree.
    fn sum_up(&self) -> Duration {
        let reports = &self.board.reports[..self.members.len()];
        let sum = |reports: &[Report]| {
            let digests = reports.iter().map(|r| r.digest.load(Relaxed));
            digests.fold(0, u64::wrapping_add)
        };
        let (senders, receivers) = reports.split_at(reports.len() / 2);
        assert_eq!(
            sum(senders),
            sum(receivers),
            "{}: not the messages that were sent",
            self.name
        );
        let spent = reports.iter().map(|r| r.spent.load(Relaxed)).max();
        let begin = reports.iter().map(|r| r.begin.load(Relaxed)).min();
        let end = reports.iter().map(|r| r.end.load(Relaxed)).max();
        Duration::from_nanos(match (spent, begin, end) {
            (Some(spent), ..) if spent > 0 => spent,
            (_, Some(begin), Some(end)) => end - begin,
            _ => 0,
        })
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let board = &**self.board;
        board.round.0.store(OVER, Release);
        let _ = futex::wake(&board.round.0, futex::Flags::empty(), EVERYBODY);
        // Who works on after a failure never looks at the board again.
        let patience = if thread::panicking() { 0 } else { 2000 };
        let end = Instant::now() + Duration::from_millis(patience);
        for mut member in self.members.drain(..) {
            while member.is_alive() && Instant::now() < end {
                thread::sleep(Duration::from_micros(200));
            }
            member.end();
        }
    }
}

impl Member {
    fn is_alive(&mut self) -> bool {
        match self {
            Self::Forked(pid) => is_running(*pid),
            Self::Thread(thread) => !thread.is_finished(),
            Self::Ours(process) => process.is_alive(),
        }
    }

    fn end(self) {
        match self {
            Self::Forked(pid) => {
                if is_running(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                }
            }
            // A thread that still runs ends with the process.
            Self::Thread(thread) if !thread.is_finished() => {}
            Self::Thread(thread) => drop(thread.join()),
            Self::Ours(process) => {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// Whether our child runs; it is reaped when it does not, and gone when it was.
fn is_running(pid: Pid) -> bool {
    matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}

/// A child made by `fork` that does `work` and ends.
pub fn fork_to(work: impl FnOnce()) -> Pid {
    // SAFETY: the child leaves by `_exit` and never returns into the code above this call.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let code = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => 0,
            Err(_) => 101,
        };
        // SAFETY: it ends this process without running anything of the parent's.
        unsafe { libc::_exit(code) }
    }
    Pid::from_raw(pid).expect("a pid above 0")
}
