//! Setting a pool up.
#![forbid(unsafe_code)]

use super::error::TaskError;
use super::object::LocalPool;
use super::record::Packed;
use super::shared::{Init, Settings, Shared};
use super::worker::{self, Body, Run};
use super::{Pool, helper};
use crate::arena;
use crate::codec::Pod;
use crate::error::Error;
use crate::os::bell;
use crate::os::clock::Deadline;
use crate::primitive::private::AtomicU64 as PrivateU64;
use crate::process::cpu_count;
use crate::queue::Queue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// As many tasks a worker may be in an iterator's backlog.
pub(super) const BACKLOG: usize = 32;

/// What a pool is to be: made by [`Pool::builder`].
///
/// ```
/// use multiprocess::{Pool, Queue};
///
/// fn announce(names: Queue<String>) {
///     let me = multiprocess::current_process();
///     names.put(me.name().to_string()).unwrap();
/// }
///
/// let names = Queue::bounded(2)?;
/// let pool = Pool::builder()
///     .processes(2)
///     .name("reader")
///     .initializer(announce, names.clone()) // in each worker
///     .max_tasks_per_child(1000)
///     .retries(1)
///     .build()?;
/// assert!(names.get()?.starts_with("reader-"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a pool is made by `build`"]
#[derive(Default)]
pub struct PoolBuilder {
    processes: Option<usize>,
    most: Option<u64>,
    retries: u32,
    backlog: Option<usize>,
    name: Option<String>,
    initializer: Option<Initializer>,
}

/// The function, known to the body alone, and its arguments.
struct Initializer {
    function: Result<Body, TaskError>,
    packed: Packed,
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("processes", &self.processes)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PoolBuilder {
    /// How many workers. Default: [`cpu_count`](crate::cpu_count).
    #[doc(alias = "max_workers")]
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = Some(processes);
        self
    }

    /// What each worker does before its first task. If it fails, so does the pool: [`build`](Self::build) says so, and every
    /// task afterwards. (That it was killed says nothing about it, unless it happens again and again.)
    pub fn initializer<A>(mut self, f: fn(A), args: A) -> Self
    where
        A: Serialize + DeserializeOwned,
    {
        let body: fn(fn(A), Run) -> Run = worker::body::<A, ()>;
        let mut packed = Packed::default();
        packed.add(&args);
        self.initializer = Some(Initializer {
            function: Body::new(body, f).map_err(|_| TaskError::NotInProgram),
            packed,
        });
        self
    }

    /// After so many tasks a worker ends and another one takes its place. Default: never. 0 is an error.
    #[doc(alias = "maxtasksperchild")]
    pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
        self.most = Some(tasks);
        self
    }

    /// How often a task whose worker died is run again. Default: 0, since it may have had an effect. What has one owner among its
    /// arguments, as the end of a pipe, has gone with the first worker: the task then ends in [`TaskError::Decode`](crate::TaskError::Decode).
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// How many tasks an iterator like [`imap`](Pool::imap) may give out before their outcomes are asked for. Default: 32 a worker,
    /// and two chunks a worker at least. 0 counts as 1.
    #[doc(alias = "buffersize")]
    pub fn backlog(mut self, tasks: usize) -> Self {
        self.backlog = Some(tasks);
        self
    }

    /// The workers' names begin with this, and a number follows. Default: `Pool` and a number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes the pool and starts its workers; waits for their initializers, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidCapacity`] for 0 workers or tasks; what a worker's start says (as [`spawn`](crate::spawn)); an
    /// [`io::Error`] with the [`TaskError`] of an initializer.
    pub fn build(self) -> io::Result<Pool> {
        static NUMBER: PrivateU64 = PrivateU64::new(1);
        let processes = self.processes.unwrap_or_else(cpu_count);
        if processes == 0 || processes > arena::MAX_MEMBERS as usize || self.most == Some(0) {
            return Err(Error::InvalidCapacity.into());
        }
        let name = self.name;
        let settings = Settings {
            processes,
            most: self.most,
            retries: self.retries,
            backlog: self.backlog,
            name: name.unwrap_or_else(|| format!("Pool{}", NUMBER.fetch_add(1, Relaxed))),
        };
        let local = LocalPool::create(arena::family()?, processes)?;
        let tasks = Queue::<u64, Pod>::unbounded_pod()?;
        let init = match self.initializer {
            None => None,
            Some(initializer) => Some(settle(initializer, &local)?),
        };
        let has_init = init.is_some();
        let shared = Arc::new(Shared::new(local, tasks, bell::new()?, settings, init));
        // From here on it is terminated when something fails.
        let pool = Pool { shared };
        helper::start_all(&pool.shared)?;
        if has_init {
            pool.wait_for_initializers(processes)?;
        }
        Ok(pool)
    }
}

fn settle(initializer: Initializer, local: &LocalPool) -> io::Result<Init> {
    let mut packed = initializer.packed;
    if let Some((_, error)) = packed.holes.pop() {
        return Err(failed(error));
    }
    let function = initializer.function.map_err(failed)?;
    let function = local.cards().add_function(&function.to_bytes())?;
    Ok(Init { function, packed })
}

fn failed(error: TaskError) -> io::Error {
    io::Error::other(TaskError::Initializer(Box::new(error)))
}

impl Pool {
    fn wait_for_initializers(&self, count: usize) -> io::Result<()> {
        let mut core = self.shared.lock();
        core.helper.start(&self.shared)?;
        drop(core);
        let outcome = self
            .shared
            .wait(Deadline::NEVER, |core| match &core.broken {
                Some(error) => Some(Err(io::Error::other(error.clone()))),
                None => (core.staff.ready >= count).then_some(Ok(())),
            });
        outcome.unwrap_or(Ok(()))
    }
}
