//! A number there and back again: the loop that all contenders run, and the two exchanges that tell what the machine
//! itself costs, a cache line and a futex.

use super::machine::{self, Place, pause};
use super::shared::Shared;
use super::team::{Done, Round, Team};
use rustix::thread::futex;
use std::hint;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;
use zerocopy::FromZeros;

/// One end of something that carries numbers both ways.
pub trait Link {
    /// Sends a number to the other end.
    fn send(&mut self, number: u64);

    /// Waits for the number that the other end sends.
    fn receive(&mut self) -> u64;
}

/// How the two ends meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Meeting {
    /// Each on its own CPU, answering at once.
    Apart,
    /// Both on one CPU, so that one must sleep for the other to run.
    OneCpu,
    /// Each on its own CPU and each so long busy before it sends that the other has gone to sleep.
    Paused,
}

/// Longer than anybody spins.
const PAUSE: Duration = Duration::from_micros(500);

impl Meeting {
    /// Where the two ends run.
    pub fn places(self) -> [Place; 2] {
        match self {
            Self::OneCpu => [Place::First, Place::First],
            _ => [Place::First, Place::Second],
        }
    }

    fn pause(self) -> Duration {
        match self {
            Self::Paused => PAUSE,
            _ => Duration::ZERO,
        }
    }
}

/// The end that asks. What is measured is the time from asking to the answer, without the pauses.
#[inline(always)]
pub fn ask(round: Round, meeting: Meeting, link: &mut impl Link) -> Done {
    let mut sum = 0u64;
    let mut spent = 0;
    for i in 0..round.messages {
        let begin = if meeting == Meeting::Paused {
            pause(PAUSE);
            machine::now()
        } else {
            0
        };
        link.send(i);
        let answer = link.receive();
        if meeting == Meeting::Paused {
            spent += machine::now() - begin - PAUSE.as_nanos() as u64;
        }
        if round.check {
            assert_eq!(answer, i + 1);
        }
        sum = sum.wrapping_add(answer);
    }
    Done {
        digest: sum,
        spent: (spent > 0).then(|| Duration::from_nanos(spent)),
    }
}

/// The end that answers.
#[inline(always)]
pub fn answer(round: Round, meeting: Meeting, link: &mut impl Link) -> Done {
    let mut sum = 0u64;
    for i in 0..round.messages {
        let number = link.receive();
        if round.check {
            assert_eq!(number, i);
        }
        if meeting == Meeting::Paused {
            pause(meeting.pause());
        }
        sum = sum.wrapping_add(number + 1);
        link.send(number + 1);
    }
    Done {
        digest: sum,
        spent: None,
    }
}

/// A number in its own cache line.
#[derive(Debug, FromZeros)]
#[repr(C, align(128))]
struct Line {
    value: AtomicU64,
    /// How many were sent: a futex word.
    count: AtomicU32,
}

/// One line each way.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Lines([Line; 2]);

/// A cache line that one side writes and the other looks at until it has changed.
#[derive(Debug)]
struct CacheLine<'a> {
    out: &'a Line,
    back: &'a Line,
    sent: u32,
    received: u32,
}

impl<'a> CacheLine<'a> {
    fn new(lines: &'a Lines, end: usize) -> Self {
        Self {
            out: &lines.0[end],
            back: &lines.0[1 - end],
            sent: 0,
            received: 0,
        }
    }
}

impl Link for CacheLine<'_> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        self.sent = self.sent.wrapping_add(1);
        self.out.value.store(number, Relaxed);
        self.out.count.store(self.sent, Release);
    }

    #[inline(always)]
    fn receive(&mut self) -> u64 {
        while self.back.count.load(Acquire) == self.received {
            hint::spin_loop();
        }
        self.received = self.received.wrapping_add(1);
        self.back.value.load(Relaxed)
    }
}

/// The same with a system call to wake the other side and one to sleep.
#[derive(Debug)]
struct Futex<'a>(CacheLine<'a>);

impl Link for Futex<'_> {
    #[inline(always)]
    fn send(&mut self, number: u64) {
        self.0.send(number);
        let _ = futex::wake(&self.0.out.count, futex::Flags::empty(), 1);
    }

    #[inline(always)]
    fn receive(&mut self) -> u64 {
        let word = &self.0.back.count;
        while word.load(Acquire) == self.0.received {
            let _ = futex::wait(word, futex::Flags::empty(), self.0.received, None);
        }
        self.0.receive()
    }
}

/// Two processes that pass a cache line to and fro.
pub fn cache_line() -> Team {
    let mut team = Team::new("a cache line");
    let lines = Shared::<Lines>::new().expect("memory for the lines");
    let [first, second] = Meeting::Apart.places();
    let mut end = CacheLine::new(&lines, 0);
    team.fork(first, |round| ask(round, Meeting::Apart, &mut end));
    let mut end = CacheLine::new(&lines, 1);
    team.fork(second, |round| answer(round, Meeting::Apart, &mut end));
    team
}

/// Two processes that wake each other through a futex.
pub fn futex(meeting: Meeting) -> Team {
    let mut team = Team::new("a futex");
    let lines = Shared::<Lines>::new().expect("memory for the lines");
    let [first, second] = meeting.places();
    let mut end = Futex(CacheLine::new(&lines, 0));
    team.fork(first, |round| ask(round, meeting, &mut end));
    let mut end = Futex(CacheLine::new(&lines, 1));
    team.fork(second, |round| answer(round, meeting, &mut end));
    team
}
