//! The last stage, in the parent: starts the others, gathers their reports, and keeps the books, so that nothing is lost
//! with a process that dies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use multiprocess::{ExitCode, GetError, Process, Queue};
use serde_bytes::ByteBuf;

use crate::hash::{self, Worker};
use crate::messages::{Report, Request, Task};
use crate::report::{Death, Tally};
use crate::stop::Stop;
use crate::walk::{self, Walker};

/// Tasks that wait for a worker.
const TASKS: usize = 64;
/// Reports that wait for the collector.
const REPORTS: usize = 1024;
/// How often the collector looks whether everybody still lives.
const TICK: Duration = Duration::from_millis(50);
/// Silence after which a task that nobody works at counts as lost on its way.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the others may take to go, once the queues are closed.
const LEAVE: Duration = Duration::from_secs(10);
/// Deaths without a single file done in between, after which it makes no sense to go on.
const DEATHS_IN_A_ROW: u32 = 20;

pub struct Options<'a> {
    pub root: &'a Path,
    pub workers: usize,
    pub kill_worker: bool,
    pub crash_on: Option<&'a [u8]>,
}

/// Walks and hashes with several processes.
pub fn run(options: &Options<'_>, stop: &Stop, bar: &ProgressBar) -> io::Result<Tally> {
    let started = Instant::now();
    let mut collector = Collector::start(options)?;
    collector.gather(stop, bar)?;
    let mut tally = collector.finish()?;
    tally.elapsed = started.elapsed();
    Ok(tally)
}

/// A task that a worker has begun.
struct Open {
    /// The first file not yet done.
    next: u32,
    files: u32,
}

struct Hand {
    process: Process<()>,
    /// Its task, until the last file of it is done.
    task: Option<u64>,
    /// Its end was seen, and `Report::Reaped` is on its way or has come.
    ended: Option<ExitCode>,
    announced: bool,
}

struct Collector<'a> {
    options: &'a Options<'a>,
    tasks: Queue<Task>,
    reports: Queue<Report>,
    requests: Queue<Request>,
    walker: Process<()>,
    hands: Vec<Hand>,
    /// The number of tasks, once the walker has told.
    walked: Option<u64>,
    open: BTreeMap<u64, Open>,
    finished: Numbers,
    outbox: VecDeque<Request>,
    to_kill: bool,
    /// The queues are closed.
    over: bool,
    deaths_in_a_row: u32,
    last_news: Instant,
    tally: Tally,
}

impl<'a> Collector<'a> {
    fn start(options: &'a Options<'a>) -> io::Result<Self> {
        let (tasks, reports) = (Queue::bounded(TASKS)?, Queue::bounded(REPORTS)?);
        let requests = Queue::bounded(TASKS)?;
        let walker = Walker {
            root: ByteBuf::from(options.root.as_os_str().as_bytes()),
            tasks: tasks.clone(),
            reports: reports.clone(),
            requests: requests.clone(),
        };
        let walker = Process::builder()
            .name("walk")
            .daemon(true)
            .spawn(walk::walk, walker)?;
        let mut collector = Collector {
            options,
            tasks,
            reports,
            requests,
            walker,
            hands: Vec::new(),
            walked: None,
            open: BTreeMap::new(),
            finished: Numbers::default(),
            outbox: VecDeque::new(),
            to_kill: options.kill_worker,
            over: false,
            deaths_in_a_row: 0,
            last_news: Instant::now(),
            tally: Tally::new(),
        };
        for _ in 0..options.workers {
            collector.hire()?;
        }
        Ok(collector)
    }

    fn hire(&mut self) -> io::Result<()> {
        let number = self.hands.len() as u32;
        let worker = Worker {
            number,
            root: ByteBuf::from(self.options.root.as_os_str().as_bytes()),
            crash_on: self.options.crash_on.map(ByteBuf::from),
            tasks: self.tasks.clone(),
            reports: self.reports.clone(),
        };
        let process = Process::builder()
            .name(format!("hash-{number}"))
            .daemon(true)
            .spawn(hash::work, worker)?;
        self.hands.push(Hand {
            process,
            task: None,
            ended: None,
            announced: false,
        });
        Ok(())
    }

    fn gather(&mut self, stop: &Stop, bar: &ProgressBar) -> io::Result<()> {
        let mut looked = Instant::now();
        loop {
            match self.reports.get_timeout(TICK) {
                Ok(report) => {
                    self.last_news = Instant::now();
                    self.tally.messages += 1;
                    self.note(report, bar)?;
                }
                Err(GetError::Empty) => {}
                Err(GetError::Closed) => return Ok(()),
                Err(error) => return Err(io::Error::other(error)),
            }
            self.send_requests();
            if looked.elapsed() >= TICK && !self.over {
                looked = Instant::now();
                bar.set_message(indicatif::BinaryBytes(self.tally.bytes).to_string());
                if stop.asked() {
                    self.break_off("interrupted");
                } else {
                    self.look_around();
                }
            }
            if self.walked == Some(self.finished.len()) && !self.over {
                // What still comes is said for the second time.
                self.close();
            }
        }
    }

    /// Ends all stages: who waits in `get` or `put` is told, and who reads a file looks now and then.
    fn close(&mut self) {
        self.over = true;
        self.tasks.close();
        self.requests.close();
        self.reports.close();
    }

    fn break_off(&mut self, why: &'static str) {
        self.tally.broken_off = Some(why);
        self.close();
    }

