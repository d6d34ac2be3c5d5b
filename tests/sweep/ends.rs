//! What the sweeps of pipes and of channels share: both have ends, and each side comes to its end after what was sent has arrived.

use multiprocess::{RecvError, SendError};
use serde_bytes::ByteBuf;

use crate::ring::{VICTIM, message};
use crate::sweep::Outcome;

/// All that still arrives, until the end is said.
pub fn receive_to_the_end(mut receive: impl FnMut() -> Result<u64, RecvError>) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match receive() {
            Ok(number) => numbers.push(number),
            Err(RecvError::Closed) => return numbers,
            Err(error) => panic!("after {numbers:?}: {error:?}"),
        }
    }
}

/// Sends messages of this size until the end is said, for which there is room for so many at most.
pub fn send_to_the_end(
    mut send: impl FnMut(ByteBuf) -> Result<(), SendError<ByteBuf>>,
    size: usize,
    most: usize,
) {
    for sent in 0.. {
        match send(message(0, size)) {
            Ok(()) => assert!(sent < most, "more than fits"),
            Err(SendError::Closed(_)) => return,
            Err(error) => panic!("after {sent}: {error:?}"),
        }
    }
}

/// Whether the last sender, who was killed while it sent one more, has done so. `whole` is the outcome if nobody is killed.
pub fn has_sent(arrived: &[u64], mut sent: Vec<u64>, whole: Outcome) -> Outcome {
    if arrived == sent {
        return match whole {
            Outcome::Done => Outcome::NotDone,
            _ => Outcome::Untold,
        };
    }
    sent.push(VICTIM);
    assert_eq!(arrived, sent);
    whole
}
