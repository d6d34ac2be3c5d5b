//! Queues among other things that are waited for together.
#![forbid(unsafe_code)]

use super::local::LocalQueue;
use super::{JoinableQueue, Queue, Receiver};
use crate::sync::{Source, Waitable};

impl LocalQueue {
    /// Ready when a `get` would not wait.
    fn source(&self) -> Source<'_> {
        let ready = |slow| self.front(slow).is_some();
        let events = || [Some(self.not_empty()), None];
        Source::queue(self.arena(), &self.get_spin, events, ready)
    }
}

impl<T, C> Waitable for Queue<T, C> {
    fn source(&self) -> Source<'_> {
        self.local.source()
    }
}

impl<T, C> Waitable for Receiver<T, C> {
    fn source(&self) -> Source<'_> {
        self.end.queue.source()
    }
}

/// Ready when a `get` would not wait.
impl<T> Waitable for JoinableQueue<T> {
    fn source(&self) -> Source<'_> {
        self.queue.source()
    }
}
