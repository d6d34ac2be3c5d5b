//! Messages one way, as fast as they go: the loops that all contenders run.

use super::message::{Audit, Message, digest};
use super::team::{Done, Round};

/// Sends the round's messages.
#[inline(always)]
pub fn produce<M: Message>(round: Round, from: u8, mut send: impl FnMut(M)) -> Done {
    let mut sum = 0u64;
    for i in 0..round.messages {
        let message = M::make(from, i);
        sum = sum.wrapping_add(digest(message.bytes()));
        send(message);
    }
    Done {
        digest: sum,
        spent: None,
    }
}

/// Receives the round's messages as values. `alone` as for [`Audit::take`].
#[inline(always)]
pub fn consume<M: Message>(round: Round, alone: bool, mut receive: impl FnMut() -> M) -> Done {
    let mut sum = 0u64;
    let mut audit = Audit::default();
    for _ in 0..round.messages {
        let message = receive();
        sum = sum.wrapping_add(digest(message.bytes()));
        if round.check {
            audit.take::<M>(message.bytes(), alone);
        }
    }
    Done {
        digest: sum,
        spent: None,
    }
}

/// Receives the round's messages into a buffer of this length.
#[inline(always)]
pub fn consume_into<M: Message>(round: Round, mut receive: impl FnMut(&mut [u8])) -> Done {
    let mut buffer = vec![0; M::LEN];
    let mut sum = 0u64;
    let mut audit = Audit::default();
    for _ in 0..round.messages {
        receive(&mut buffer);
        sum = sum.wrapping_add(digest(&buffer));
        if round.check {
            audit.take::<M>(&buffer, true);
        }
    }
    Done {
        digest: sum,
        spent: None,
    }
}
