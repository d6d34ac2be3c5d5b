//! The books: what was put, what arrived, and who was killed in between.

use std::collections::HashMap;

use crate::log::{Entry, Kind};

/// One message: queue, producer, number.
type Id = (u8, u32, u32);

#[derive(Default)]
pub struct Books {
    pub put: u64,
    pub got: u64,
    pub redelivered: u64,
    pub in_hands: u64,
    /// How often each message was surely put, perhaps put (its producer was killed inside `put`), and got.
    messages: HashMap<Id, Counts>,
    /// Per queue: processes killed inside `get`. Each may have taken one message, or left one to be redelivered.
    killed_in_get: HashMap<u8, u64>,
    /// Per queue: messages that came to a process after later ones of the same producer.
    late: HashMap<u8, u64>,
    faults: Vec<String>,
}

#[derive(Default)]
struct Counts {
    put: u32,
    perhaps: u32,
    got: u32,
}

impl Books {
    /// The finished entries of one process, in its order. `last` is the one it was killed in.
    pub fn enter(&mut self, entries: &[Entry], last: Option<Entry>) {
        let mut newest: HashMap<(u8, u32), u32> = HashMap::new();
        for entry in entries {
            let counts = self
                .messages
                .entry((entry.queue, entry.producer, entry.seq))
                .or_default();
            match entry.kind {
                Kind::Put => {
                    counts.put += 1;
                    self.put += 1;
                }
                Kind::Got => {
                    counts.got += 1;
                    self.got += 1;
                    let newest = newest
                        .entry((entry.queue, entry.producer))
                        .or_insert(entry.seq);
                    if entry.seq < *newest {
                        *self.late.entry(entry.queue).or_default() += 1;
                    }
                    *newest = (*newest).max(entry.seq);
                }
                open => self.faults.push(format!("{open:?} in the middle of a log")),
            }
        }
        match last {
            Some(Entry {
                kind: Kind::WillPut,
                queue,
                producer,
                seq,
            }) => {
                self.messages
                    .entry((queue, producer, seq))
                    .or_default()
                    .perhaps += 1;
            }
            Some(Entry {
                kind: Kind::WillGet,
                queue,
                ..
            }) => *self.killed_in_get.entry(queue).or_default() += 1,
            Some(entry) => self.faults.push(format!("{entry:?} is not open")),
            None => {}
        }
    }

    /// What does not balance.
    pub fn close(&mut self) -> Vec<String> {
        let mut missing: HashMap<u8, Vec<Id>> = HashMap::new();
        for (id, counts) in &self.messages {
            let (least, most) = (counts.put, counts.put + counts.perhaps);
            if most > 1 {
                self.faults.push(format!(
                    "{id:?} was put {most} times: the soak itself is wrong"
                ));
            } else if counts.got > most {
                self.faults.push(format!(
                    "{id:?} arrived {} times and was put {most} times",
                    counts.got
                ));
            } else if counts.got < least {
                missing.entry(id.0).or_default().push(*id);
            }
        }
        let queues = missing
            .keys()
            .chain(self.late.keys())
            .copied()
            .collect::<std::collections::BTreeSet<_>>();
        for queue in queues {
            let missing = missing.remove(&queue).unwrap_or_default();
            let late = self.late.get(&queue).copied().unwrap_or(0);
            let killed = self.killed_in_get.get(&queue).copied().unwrap_or(0);
            self.in_hands += missing.len() as u64;
            self.redelivered += late;
            if missing.len() as u64 + late > killed {
                self.faults.push(format!(
                    "queue {queue}: {} lost ({:?} ..), {late} late, but only {killed} killed inside get",
                    missing.len(),
                    &missing[..missing.len().min(10)],
                ));
            }
        }
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, producer: u32, seq: u32) -> Entry {
        Entry {
            kind,
            queue: 1,
            producer,
            seq,
        }
    }

    fn faults(processes: &[(&[Entry], Option<Entry>)]) -> usize {
        let mut books = Books::default();
        for (entries, last) in processes {
            books.enter(entries, *last);
        }
        books.close().len()
    }

    #[test]
    fn balanced_books_close() {
        let puts = [
            entry(Kind::Put, 7, 0),
            entry(Kind::Put, 7, 1),
            entry(Kind::Put, 7, 2),
        ];
        let gets = [entry(Kind::Got, 7, 0), entry(Kind::Got, 7, 2)];
        assert_eq!(
            faults(&[
                (&puts, None),
                (&gets, None),
                (&[entry(Kind::Got, 7, 1)], None)
            ]),
            0
        );
    }

    #[test]
    fn a_lost_message_is_found() {
        let puts = [entry(Kind::Put, 7, 0), entry(Kind::Put, 7, 1)];
        let gets = [entry(Kind::Got, 7, 0)];
        assert_eq!(faults(&[(&puts, None), (&gets, None)]), 1);
        // Somebody killed inside `get` on this queue may have had it; on another queue not.
        let elsewhere = Entry {
            queue: 2,
            ..entry(Kind::WillGet, 0, 0)
        };
        assert_eq!(
            faults(&[(&puts, None), (&gets, Some(entry(Kind::WillGet, 0, 0)))]),
            0
        );
        assert_eq!(faults(&[(&puts, None), (&gets, Some(elsewhere))]), 1);
    }

    #[test]
    fn one_kill_excuses_one_message() {
        let puts = [entry(Kind::Put, 7, 0), entry(Kind::Put, 7, 1)];
        assert_eq!(
            faults(&[(&puts, None), (&[], Some(entry(Kind::WillGet, 0, 0)))]),
            1
        );
    }

    #[test]
    fn a_message_that_came_twice_is_found() {
        let puts = [entry(Kind::Put, 7, 0)];
        let gets = [entry(Kind::Got, 7, 0)];
        assert_eq!(faults(&[(&puts, None), (&gets, None), (&gets, None)]), 1);
    }

    #[test]
    fn a_message_that_nobody_put_is_found() {
        assert_eq!(faults(&[(&[entry(Kind::Got, 7, 0)], None)]), 1);
    }

    #[test]
    fn killed_inside_put_it_may_arrive_once() {
        let open = Some(entry(Kind::WillPut, 7, 0));
        let gets = [entry(Kind::Got, 7, 0)];
        assert_eq!(faults(&[(&[], open)]), 0);
        assert_eq!(faults(&[(&[], open), (&gets, None)]), 0);
        assert_eq!(faults(&[(&[], open), (&gets, None), (&gets, None)]), 1);
    }

    #[test]
    fn disorder_is_found() {
        let puts = [entry(Kind::Put, 7, 0), entry(Kind::Put, 7, 1)];
        let gets = [entry(Kind::Got, 7, 1), entry(Kind::Got, 7, 0)];
        assert_eq!(faults(&[(&puts, None), (&gets, None)]), 1);
        assert_eq!(
            faults(&[
                (&puts, None),
                (&gets, None),
                (&[], Some(entry(Kind::WillGet, 0, 0)))
            ]),
            0
        );
    }
}
