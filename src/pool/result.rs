//! The result that a task will have.
#![forbid(unsafe_code)]

use super::batch::{Batch, Finished};
use super::error::TaskError;
use super::shared::Shared;
use crate::os::clock::Deadline;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Decode<R> = fn(&Shared, &[Finished]) -> Result<R, TaskError>;

/// The result of what was given to a [`Pool`](crate::Pool) without waiting for it.
///
/// It can be asked from any thread, any number of times, and outlives the pool: what was not finished when the pool was terminated or
/// dropped is [`Cancelled`](TaskError::Cancelled). Dropping it lets the task run on; its result is thrown away
/// as soon as it is there, with the handles in it (while a callback runs, when that returns).
///
/// ```
/// use multiprocess::Pool;
///
/// let pool = Pool::new(2)?;
/// let sum = pool.apply_async(|(a, b): (u32, u32)| a + b, (1, 2));
/// assert_eq!(sum.get()?, 3);
/// assert_eq!(sum.successful(), Some(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Future")]
pub struct AsyncResult<R> {
    shared: Arc<Shared>,
    batch: Arc<Batch>,
    /// Where its only job is written down.
    entry: Option<u32>,
    decode: Decode<R>,
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").finish_non_exhaustive()
    }
}

pub(super) fn decode_one<R: DeserializeOwned>(
    shared: &Shared,
    done: &[Finished],
) -> Result<R, TaskError> {
    match done {
        [finished] => finished.one(shared),
        _ => Err(TaskError::Cancelled),
    }
}

pub(super) fn decode_all<R: DeserializeOwned>(
    shared: &Shared,
    done: &[Finished],
) -> Result<Vec<R>, TaskError> {
    let tasks = done.iter().map(|finished| finished.len() as usize).sum();
    let mut results = Vec::with_capacity(tasks);
    let mut first = None;
    for finished in done {
        finished.each(shared, |outcome| match outcome {
            Ok(result) => results.push(result),
            Err(error) => {
                first.get_or_insert(error);
            }
        });
    }
    match first {
        None => Ok(results),
        Some(error) => Err(error),
    }
}

impl<R> AsyncResult<R> {
    pub(super) fn new(
        shared: Arc<Shared>,
        batch: Arc<Batch>,
        entry: Option<u32>,
        decode: Decode<R>,
    ) -> Self {
        AsyncResult {
            shared,
            batch,
            entry,
            decode,
        }
    }

    /// Waits for the result.
    ///
    /// Each call decodes it anew.
    ///
    /// # Errors
    ///
    /// Why there is none. For several tasks: why the first of them, by position, has none.
    ///
    /// # Panics
    ///
    /// As decoding the result does.
    #[doc(alias = "result")]
    pub fn get(&self) -> Result<R, TaskError> {
        self.get_until(Deadline::NEVER)
    }

    /// The same with a wait of at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), and [`TaskError::TimedOut`]; it can be asked again then.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, TaskError> {
        self.get_until(Deadline::from(timeout))
    }

    fn get_until(&self, deadline: Deadline) -> Result<R, TaskError> {
        self.shared.check()?;
        let done = self.done(deadline).ok_or(TaskError::TimedOut)?;
        (self.decode)(&self.shared, &done)
    }

    fn done(&self, deadline: Deadline) -> Option<Arc<Vec<Finished>>> {
        self.shared.wait(deadline, |_| self.batch.done())
    }

    /// Waits until there is an outcome. (In a copy of the process that made the pool there never is one: it returns at once.)
    pub fn wait(&self) {
        if self.shared.check().is_ok() {
            self.done(Deadline::NEVER);
        }
    }

    /// The same with a wait of at most `timeout`; whether there is an outcome.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.shared.check().is_ok() && self.done(Deadline::from(timeout)).is_some()
    }

    /// Whether there is an outcome. Once there is, there always will be.
    #[doc(alias = "done")]
    pub fn ready(&self) -> bool {
        self.wait_timeout(Duration::ZERO)
    }

    /// Whether the function returned; `None` while there is no outcome. That the result can be decoded is only seen by
    /// [`get`](Self::get).
    pub fn successful(&self) -> Option<bool> {
        if self.ready() {
            let done = self.done(Deadline::NOW)?;
            Some(
                done.iter()
                    .all(|finished| finished.is_success(&self.shared)),
            )
        } else {
            None
        }
    }

    /// Takes the task back if no worker has it: none has begun it, or one has died with it and it waits to be
    /// [tried again](crate::PoolBuilder::retries). Of several tasks all those chunks that nobody has. Whether anything was
    /// taken back: its outcome is [`TaskError::Cancelled`].
    pub fn cancel(&self) -> bool {
        self.shared.cancel(&self.batch, self.entry) > 0
    }
}

impl<R> Drop for AsyncResult<R> {
    fn drop(&mut self) {
        if self.shared.check().is_ok() {
            self.shared.abandon(&self.batch);
        }
    }
}

/// See [`as_completed`].
pub struct AsCompleted<R> {
    /// Those without an outcome as far as is known.
    left: Vec<AsyncResult<R>>,
    /// Those with one, the last one first.
    ready: Vec<AsyncResult<R>>,
}

impl<R> fmt::Debug for AsCompleted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted")
            .field("left", &(self.left.len() + self.ready.len()))
            .finish_non_exhaustive()
    }
}

/// Gives results one by one as they have an outcome, whatever it is. All are of the same pool; those of others come after them.
///
/// ```
/// use multiprocess::{Pool, as_completed};
/// use std::time::Duration;
///
/// let pool = Pool::new(2)?;
/// let nap = |millis| {
///     std::thread::sleep(Duration::from_millis(millis));
///     millis
/// };
/// let naps = [300, 1].map(|millis| pool.apply_async(nap, millis));
/// let order: Vec<u64> = as_completed(naps).map(|nap| nap.get().unwrap()).collect();
/// assert_eq!(order, [1, 300]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<R>(results: impl IntoIterator<Item = AsyncResult<R>>) -> AsCompleted<R> {
    AsCompleted {
        left: results.into_iter().collect(),
        ready: Vec::new(),
    }
}

impl<R> AsCompleted<R> {
    /// The next one, if there is one within this time; `None` also when there are no more.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<AsyncResult<R>> {
        self.next_until(Deadline::from(timeout))
    }

    fn next_until(&mut self, deadline: Deadline) -> Option<AsyncResult<R>> {
        if self.ready.is_empty() {
            let shared = self.left.first()?.shared.clone();
            if shared.check().is_err() {
                return self.left.pop();
            }
            let left = &self.left;
            let done = shared.wait(deadline, |_| {
                let done = |i: &usize| left[*i].batch.done().is_some();
                let done: Vec<usize> = (0..left.len()).filter(done).collect();
                (!done.is_empty()).then_some(done)
            });
            for i in done?.into_iter().rev() {
                self.ready.push(self.left.remove(i));
            }
        }
        self.ready.pop()
    }
}

impl<R> Iterator for AsCompleted<R> {
    type Item = AsyncResult<R>;

    fn next(&mut self) -> Option<AsyncResult<R>> {
        self.next_until(Deadline::NEVER)
    }
}
