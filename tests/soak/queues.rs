//! The queues of the soak, of every make, and every way to put into one and to get from one.

use std::io;
use std::time::Duration;

use multiprocess::{
    Bytes, Codec, GetError, GetIntoError, JoinableQueue, OnDeath, Pod, PutError, Queue,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::item::{Id, Item, Record};
use crate::random::Random;

/// Which form of a call.
#[derive(Clone, Copy)]
pub enum Form {
    Blocking,
    Try,
    Timed(Duration),
}

/// Messages of one process in one queue that go in one call.
#[derive(Clone, Copy)]
pub struct Batch {
    pub first: Id,
    pub count: u32,
}

impl Batch {
    fn ids(self) -> impl Iterator<Item = Id> {
        let Id { seq, .. } = self.first;
        (seq..seq + self.count).map(move |seq| Id { seq, ..self.first })
    }
}

#[derive(Serialize, Deserialize, Clone)]
pub struct Queues {
    few: Queue<u64>,
    numbers: Queue<u64>,
    one: Queue<ByteBuf>,
    parcels: Queue<ByteBuf>,
    records: Queue<Record, Pod>,
    bytes: Queue<Bytes>,
    tasks: JoinableQueue<u64>,
    endless: Queue<u64>,
}

impl Queues {
    pub const COUNT: usize = 8;

    pub fn new() -> io::Result<Queues> {
        Ok(Queues {
            few: Queue::bounded(3)?,
            numbers: Queue::bounded(64)?,
            one: Queue::bounded(1)?,
            parcels: Queue::bounded(16)?,
            records: Queue::bounded_pod(20)?,
            bytes: Queue::bounded(8)?,
            // Given up only if 256 consumers die with one and the same.
            tasks: JoinableQueue::bounded_with(8, OnDeath::Redeliver { max: u8::MAX })?,
            endless: Queue::unbounded()?,
        })
    }

    pub fn close(&self) {
        self.few.close();
        self.numbers.close();
        self.one.close();
        self.parcels.close();
        self.records.close();
        self.bytes.close();
        self.tasks.close();
        self.endless.close();
    }

    /// That nothing which was put as a task is unfinished, though many a consumer died with one.
    pub fn check_tasks(&self) {
        self.tasks
            .join_timeout(Duration::from_secs(60))
            .expect("all tasks are finished");
    }

    /// How many messages of this queue may go in one call.
    pub fn most(queue: usize) -> u32 {
        [1, 100, 1, 30, 40, 1, 1, 100][queue]
    }

    /// Puts a batch; how many of it went in before the queue was full or closed, or why not.
    pub fn put(&self, batch: Batch, form: Form, random: &mut Random) -> Result<u32, String> {
        match batch.first.queue {
            0 => put(&self.few, batch, Id::number, form),
            1 => put(&self.numbers, batch, Id::number, form),
            2 => put(&self.one, batch, Id::parcel, form),
            3 => put(&self.parcels, batch, Id::parcel, form),
            4 if random.below(8) == 0 => {
                let mut loan = self.records.loan().map_err(|error| error.to_string())?;
                *loan = batch.first.record();
                sent(match form {
                    Form::Blocking => loan.put(),
                    Form::Try => loan.try_put(),
                    Form::Timed(time) => loan.put_timeout(time),
                })
            }
            4 => put(&self.records, batch, Id::record, form),
            5 => put_bytes(&self.bytes, &batch.first.bytes(), form, random),
            7 => put(&self.endless, batch, Id::number, form),
            _ => {
                let item = batch.first.number();
                sent(match form {
                    Form::Blocking => self.tasks.put(item),
                    Form::Try => self.tasks.try_put(item),
                    Form::Timed(time) => self.tasks.put_timeout(item, time),
                })
            }
        }
    }

    /// Gets up to `most` messages.
    pub fn get(
        &self,
        queue: usize,
        most: u32,
        form: Form,
        random: &mut Random,
    ) -> Result<Vec<Item>, GetError> {
        let parcel = |bytes: ByteBuf| Item::Bytes(bytes.into_vec());
        match queue {
            0 => get(&self.few, most, Item::Number, form),
            1 => get(&self.numbers, most, Item::Number, form),
            2 => get(&self.one, most, parcel, form),
            3 => get(&self.parcels, most, parcel, form),
            4 if most == 1 && random.below(4) == 0 => {
                let record = match form {
                    Form::Blocking => self.records.get_ref(),
                    Form::Try => self.records.try_get_ref(),
                    Form::Timed(time) => self.records.get_ref_timeout(time),
                }?;
                Ok(vec![Item::Record(*record)])
            }
            4 => get(&self.records, most, Item::Record, form),
            5 => Ok(vec![Item::Bytes(get_bytes(&self.bytes, form, random)?)]),
            7 => get(&self.endless, most, Item::Number, form),
            _ => {
                let task = match form {
                    Form::Blocking => self.tasks.get_task(),
                    Form::Try => self.tasks.try_get_task(),
                    Form::Timed(time) => self.tasks.get_task_timeout(time),
                }?;
                Ok(vec![Item::Number(*task)])
            }
        }
    }
}

fn sent<T>(result: Result<(), PutError<T>>) -> Result<u32, String> {
    match result {
        Ok(()) => Ok(1),
        Err(error) if error.is_full() || error.is_closed() => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

fn put<T, C: Codec<T>>(
    queue: &Queue<T, C>,
    batch: Batch,
    make: fn(Id) -> T,
    form: Form,
) -> Result<u32, String> {
    if batch.count == 1 {
        let item = make(batch.first);
        return sent(match form {
            Form::Blocking => queue.put(item),
            Form::Try => queue.try_put(item),
            Form::Timed(time) => queue.put_timeout(item, time),
        });
    }
    let items = batch.ids().map(make);
    let done = match form {
        Form::Blocking => queue.put_many(items),
        Form::Try => queue.try_put_many(items),
        Form::Timed(time) => queue.put_many_timeout(items, time),
    };
    match done {
        Ok(sent) => Ok(sent as u32),
        Err(error) if error.cause.is_full() || error.cause.is_closed() => {
            let rest = error.rest.count();
            assert_eq!(error.sent + rest, batch.count as usize);
            Ok(error.sent as u32)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn get<T, C: Codec<T>>(
    queue: &Queue<T, C>,
    most: u32,
    item: impl Fn(T) -> Item,
    form: Form,
) -> Result<Vec<Item>, GetError> {
    if most == 1 {
        let got = match form {
            Form::Blocking => queue.get(),
            Form::Try => queue.try_get(),
            Form::Timed(time) => queue.get_timeout(time),
        };
        return Ok(vec![item(got?)]);
    }
    let most = most as usize;
    let got = match form {
        Form::Blocking => queue.get_many(most),
        Form::Try => queue.try_get_many(most),
        Form::Timed(time) => queue.get_many_timeout(most, time),
    }?;
    Ok(got.into_iter().map(item).collect())
}

/// Copied, or written where it stays.
fn put_bytes(
    queue: &Queue<Bytes>,
    bytes: &[u8],
    form: Form,
    random: &mut Random,
) -> Result<u32, String> {
    if random.below(2) == 0 {
        return sent(match form {
            Form::Blocking => queue.put_bytes(bytes),
            Form::Try => queue.try_put_bytes(bytes),
            Form::Timed(time) => queue.put_bytes_timeout(bytes, time),
        });
    }
    let spare = random.below(100) as usize;
    let mut loan = queue
        .loan(bytes.len() + spare)
        .map_err(|error| error.to_string())?;
    loan[..bytes.len()].copy_from_slice(bytes);
    loan.truncate(bytes.len());
    sent(match form {
        Form::Blocking => loan.put(),
        Form::Try => loan.try_put(),
        Form::Timed(time) => loan.put_timeout(time),
    })
}

/// Copied, into a buffer that may be too short, or read where it lies.
fn get_bytes(queue: &Queue<Bytes>, form: Form, random: &mut Random) -> Result<Vec<u8>, GetError> {
    match random.below(3) {
        0 => match form {
            Form::Blocking => queue.get_bytes(),
            Form::Try => queue.try_get_bytes(),
            Form::Timed(time) => queue.get_bytes_timeout(time),
        },
        1 => {
            let message = match form {
                Form::Blocking => queue.get_ref(),
                Form::Try => queue.try_get_ref(),
                Form::Timed(time) => queue.get_ref_timeout(time),
            }?;
            Ok(message.to_vec())
        }
        _ => {
            let mut buffer = vec![0; 1000];
            let got = match form {
                Form::Blocking => queue.get_into(&mut buffer),
                Form::Try => queue.try_get_into(&mut buffer),
                Form::Timed(time) => queue.get_into_timeout(&mut buffer, time),
            };
            match got {
                Ok(len) => {
                    buffer.truncate(len);
                    Ok(buffer)
                }
                Err(GetIntoError::TooShort(message)) => Ok(message.to_vec()),
                Err(GetIntoError::Get(error)) => Err(error),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
