#![forbid(unsafe_code)]

mod barrier;
mod condition;
mod event;
mod mutex;
mod rlock;
mod semaphore;

use crate::arena::Arena;
use std::time::Duration;

fn arena() -> Arena {
    Arena::heap(256, crate::KINDS).unwrap()
}

const SOON: Duration = Duration::from_millis(20);
/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(100);
