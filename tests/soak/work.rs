//! A process of the soak: random work on the queues until it is told to stop, or killed.

use std::time::Duration;

use multiprocess::{GetError, PutError, Queue};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::log::{Entry, Kind, Log};

/// The first queues carry numbers, the others bytes.
pub const NUMBERS: usize = 2;
pub const QUEUES: usize = 4;
/// Workers: the first half mostly gets, the second half mostly puts.
pub const WORKERS: usize = 8;

#[derive(Serialize, Deserialize, Clone)]
pub struct Queues {
    pub numbers: [Queue<u64>; NUMBERS],
    pub bytes: [Queue<ByteBuf>; QUEUES - NUMBERS],
}

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
        sent: [0; QUEUES],
    };
    worker.run();
}

struct Worker {
    job: Job,
    log: Log,
    at: usize,
    random: Random,
    sent: [u32; QUEUES],
}

/// Which form of a call.
#[derive(Clone, Copy)]
enum Form {
    Blocking,
    Try,
    Timed(Duration),
}

impl Worker {
    fn run(&mut self) {
        let getter = self.job.part < WORKERS / 2;
        while !self.log.stopped() {
            let queue = self.random.below(QUEUES as u64) as usize;
            let timed = Form::Timed(Duration::from_micros(self.random.below(2000)));
            let form = if self.random.below(2) == 0 {
                Form::Try
            } else {
                timed
            };
            let usual = self.random.below(8) != 0;
            // Who blocks without end is sure to be served: each queue has a getter that never blocks on another one, and
            // getters never block on a put.
            if getter == usual {
                let home = self.job.part % QUEUES == queue && getter;
                self.get(queue, if home { Form::Blocking } else { form });
            } else {
                let bounded = getter || self.random.below(4) == 0;
                self.put(queue, if bounded { form } else { Form::Blocking });
            }
        }
        if getter {
            // From its home on: the putters end, and with them the queues, only while each queue has a getter.
            for next in 0..QUEUES {
                let queue = (self.job.part + next) % QUEUES;
                while self.get(queue, Form::Blocking) {}
            }
        }
    }

    /// `false` when the queue is closed and drained.
    fn get(&mut self, queue: usize, form: Form) -> bool {
        self.note(Entry {
            kind: Kind::WillGet,
            queue: queue as u8,
            producer: 0,
            seq: 0,
        });
        let item = if queue < NUMBERS {
            get(&self.job.queues.numbers[queue], form).map(Item::Number)
        } else {
            get(&self.job.queues.bytes[queue - NUMBERS], form).map(Item::Bytes)
        };
        match item {
            Ok(item) => {
                let (producer, seq) = item.id();
                self.done(Entry {
                    kind: Kind::Got,
                    queue: queue as u8,
                    producer,
                    seq,
                });
                item.check(queue);
            }
            Err(GetError::Empty) => {}
            Err(GetError::Closed) => return false,
            Err(error) => panic!("get from queue {queue}: {error}"),
        }
        true
    }

    fn put(&mut self, queue: usize, form: Form) {
        let (producer, seq) = (self.job.process, self.sent[queue]);
        self.note(Entry {
            kind: Kind::WillPut,
            queue: queue as u8,
            producer,
            seq,
        });
        let result = if queue < NUMBERS {
            let item = number(queue, producer, seq);
            put(&self.job.queues.numbers[queue], item, form).map_err(without_item)
        } else {
            let item = bytes(queue, producer, seq);
            put(&self.job.queues.bytes[queue - NUMBERS], item, form).map_err(without_item)
        };
        match result {
            Ok(()) => {
                self.sent[queue] += 1;
                self.done(Entry {
                    kind: Kind::Put,
                    queue: queue as u8,
                    producer,
                    seq,
                });
            }
            Err(None) => {}
            Err(Some(error)) => panic!("put into queue {queue}: {error}"),
        }
    }

    /// What is about to be done: replaced when it is done, or by the next intent when nothing came of it.
    fn note(&self, entry: Entry) {
        self.log.write(self.job.part, self.at, entry);
    }

    fn done(&mut self, entry: Entry) {
        self.note(entry);
        self.at += 1;
    }
}

fn get<T: Serialize + for<'de> Deserialize<'de>>(
    queue: &Queue<T>,
    form: Form,
) -> Result<T, GetError> {
    match form {
        Form::Blocking => queue.get(),
        Form::Try => queue.try_get(),
        Form::Timed(time) => queue.get_timeout(time),
    }
}

fn put<T: Serialize + for<'de> Deserialize<'de>>(
    queue: &Queue<T>,
    item: T,
    form: Form,
) -> Result<(), PutError<T>> {
    match form {
        Form::Blocking => queue.put(item),
        Form::Try => queue.try_put(item),
        Form::Timed(time) => queue.put_timeout(item, time),
    }
}

/// Nothing, when the queue was full or closed.
fn without_item<T>(error: PutError<T>) -> Option<String> {
    (!error.is_full() && !error.is_closed()).then(|| error.to_string())
}

/// `producer:24 | seq:24 | check:16`
fn number(queue: usize, producer: u32, seq: u32) -> u64 {
    let id = u64::from(producer) << 24 | u64::from(seq);
    id << 16 | mix(id ^ (queue as u64) << 60) & 0xffff
}

/// Producer, number, and a length and bytes that follow from them.
fn bytes(queue: usize, producer: u32, seq: u32) -> ByteBuf {
    let mut random = Random(mix(u64::from(producer) << 32 | u64::from(seq)) ^ queue as u64);
    let most = [16, 300, 5_000, 70_000][[0, 1, 1, 1, 1, 2, 2, 3][random.below(8) as usize]];
    let len = random.below(most) as usize;
    let mut bytes = Vec::with_capacity(8 + len + 8);
    bytes.extend(producer.to_le_bytes());
    bytes.extend(seq.to_le_bytes());
    while bytes.len() < 8 + len {
        bytes.extend(random.next().to_le_bytes());
    }
    bytes.truncate(8 + len);
    ByteBuf::from(bytes)
}

/// What was got.
enum Item {
    Number(u64),
    Bytes(ByteBuf),
}

impl Item {
    fn id(&self) -> (u32, u32) {
        match self {
            Item::Number(number) => ((number >> 40) as u32, (number >> 16) as u32 & 0xff_ffff),
            Item::Bytes(bytes) => {
                let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
                let word = |at| u32::from_le_bytes(word(at).expect("eight bytes at least"));
                (word(0), word(4))
            }
        }
    }

    /// Whether all of it is what its producer made.
    fn check(self, queue: usize) {
        let (producer, seq) = self.id();
        let whole = match self {
            Item::Number(number) => number == self::number(queue, producer, seq),
            Item::Bytes(bytes) => bytes == self::bytes(queue, producer, seq),
        };
        assert!(
            whole,
            "message {seq} of process {producer} in queue {queue} is torn"
        );
    }
}

/// SplitMix64: <https://prng.di.unimi.it/splitmix64.c>
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
