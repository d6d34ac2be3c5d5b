//! The soak: eight processes at random work on queues of every make, one of them killed every few milliseconds and replaced. At the
//! end the books balance: what was put arrived once, whole and in order; the memory is as it was; nobody is left.
//!
//! SOAK_MESSAGES says how many are put (100,000), SOAK_SEED repeats the choices of a run (not its timing).

mod books;
mod item;
mod log;
mod queues;
mod random;
mod work;

use std::thread;
use std::time::{Duration, Instant};

use multiprocess::{ExitCode, Process, active_children, family, spawn};

use crate::books::Books;
use crate::log::{Entry, Kind, Log};
use crate::queues::Queues;
use crate::random::Random;
use crate::work::{Job, WORKERS};

/// Nothing that anybody did in this time: it hangs.
const STANDSTILL: Duration = Duration::from_secs(120);

fn idle(_: ()) {}

#[test]
fn the_books_balance() {
    let messages = number("SOAK_MESSAGES").unwrap_or(100_000);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = number("SOAK_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("soak: SOAK_MESSAGES={messages} SOAK_SEED={seed}");

    // Whatever a family sets up once, it has set up after this.
    spawn(idle, ()).unwrap().join().unwrap();
    let before = family::stats();

    let begun = Instant::now();
    let mut soak = Soak::start(messages, seed);
    soak.run(messages);
    soak.end();
    let (mut books, kills) = soak.books();
    let faults = books.close();
    eprintln!(
        "soak: {} put, {} got, {kills} killed: {} messages in their hands, {} redelivered late; {:.1} s",
        books.put,
        books.got,
        books.in_hands,
        books.redelivered,
        begun.elapsed().as_secs_f64(),
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    assert!(books.put >= messages);

    drop(soak);
    let after = family::stats();
    assert_eq!(
        after.bytes_in_use, before.bytes_in_use,
        "memory was lost: {before:?} {after:?}"
    );
    assert_eq!(after.members, before.members, "{before:?} {after:?}");
    assert!(active_children().is_empty());
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

/// A place for a worker: when one was killed, another takes it.
struct Place {
    process: Option<Process<()>>,
    /// Where the entries of each process of this place begin.
    starts: Vec<usize>,
    /// Entries read so far.
    read: usize,
    put: u64,
}

struct Soak {
    queues: Queues,
    log: Log,
    room: usize,
    random: Random,
    seed: u64,
    places: Vec<Place>,
    processes: u32,
    kills: u64,
}

impl Drop for Soak {
    fn drop(&mut self) {
        for process in self
            .places
            .iter()
            .filter_map(|place| place.process.as_ref())
        {
            let _ = process.kill();
            process.wait();
        }
    }
}

impl Soak {
    fn start(messages: u64, seed: u64) -> Soak {
        // One process could do it all; the file is sparse.
        let room = 4 * messages as usize + 1_000_000;
        let mut soak = Soak {
            queues: Queues::new().unwrap(),
            log: Log::create(WORKERS, room).unwrap(),
            room,
            random: Random(seed),
            seed,
            places: Vec::new(),
            processes: 0,
            kills: 0,
        };
        for part in 0..WORKERS {
            soak.places.push(Place {
                process: None,
                starts: Vec::new(),
                read: 0,
                put: 0,
            });
            soak.hire(part);
        }
        soak
    }

    fn hire(&mut self, part: usize) {
        let place = &mut self.places[part];
        // Behind the entry in which its predecessor was killed.
        let start = (place.read..)
            .find(|at| self.log.read(part, *at).is_none())
            .unwrap();
        let job = Job {
            part,
            start,
            process: self.processes,
            seed: self.seed,
            log: self.log.path(),
            room: self.room,
            queues: self.queues.clone(),
        };
        let name = format!("soak-{}", self.processes);
        place.process = Some(
            Process::builder()
                .name(name)
                .daemon(true)
                .spawn(work::work, job)
                .unwrap(),
        );
        place.starts.push(start);
        place.read = start;
        self.processes += 1;
    }

    /// Kills and replaces until enough was put.
    fn run(&mut self, messages: u64) {
        let mut news = News::new();
        loop {
            let put: u64 = (0..WORKERS).map(|part| self.look(part)).sum();
            self.check();
            if put >= messages {
                return;
            }
            news.count(self.places.iter().map(|place| place.read as u64).sum());
            thread::sleep(Duration::from_micros(1000 + self.random.below(4000)));
            let part = self.random.below(WORKERS as u64) as usize;
            let process = self.places[part].process.take().unwrap();
            process.kill().unwrap();
            match process.wait() {
                ExitCode::Signaled(9) => {}
                end => panic!("worker {} ended by itself: {end:?}", process.name()),
            }
            self.kills += 1;
            self.hire(part);
        }
    }

    fn check(&self) {
        assert!(!self.log.failed(), "a worker panicked: see above");
    }

    /// Reads on in a part of the log; says how many messages were put from this place.
    fn look(&mut self, part: usize) -> u64 {
        let place = &mut self.places[part];
        while let Some(Entry {
            kind: kind @ (Kind::Put | Kind::Got),
            count,
            ..
        }) = self.log.read(part, place.read)
        {
            place.put += u64::from(count) * u64::from(kind == Kind::Put);
            place.read += 1;
        }
        place.put
    }

    /// Lets all finish and drain the queues.
    fn end(&mut self) {
        self.log.stop();
        self.wait_for(WORKERS / 2..WORKERS);
        self.queues.close();
        self.wait_for(0..WORKERS / 2);
        self.check();
        self.queues.check_tasks();
    }

    fn wait_for(&mut self, parts: std::ops::Range<usize>) {
        let mut news = News::new();
        for part in parts {
            let end = loop {
                let process = self.places[part].process.as_ref().unwrap();
                if let Some(end) = process.wait_timeout(Duration::from_millis(100)) {
                    break end;
                }
                for part in 0..WORKERS {
                    self.look(part);
                }
                news.count(self.places.iter().map(|place| place.read as u64).sum());
            };
            assert_eq!(end, ExitCode::Exited(0), "the worker in place {part}");
        }
    }

    fn books(&self) -> (Books, u64) {
        let mut books = Books::default();
        for (part, place) in self.places.iter().enumerate() {
            let ends = place.starts.iter().skip(1).copied().chain([self.room]);
            for (start, end) in place.starts.iter().copied().zip(ends) {
                let mut entries = Vec::new();
                let mut open = None;
                for entry in (start..end).map_while(|at| self.log.read(part, at)) {
                    if matches!(entry.kind, Kind::WillPut | Kind::WillGet) {
                        // What stands behind it was being written down.
                        open = Some(entry);
                        break;
                    }
                    entries.push(entry);
                }
                if end == self.room {
                    // Who ended in order had nothing in its hands: the last intent came to nothing.
                    open = None;
                }
                books.enter(&entries, open);
            }
        }
        (books, self.kills)
    }
}

/// Fails when nothing is new for a long time.
struct News {
    count: u64,
    at: Instant,
}

impl News {
    fn new() -> News {
        News {
            count: 0,
            at: Instant::now(),
        }
    }

    fn count(&mut self, count: u64) {
        if count != self.count {
            *self = News {
                count,
                at: Instant::now(),
            };
        }
        assert!(
            self.at.elapsed() < STANDSTILL,
            "nobody got on for {STANDSTILL:?}"
        );
    }
}