    fn note(&mut self, report: Report, bar: &ProgressBar) -> io::Result<()> {
        match report {
            Report::Taken {
                worker,
                task,
                first,
                files,
            } => {
                self.tally.messages += 1; // The task itself.
                if let Some(hand) = self.hands.get_mut(worker as usize) {
                    hand.task = Some(task);
                }
                if !self.finished.contains(task) {
                    self.open.entry(task).or_insert(Open { next: first, files });
                }
            }
            Report::Done {
                worker,
                task,
                index,
                path,
                outcome,
            } => {
                let mut more = false;
                if let Some(open) = self.open.get_mut(&task).filter(|open| open.next == index) {
                    open.next += 1;
                    more = open.next < open.files;
                    bar.inc(1);
                    self.deaths_in_a_row = 0;
                    self.tally.file(task, index, path.into_vec(), outcome)?;
                }
                if let Some(hand) = self.hands.get_mut(worker as usize) {
                    if more && self.to_kill {
                        self.to_kill = hand.process.kill().is_err();
                    }
                }
                if !more
                    && self
                        .open
                        .get(&task)
                        .is_some_and(|open| open.next == open.files)
                {
                    self.open.remove(&task);
                    self.finished.insert(task);
                    self.outbox.push_back(Request::Finished { task });
                }
            }
            Report::Unwalked { path, why } => self.tally.closed_directory(path.into_vec(), why),
            Report::Walked { tasks } => self.walked = Some(tasks),
            Report::Reaped { worker } => self.bury(worker)?,
        }
        Ok(())
    }

    /// Looks for processes that died, and for tasks that were lost on their way.
    fn look_around(&mut self) {
        if !self.walker.is_alive() {
            // In order it only goes after the queues were closed.
            return self.break_off("the walker died");
        }
        for (number, hand) in self.hands.iter_mut().enumerate() {
            if hand.ended.is_none() {
                hand.ended = hand.process.exitcode();
            }
            if hand.ended.is_some() && !hand.announced {
                // When there is no room: at the next look.
                hand.announced = self
                    .reports
                    .try_put(Report::Reaped {
                        worker: number as u32,
                    })
                    .is_ok();
            }
        }
        let silent =
            self.last_news.elapsed() >= SILENCE && self.tasks.is_empty() && self.outbox.is_empty();
        if let (Some(tasks), true) = (
            self.walked,
            silent && self.hands.iter().all(|hand| self.is_idle(hand)),
        ) {
            // A worker was killed after it took a task and before it could say so. (If it only is slow, the task is
            // done twice and counted once.)
            for task in (0..tasks).filter(|task| !self.finished.contains(*task)) {
                let first = self.open.get(&task).map_or(0, |open| open.next);
                self.outbox.push_back(Request::Again {
                    task,
                    first,
                    died: false,
                });
            }
            self.last_news = Instant::now();
        }
    }

    fn is_idle(&self, hand: &Hand) -> bool {
        hand.ended.is_some() || hand.task.is_none_or(|task| !self.open.contains_key(&task))
    }

    /// All that the dead worker had said has been heard: its task goes to others, from the file in its hands on.
    fn bury(&mut self, worker: u32) -> io::Result<()> {
        let hand = &mut self.hands[worker as usize];
        let end = hand.ended.unwrap_or(ExitCode::Unknown);
        let held = hand
            .task
            .take()
            .and_then(|task| Some((task, self.open.get(&task)?.next)));
        self.tally.deaths.push(Death {
            worker,
            pid: hand.process.pid(),
            end,
            held,
            path: None,
        });
        if self.over {
            return Ok(());
        }
        if let Some((task, first)) = held {
            self.outbox.push_back(Request::Again {
                task,
                first,
                died: true,
            });
        }
        self.deaths_in_a_row += 1;
        if self.deaths_in_a_row == DEATHS_IN_A_ROW {
            self.break_off("the workers keep dying");
            return Ok(());
        }
        self.hire()
    }

    /// Never waits: the walker may be waiting for the workers, and they for us.
    fn send_requests(&mut self) {
        while let Some(request) = self.outbox.pop_front() {
            if self.requests.try_put(request).is_err() {
                self.outbox.push_front(request);
                return;
            }
            self.tally.messages += 1;
        }
    }

    /// Waits until everybody has gone.
    fn finish(mut self) -> io::Result<Tally> {
        let ends = self
            .hands
            .iter()
            .map(|hand| &hand.process)
            .chain([&self.walker])
            .map(|process| match process.wait_timeout(LEAVE) {
                Some(end) => Ok(end),
                None => {
                    // One that hangs in the file system is not waited for.
                    process.kill()?;
                    Ok(process.wait())
                }
            })
            .collect::<io::Result<Vec<ExitCode>>>()?;
        for (number, end) in ends.iter().take(self.hands.len()).enumerate() {
            // Who died after the last look around had nothing in its hands that was not done.
            let orderly = matches!(end, ExitCode::Exited(0) | ExitCode::Unknown);
            if !self.hands[number].announced && !orderly {
                self.hands[number].ended = Some(*end);
                self.bury(number as u32)?;
            }
        }
        self.tally.unfinished = self
            .open
            .values()
            .map(|open| u64::from(open.files - open.next))
            .sum();
        Ok(self.tally)
    }
}

/// A set of numbers that is nearly 0..n.
#[derive(Default)]
struct Numbers {
    below: u64,
    beyond: BTreeSet<u64>,
}

impl Numbers {
    fn insert(&mut self, number: u64) {
        self.beyond.insert(number);
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }

    fn contains(&self, number: u64) -> bool {
        number < self.below || self.beyond.contains(&number)
    }

    fn len(&self) -> u64 {
        self.below + self.beyond.len() as u64
    }
}
