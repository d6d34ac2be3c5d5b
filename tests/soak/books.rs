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
    /// How often each message was surely put, perhaps put, and got.
    messages: HashMap<Id, Counts>,
    /// Of the batches whose producer was killed inside `put`: the first messages.
    perhaps: Vec<Entry>,
    /// Per queue: what processes that were killed inside `get` may have taken, or left to be redelivered: so many messages
    /// at most.
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
            match entry.kind {
                Kind::Put => {
                    for seq in entry.seq..entry.seq + entry.count {
                        self.counts(entry, seq).put += 1;
                        self.put += 1;
                    }
                }
                Kind::Got => {
                    self.counts(entry, entry.seq).got += 1;
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
            Some(
                entry @ Entry {
                    kind: Kind::WillPut,
                    ..
                },
            ) => self.perhaps.push(entry),
            Some(Entry {
                kind: Kind::WillGet,
                queue,
                count,
                ..
            }) => *self.killed_in_get.entry(queue).or_default() += u64::from(count),
            Some(entry) => self.faults.push(format!("{entry:?} is not open")),
            None => {}
        }
    }

    fn counts(&mut self, entry: &Entry, seq: u32) -> &mut Counts {
        self.messages
            .entry((entry.queue, entry.producer, seq))
            .or_default()
    }

    /// Of a batch whose producer was killed the first messages were put, and no others. One that arrived shows that those before
    /// it were.
    fn settle(&mut self) {
        for entry in std::mem::take(&mut self.perhaps) {
            let mut later = false;
            for seq in (entry.seq..entry.seq + entry.count).rev() {
                let counts = self.counts(&entry, seq);
                later |= counts.got > 0;
                if later {
                    counts.put += 1;
                } else {
                    counts.perhaps += 1;
                }
            }
        }
    }

    /// What does not balance.
    pub fn close(&mut self) -> Vec<String> {
        self.settle();
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
        batch(kind, producer, seq, 1)
    }

    fn batch(kind: Kind, producer: u32, seq: u32, count: u32) -> Entry {
        Entry {
            kind,
            queue: 1,
            count,
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
    fn of_a_batch_the_first_arrive() {
        let open = Some(batch(Kind::WillPut, 7, 0, 3));
        let got = |seq| entry(Kind::Got, 7, seq);
        assert_eq!(faults(&[(&[], open), (&[got(0), got(1)], None)]), 0);
        assert_eq!(faults(&[(&[], open), (&[got(0), got(2)], None)]), 1);
        assert_eq!(faults(&[(&[], open), (&[got(3)], None)]), 1);
        let puts = [batch(Kind::Put, 7, 0, 3)];
        assert_eq!(faults(&[(&puts, None), (&[got(0), got(1)], None)]), 1);
        let all = [got(0), got(1), got(2)];
        assert_eq!(faults(&[(&puts, None), (&all, None)]), 0);
    }

    #[test]
    fn a_batch_that_was_in_the_hands_of_a_killed_one_is_excused() {
        let puts = [batch(Kind::Put, 7, 0, 5)];
        let killed = |count| Some(batch(Kind::WillGet, 0, 0, count));
        assert_eq!(faults(&[(&puts, None), (&[], killed(5))]), 0);
        assert_eq!(faults(&[(&puts, None), (&[], killed(4))]), 1);
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
