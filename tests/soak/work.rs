//! A process of the soak: random work on the queues until it is told to stop, or killed.

use std::time::Duration;

use multiprocess::GetError;
use serde::{Deserialize, Serialize};

use crate::item::Id;
use crate::log::{Entry, Kind, Log};
use crate::queues::{Batch, Form, Queues};
use crate::random::{Random, mix};

/// Workers: the first half mostly gets, the second half mostly puts.
pub const WORKERS: usize = 8;
const GETTERS: usize = WORKERS / 2;

#[derive(Serialize, Deserialize)]
pub struct Job {
    pub part: usize,
    /// Where its entries begin in its part of the log.
    pub start: usize,
    /// No two processes of a soak have the same.
    pub process: u32,
    pub seed: u64,
    pub log: String,
    pub room: usize,
    pub queues: Queues,
}

impl Job {
    /// The queue on which a getter may block without end.
    fn home(&self, getter: usize) -> usize {
        (getter + (self.seed % Queues::COUNT as u64) as usize) % Queues::COUNT
    }
}

pub fn work(job: Job) {
    let open = || Log::open(&job.log, job.room).expect("the parent's log");
    let (log, note) = (open(), open());
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        note.fail();
        print(info);
    }));
    let random = Random(mix(job.seed ^ u64::from(job.process)));
    let mut worker = Worker {
        at: job.start,
        log,
        job,
        random,
        sent: [0; Queues::COUNT],
    };
    worker.run();
}

struct Worker {
    job: Job,
    log: Log,
    at: usize,
    random: Random,
    sent: [u32; Queues::COUNT],
}

impl Worker {
    fn run(&mut self) {
        let part = self.job.part;
        let getter = part < GETTERS;
        while !self.log.stopped() {
            let queue = self.random.below(Queues::COUNT as u64) as usize;
            let timed = Form::Timed(Duration::from_micros(self.random.below(2000)));
            let form = if self.random.below(2) == 0 {
                Form::Try
            } else {
                timed
            };
            let usual = self.random.below(8) != 0;
            // Who blocks without end is sure to be served: by the getter whose home this queue is, who never blocks on another
            // one; and getters never block on a put.
            if getter == usual {
                let home = getter && self.job.home(part) == queue;
                self.get(queue, if home { Form::Blocking } else { form });
            } else {
                let is_home = (0..GETTERS).any(|getter| self.job.home(getter) == queue);
                let blocking = !getter && is_home && self.random.below(4) != 0;
                self.put(queue, if blocking { Form::Blocking } else { form });
            }
        }
        if getter {
            // From its home on: the putters end, and with them the queues, only while each home has its getter.
            for next in 0..Queues::COUNT {
                let queue = (self.job.home(part) + next) % Queues::COUNT;
                while self.get(queue, Form::Blocking) {}
            }
        }
    }

    fn some(&mut self, queue: usize) -> u32 {
        let most = Queues::most(queue);
        if self.random.below(2) == 0 {
            1
        } else {
            1 + self.random.below(most.into()) as u32
        }
    }

    /// `false` when the queue is closed and drained.
    fn get(&mut self, queue: usize, form: Form) -> bool {
        let most = self.some(queue);
        let entry = |kind, count, producer, seq| Entry {
            kind,
            queue: queue as u8,
            count,
            producer,
            seq,
        };
        self.note(0, entry(Kind::WillGet, most, 0, 0));
        match self.job.queues.get(queue, most, form, &mut self.random) {
            Ok(items) => {
                let ids: Vec<Id> = items
                    .iter()
                    .map(|item| match item.id(queue) {
                        Some(id) => id,
                        None => panic!("a message in queue {queue} is torn: {item:?}"),
                    })
                    .collect();
                // The first last: it stands where the intent stands.
                for (n, id) in ids.iter().enumerate().rev() {
                    self.note(n, entry(Kind::Got, 1, id.producer, id.seq));
                }
                self.at += ids.len();
            }
            Err(GetError::Empty) => {}
            Err(GetError::Closed) => return false,
            Err(error) => panic!("get from queue {queue}: {error}"),
        }
        true
    }

    fn put(&mut self, queue: usize, form: Form) {
        let (producer, seq) = (self.job.process, self.sent[queue]);
        let count = self.some(queue);
        let entry = |kind, count| Entry {
            kind,
            queue: queue as u8,
            count,
            producer,
            seq,
        };
        self.note(0, entry(Kind::WillPut, count));
        let first = Id {
            queue,
            producer,
            seq,
        };
        let batch = Batch { first, count };
        match self.job.queues.put(batch, form, &mut self.random) {
            Ok(0) => {}
            Ok(sent) => {
                self.sent[queue] += sent;
                self.note(0, entry(Kind::Put, sent));
                self.at += 1;
            }
            Err(error) => panic!("put into queue {queue}: {error}"),
        }
    }

    /// What is about to be done: replaced when it is done, or by the next intent when nothing came of it.
    fn note(&self, behind: usize, entry: Entry) {
        self.log.write(self.job.part, self.at + behind, entry);
    }
}
