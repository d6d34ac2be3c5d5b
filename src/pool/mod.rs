//! Worker processes that run the tasks of one.
//!
//! `shared` is the pool in its parent, `worker` what a worker does, `object` what both have in common in the arena (the jobs themselves
//! are in `ring`: JOBS.md); `ends` says what becomes of jobs; `helper` looks after the workers, `flow` gives out what comes from an iterator.
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod ends;
mod error;
mod flow;
mod helper;
mod object;
mod record;
mod result;
mod shared;
mod staff;
#[cfg(test)]
mod tests;
mod worker;

use crate::os::clock::Deadline;
use crate::process::{discard, panicked};
use batch::{Batch, Callback, Finished};
use flow::{Flow, Manner};
use record::Packed;
use result::{decode_all, decode_one};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::{Phase, Settings, Shared, Submitted};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use builder::PoolBuilder;
pub use error::{PoolJoinError, TaskError};
pub use flow::Imap;
pub(crate) use object::PoolKind;
pub use result::{AsCompleted, AsyncResult, as_completed};

/// The most chunks that `map` has under way.
const WINDOW: usize = 1024;
/// How long `terminate` waits for those that it has killed.
const PATIENCE: Duration = Duration::from_secs(5);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Worker processes that run functions for this one.
///
/// A task is a function with its arguments, as for [`spawn`](crate::spawn): any function that captures nothing, arguments and result that
/// serde can encode, handles of this crate among them. Tasks that were not begun are run by whichever worker is free.
///
/// **A worker that dies costs one task**: the one that it was running when it was killed, aborted or exited ends in
/// [`TaskError::WorkerDied`] (or is run again, with [`retries`](PoolBuilder::retries)); all others go on, and the worker is replaced. A
/// panic is its task's error, and the worker lives. Nothing hangs.
///
/// Workers are daemons: they end with this process, however it ends. Ctrl-C at the terminal does not end them: what is to be done
/// then is for this process to decide. They may start processes and pools of their own. They are started when the pool is built; a
/// thread of this process that looks after them starts with the first task.
///
/// ```
/// use multiprocess::{Pool, TaskError};
///
/// fn divide((a, b): (u32, u32)) -> u32 {
///     a / b
/// }
///
/// let pool = Pool::new(2)?;
/// assert_eq!(pool.apply(divide, (6, 3))?, 2);
/// assert_eq!(pool.map(divide, (1..100).map(|n| (n * n, n)))?, (1..100).collect::<Vec<_>>());
///
/// let error = pool.apply(divide, (1, 0)).unwrap_err();
/// assert!(matches!(error, TaskError::Panicked { message, .. } if message == "attempt to divide by zero"));
///
/// let error = pool.apply(|(): ()| -> () { std::process::abort() }, ()).unwrap_err();
/// assert!(matches!(error, TaskError::WorkerDied { .. }));
/// assert_eq!(pool.apply(divide, (8, 2))?, 4); // it goes on
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping the pool [terminates](Self::terminate) it. To let it finish first: [`close`](Self::close) and [`join`](Self::join).
///
/// While the pool is at work this process has a second thread, and cannot [`fork`](crate::Builder::fork). In a copy of this process
/// calls say [`TaskError::ForeignFork`].
#[doc(alias = "ProcessPoolExecutor")]
pub struct Pool {
    shared: Arc<Shared>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.settings.name)
            .field("processes", &self.shared.settings.processes)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of so many workers; see [`cpu_count`](crate::cpu_count) for a good number.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCapacity`](crate::Error::InvalidCapacity) for 0 workers; those of [`spawn`](crate::spawn).
    pub fn new(processes: usize) -> io::Result<Pool> {
        Pool::builder().processes(processes).build()
    }

    /// Sets up a pool before it is made.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }

    /// Runs a task and waits for its result.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Panics
    ///
    /// As encoding the arguments or decoding the result does.
    #[doc(alias = "submit")]
    pub fn apply<A, R>(&self, f: fn(A) -> R, args: A) -> Result<R, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.apply_async(f, args).get()
    }

    /// Hands a task in, and does not wait.
    ///
    /// # Panics
    ///
    /// As encoding the arguments does.
    #[doc(alias = "submit")]
    pub fn apply_async<A, R>(&self, f: fn(A) -> R, args: A) -> AsyncResult<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.submit_one(f, args, None)
    }

    /// Hands a task in. When it is finished `on_ok` is called with the result, or `on_error` with the error: **exactly one of them,
    /// once**, however the task or the pool ends.
    ///
    /// They are called in a thread of this process's own for that, one after the other, in the order in which their tasks were finished,
    /// perhaps after others have seen the outcome; [`join`](Self::join) waits for them. One that panics harms nothing else. It should not
    /// take long: the same thread looks after the workers. Until it returns the other callbacks wait, and unless some thread waits in a call
    /// of this pool, so do the successor of a worker that has ended, the rest of a chunk whose worker has paused or died, and what is to
    /// be done with results that nobody wants. So a callback must not wait for what tasks of this pool do, other than by calls of the pool. A task that cannot be handed in at all is the exception ([`Closed`](TaskError::Closed),
    /// [`Initializer`](TaskError::Initializer), [`NotInProgram`](TaskError::NotInProgram), no thread to be had): this call itself calls
    /// `on_error` before it returns.
    ///
    /// A callback may use the pool. One that holds it (in an `Arc`) keeps it until the callback was called; if it is the last to do so,
    /// the pool is terminated there.
    ///
    /// ```
    /// use multiprocess::Pool;
    /// use std::sync::mpsc;
    ///
    /// let (told, hear) = mpsc::channel();
    /// let also = told.clone();
    /// let pool = Pool::new(1)?;
    /// let triple = |n: u32| n.checked_mul(3).unwrap();
    /// let on_ok = move |n: &u32| told.send(format!("{n}")).unwrap();
    /// let on_error = move |_: &_| also.send("too much".into()).unwrap();
    /// pool.apply_async_with(triple, 5, on_ok.clone(), on_error.clone());
    /// pool.apply_async_with(triple, u32::MAX, on_ok, on_error);
    /// pool.close();
    /// pool.join()?;
    /// assert_eq!(hear.iter().collect::<Vec<_>>(), ["15", "too much"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As encoding the arguments does; nothing was handed in then, and nothing is called.
    #[doc(alias = "callback")]
    #[doc(alias = "error_callback")]
    pub fn apply_async_with<A, R>(
        &self,
        f: fn(A) -> R,
        args: A,
        on_ok: impl FnOnce(&R) + Send + 'static,
        on_error: impl FnOnce(&TaskError) + Send + 'static,
    ) -> AsyncResult<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let callback = move |shared: &Shared, done: &[Finished]| {
            let decode = || decode_one::<R>(shared, done);
            let outcome = catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|payload| {
                let (message, location) = panicked(&*payload);
                discard(payload);
                Err(TaskError::Panicked { message, location })
            });
            match outcome {
                Ok(result) => on_ok(&result),
                Err(error) => on_error(&error),
            }
        };
        self.submit_one(f, args, Some(Box::new(callback)))
    }

    fn submit_one<A, R>(&self, f: fn(A) -> R, args: A, callback: Option<Callback>) -> AsyncResult<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let batch = Batch::with_callback(callback);
        let mut entry = None;
        let submitted = match self.shared.function(f) {
            Ok(function) => {
                let mut packed = Packed::default();
                // User code, which may panic: nothing is promised before.
                packed.add(&args);
                self.shared.submit(&mut packed, function, &batch, 0, false)
            }
            Err(error) => {
                batch.fail(error);
                Submitted::Refused
            }
        };
        match submitted {
            Submitted::Queued { ticket, entry: at } => {
                self.shared.send(&mut vec![ticket.0]);
                entry = Some(at);
            }
            Submitted::Settled => {}
            // Nobody else would run the callback.
            Submitted::Refused => drop(batch.call(&self.shared)),
        }
        AsyncResult::new(self.shared.clone(), batch, entry, decode_one)
    }

    /// Runs a task for each item and gives the results in the items' order. All tasks are run, whatever becomes of some.
    ///
    /// The items are taken to the workers in chunks, so many that each worker gets four of them: see
    /// [`map_chunked`](Self::map_chunked). Several arguments are a tuple.
    ///
    /// # Errors
    ///
    /// That of the first task, by position, that has no result.
    ///
    /// # Panics
    ///
    /// As the iterator does, encoding an item or decoding a result.
    #[doc(alias = "starmap")]
    pub fn map<A, R>(
        &self,
        f: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let items: Vec<A> = items.into_iter().collect();
        let chunk = self.usual_chunk(items.len());
        self.map_chunked(f, items, chunk)
    }

    /// The same with chunks of so many items. A chunk is run by one worker, one task after the other; when he dies the
    /// rest of it is run by another one. Small chunks are fairer, large ones cheaper. The items are taken from the iterator as workers get on;
    /// of a quick one up to 64 are handed in together. Handles among the items of a chunk are let go together, after its last task: a channel
    /// whose senders they are ends then.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), and [`TaskError::InvalidChunk`] for 0.
    ///
    /// # Panics
    ///
    /// As [`map`](Self::map).
    #[doc(alias = "chunksize")]
    pub fn map_chunked<A, R>(
        &self,
        f: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
        chunk: usize,
    ) -> Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        flow::collect(self.flow(f, items.into_iter(), chunk, WINDOW, Manner::All)?)
    }

    /// [`map`](Self::map) without waiting for it.
    ///
    /// # Panics
    ///
    /// As the iterator does, or encoding an item.
    #[doc(alias = "starmap_async")]
    pub fn map_async<A, R>(
        &self,
        f: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> AsyncResult<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let items: Vec<A> = items.into_iter().collect();
        let chunk = self.usual_chunk(items.len());
        self.map_async_chunked(f, items, chunk)
    }

    /// [`map_chunked`](Self::map_chunked) without waiting for it. All items are taken and encoded at once.
    ///
    /// # Panics
    ///
    /// As [`map_async`](Self::map_async).
    pub fn map_async_chunked<A, R>(
        &self,
        f: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
        chunk: usize,
    ) -> AsyncResult<Vec<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let flow = self.flow(f, items.into_iter(), chunk, usize::MAX, Manner::All);
        let batch = match flow {
            Ok(flow) => flow.give_all(),
            Err(error) => {
                let batch = Batch::new(1);
                batch.fail(error);
                batch
            }
        };
        AsyncResult::new(self.shared.clone(), batch, None, decode_all)
    }

    /// Runs a task for each item and gives the outcomes in the items' order, one by one as they are asked for.
    ///
    /// Nothing is done until the first outcome is asked for. Whoever asks takes items from the iterator as far as the
    /// [`backlog`](PoolBuilder::backlog) allows: at first one for each worker, then more and more. Each can be run as soon as it was taken. An
    /// endless iterator is fine. None is asked while the next outcome is there; outcomes that come while an iterator is silent are given
    /// after that. One that waits for outcomes itself needs a backlog no larger than what it gives beforehand.
    ///
    /// An error is that of one item, and the others follow. When the pool is closed, what is left can still be asked for, unless somebody
    /// is in [`join`](Self::join): then the last outcome is [`TaskError::Closed`].
    ///
    /// ```
    /// use multiprocess::Pool;
    ///
    /// let pool = Pool::new(2)?;
    /// let squares = pool.imap(|n: u64| n * n, 1..);
    /// let squares: Result<Vec<u64>, _> = squares.take(5).collect();
    /// assert_eq!(squares?, [1, 4, 9, 16, 25]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// In [`next`](Iterator::next): as the iterator does, encoding an item or decoding a result. It can be asked again: an item or result that
    /// panicked has no outcome, and all others follow (where chunks are larger than 1, perhaps some that should have come before).
    pub fn imap<A, R, I>(&self, f: fn(A) -> R, items: I) -> Imap<I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.imap_chunked(f, items, 1)
    }

    /// The same with chunks of so many items.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidChunk`] for 0, as the only item.
    ///
    /// # Panics
    ///
    /// As [`imap`](Self::imap).
    pub fn imap_chunked<A, R, I>(
        &self,
        f: fn(A) -> R,
        items: I,
        chunk: usize,
    ) -> Imap<I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        Imap::new(self.lazy_flow(f, items.into_iter(), chunk), true)
    }

    /// The same with the outcomes in the order in which they come.
    ///
    /// # Panics
    ///
    /// As [`imap`](Self::imap).
    pub fn imap_unordered<A, R, I>(&self, f: fn(A) -> R, items: I) -> Imap<I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        self.imap_unordered_chunked(f, items, 1)
    }

    /// The same with chunks of so many items.
    ///
    /// # Panics
    ///
    /// As [`imap`](Self::imap).
    pub fn imap_unordered_chunked<A, R, I>(
        &self,
        f: fn(A) -> R,
        items: I,
        chunk: usize,
    ) -> Imap<I::IntoIter, R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: IntoIterator<Item = A>,
    {
        Imap::new(self.lazy_flow(f, items.into_iter(), chunk), false)
    }

    fn usual_chunk(&self, len: usize) -> usize {
        len.div_ceil(4 * self.shared.settings.processes).max(1)
    }

    fn lazy_flow<A, R, I>(
        &self,
        f: fn(A) -> R,
        items: I,
        chunk: usize,
    ) -> Result<Flow<I>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: Iterator<Item = A>,
    {
        let Settings {
            backlog, processes, ..
        } = self.shared.settings;
        let most = match backlog {
            Some(tasks) => tasks / chunk.max(1),
            // Each worker has a chunk to go on with.
            None => (builder::BACKLOG * processes / chunk.max(1)).max(2 * processes),
        };
        self.flow(f, items, chunk, most, Manner::Each)
    }

    fn flow<A, R, I>(
        &self,
        f: fn(A) -> R,
        items: I,
        chunk: usize,
        most: usize,
        manner: Manner,
    ) -> Result<Flow<I>, TaskError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        I: Iterator<Item = A>,
    {
        if chunk == 0 {
            return Err(TaskError::InvalidChunk);
        }
        // A job counts its tasks in 32 bits.
        let chunk = chunk.min(u32::MAX as usize);
        let function = self.shared.function(f)?;
        Flow::new(&self.shared, function, items, chunk, most, manner)
    }

    /// Ends the pool for new tasks: they end in [`TaskError::Closed`]. What was handed in is run; then the workers end.
    /// Idempotent.
    #[doc(alias = "shutdown")]
    pub fn close(&self) {
        if self.shared.check().is_err() {
            return;
        }
        let mut core = self.shared.lock();
        if core.phase == Phase::Open {
            core.phase = Phase::Closing;
            // Without a helper whoever joins looks after the rest.
            let _ = core.helper.start(&self.shared);
            core.helper.wake(&self.shared.bell);
        }
    }

    /// Kills the workers; what is not finished ends in [`TaskError::Cancelled`]. Waits for the workers' ends, a few seconds at most
    /// (where the system holds them up). Idempotent; can be called from anywhere, callbacks included.
    #[doc(alias = "terminate_workers")]
    #[doc(alias = "kill_workers")]
    pub fn terminate(&self) {
        if self.shared.check().is_err() {
            return;
        }
        let mut core = self.shared.lock();
        if core.phase != Phase::Terminated {
            core.phase = Phase::Terminated;
            self.shared.read(&mut core);
            self.shared.end_all(&mut core, &TaskError::Cancelled);
        }
        helper::dismiss_all(&core);
        core.helper.wake(&self.shared.bell);
        drop(core);
        // One that is just being started is killed by who starts it.
        let tending = lock(&self.shared.tending);
        let core = self.shared.lock();
        helper::dismiss_all(&core);
        let workers = core.staff.workers.clone();
        drop((core, tending));
        let deadline = Deadline::from(PATIENCE);
        for worker in workers {
            let left = deadline.remaining().unwrap_or(PATIENCE);
            let _ = worker.process.wait_timeout(left);
        }
        helper::tend(&self.shared);
        self.shared.tell();
    }

    /// Waits until everything that was handed in is finished, its callbacks included, and the workers have ended. After
    /// [`close`](Self::close) or [`terminate`](Self::terminate); any number of times. Not from an iterator that a [`map`](Self::map) of this
    /// pool takes its items from: each would wait for the other.
    ///
    /// # Errors
    ///
    /// [`PoolJoinError::StillRunning`] before; [`PoolJoinError::InCallback`], [`PoolJoinError::ForeignFork`].
    pub fn join(&self) -> Result<(), PoolJoinError> {
        if self.shared.check().is_err() {
            return Err(PoolJoinError::ForeignFork);
        }
        let mut core = self.shared.lock();
        if core.phase == Phase::Open {
            return Err(PoolJoinError::StillRunning);
        }
        if core.helper.is_current() {
            return Err(PoolJoinError::InCallback);
        }
        core.joining = true;
        core.helper.wake(&self.shared.bell);
        drop(core);
        helper::tend(&self.shared);
        self.shared
            .wait(Deadline::NEVER, |core| core.over.then_some(()));
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}
