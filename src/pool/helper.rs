//! Looking after the workers: who has died is replaced, what he had is given to others or reported. The helper thread does so,
//! and runs callbacks; it sleeps at the workers' pidfds and a descriptor. While it is in a callback, who waits long does so.
#![forbid(unsafe_code)]

use super::error::TaskError;
use super::lock;
use super::object::PoolHandle;
use super::shared::{Core, Phase, Shared};
use super::staff::{Recruit, Worker};
use super::worker::{self, Start};
use crate::os::bell;
use crate::process::{ExitCode, Fd, Process};
use crate::ring::{Hand, Serial};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// The helper thread.
#[derive(Debug, Default)]
pub(super) struct Helper {
    id: Option<ThreadId>,
}

impl Helper {
    /// Sees to it that it runs.
    #[inline]
    pub(super) fn start(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        if self.id.is_some() {
            return Ok(());
        }
        let own = shared.clone();
        let thread = thread::Builder::new()
            .name(format!("{}-helper", shared.settings.name))
            .spawn(move || help(&own))?;
        self.id = Some(thread.thread().id());
        Ok(())
    }

    pub(super) fn wake(&self, bell: &OwnedFd) {
        if self.id.is_some() {
            bell::ring(bell);
        }
    }

    /// The same for whoever does its work while it may be somewhere else.
    fn wake_from_outside(&self, bell: &OwnedFd) {
        if !self.is_current() {
            self.wake(bell);
        }
    }

    pub(super) fn is_current(&self) -> bool {
        self.id == Some(thread::current().id())
    }
}

/// How long to wait for somebody else, like a debugger, who looks at a dead worker first.
const SHORTLY: Duration = Duration::from_millis(1);

/// How long what nobody wants may lie there, where much of it comes back.
const LULL: Duration = Duration::from_millis(1);

fn help(shared: &Arc<Shared>) {
    let mut ended = None;
    let mut rung = false;
    loop {
        bell::silence(&shared.bell);
        let mut pause = tend(shared);
        if run_callbacks(shared) {
            continue;
        }
        let core = shared.lock();
        if core.over {
            return;
        }
        let workers = core.staff.workers.clone();
        if workers.iter().any(|worker| Some(worker.serial) == ended) {
            // It has, and nobody can be told how yet.
            drop(core);
            thread::sleep(SHORTLY);
            ended = None;
            continue;
        }
        let mut reads = core.callbacks_due > 0 || core.phase != Phase::Open;
        if !reads && core.unwanted > 0 {
            // What nobody wants goes back without anybody's help, but not job by job: after each look there is a rest in which
            // workers need not ring.
            reads = !rung;
            if rung {
                pause = Some(pause.map_or(LULL, |pause| pause.min(LULL)));
            }
        }
        rung = reads;
        drop(core);
        if reads {
            let cards = shared.pool.cards();
            cards.bell().store(1, Relaxed);
            // A worker that gave a job back before it could see that it is to ring is seen here.
            shared.pool.arena().fences().heavy();
            if shared.pool.jobs().has_returned() {
                continue;
            }
        }
        let mut fds: Vec<BorrowedFd<'_>> = vec![shared.bell.as_fd()];
        fds.extend(workers.iter().map(|worker| worker.process.as_fd()));
        ended = match bell::wait_any(&fds, pause) {
            Ok(Some(at @ 1..)) => Some(workers[at - 1].serial),
            Ok(_) => None,
            Err(_) => {
                thread::sleep(SHORTLY);
                None
            }
        };
    }
}

/// Whether there were any.
fn run_callbacks(shared: &Shared) -> bool {
    let mut any = false;
    loop {
        let Some(batch) = shared.lock().callbacks.pop_front() else {
            return any;
        };
        any = true;
        let unwanted = batch.call(shared);
        shared.release(unwanted);
        shared.lock().callbacks_due -= 1;
        // However many there are: workers may have died meanwhile.
        tend(shared);
    }
}

/// Does everything that is to be done now, without waiting. When there will be more, if that is known.
pub(super) fn tend(shared: &Shared) -> Option<Duration> {
    let Ok(_tending) = shared.tending.try_lock() else {
        // Whoever does so may have looked before what this one came for.
        return Some(SHORTLY);
    };
    tend_alone(shared)
}

/// The same for who holds `tending`.
pub(super) fn tend_alone(shared: &Shared) -> Option<Duration> {
    let mut core = shared.lock();
    let mut news = shared.read(&mut core);
    let before = core.staff.changes;
    news |= bury(shared, &mut core);
    if core.broken.is_some() || core.phase == Phase::Terminated {
        dismiss_all(&core);
    } else {
        core = hire(shared, core);
    }
    let was_over = core.over;
    finish(shared, &mut core);
    news |= core.over != was_over;
    let waits = core.staff.has_seats() && core.needs_workers();
    let pause = core.staff.pause().filter(|_| waits);
    if news || pause.is_some() || core.staff.changes != before {
        // It may have gone to sleep at those that there were before.
        core.helper.wake_from_outside(&shared.bell);
    }
    drop(core);
    if news {
        shared.tell();
    }
    pause
}

/// Looks for workers that have ended. Whether there were any.
fn bury(shared: &Shared, core: &mut Core) -> bool {
    let ended: Vec<(Worker, ExitCode)> = core
        .staff
        .workers
        .iter()
        .filter_map(|worker| Some((worker.clone(), worker.process.exitcode()?)))
        .collect();
    // Whatever they gave back before they ended comes first.
    if !ended.is_empty() {
        shared.read(core);
    }
    let has_begun = |worker: &Worker| shared.pool.cards().has_begun(worker.seat, worker.serial);
    core.staff.look(has_begun);
    for (worker, exit) in &ended {
        let died = TaskError::WorkerDied {
            pid: worker.process.pid(),
            exit: *exit,
        };
        core.staff.dismiss(worker.seat);
        let left = shared.pool.jobs().left_by(worker.seat, worker.serial);
        if !has_begun(worker) {
            never_began(shared, core, worker.serial, left);
            continue;
        }
        match left {
            Some(hand) => {
                core.staff.failed();
                shared.came_back(core, hand, Some(&died));
                if shared.init.is_none() {
                    // It was at work.
                    core.staff.failures = 0;
                }
            }
            // It has run as many tasks as it was to, or there are no more.
            None if exit.success()
                && (shared.settings.most.is_some() || core.phase != Phase::Open) => {}
            // That it was killed while it had nothing to do says nothing of the next one.
            None => core.staff.failed(),
        }
    }
    !ended.is_empty()
}

/// A worker could not be started, or ended before it was at work: with the initializer's job, if there is one.
fn never_began(shared: &Shared, core: &mut Core, worker: Serial, left: Option<Hand>) {
    core.staff.never_began(worker);
    if let Some(hand) = left {
        // It says nothing about the initializer.
        shared.came_back(core, hand, Some(&TaskError::NoWorker));
    }
    if core.staff.is_hopeless() {
        shared.break_down(core, TaskError::NoWorker);
    }
}

/// Fills the places of those that have ended, while there is or may come something to do.
fn hire<'a>(
    shared: &'a Shared,
    mut core: std::sync::MutexGuard<'a, Core>,
) -> std::sync::MutexGuard<'a, Core> {
    while core.needs_workers() {
        let Some(recruit) = core.staff.recruit() else {
            break;
        };
        let first = shared.assign_init(&mut core, &recruit);
        drop(core);
        let started = first.and_then(|first| {
            let first = first.map(|place| place.bits());
            start(shared, recruit, first).map_err(|_| TaskError::NoWorker)
        });
        core = shared.lock();
        match started {
            Ok(process) => {
                let late = core.phase == Phase::Terminated || core.broken.is_some();
                if late {
                    let _ = process.kill();
                }
                core.staff.hire(recruit, process);
            }
            Err(_) => {
                core.staff.dismiss(recruit.seat);
                let left = shared.pool.jobs().left_by(recruit.seat, recruit.serial);
                never_began(shared, &mut core, recruit.serial, left);
            }
        }
    }
    core
}

/// Starts all workers of a new pool.
pub(super) fn start_all(shared: &Shared) -> io::Result<()> {
    let _tending = lock(&shared.tending);
    let mut core = shared.lock();
    while let Some(recruit) = core.staff.recruit() {
        let first = shared.assign_init(&mut core, &recruit);
        let first = first.map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        let process = start(shared, recruit, first.map(|place| place.bits()))?;
        core.staff.hire(recruit, process);
    }
    Ok(())
}

/// Starts a worker.
fn start(shared: &Shared, recruit: Recruit, first: Option<u64>) -> io::Result<Process<()>> {
    let start = Start {
        pool: PoolHandle(shared.pool.clone()),
        tasks: shared.tasks.clone(),
        bell: Fd::from(shared.bell.try_clone()?),
        seat: recruit.seat as u32,
        serial: recruit.serial.0,
        first,
        most: shared.settings.most,
    };
    let name = format!("{}-{}", shared.settings.name, recruit.serial.0);
    // Ctrl-C is not for it: from its first instant, and not only from where it can say so itself.
    let builder = Process::builder().name(name).daemon(true).shielded();
    Ok(builder.spawn(worker::work, start)?)
}

/// Kills those that are left.
pub(super) fn dismiss_all(core: &Core) {
    for worker in &core.staff.workers {
        let _ = worker.process.kill();
    }
}

/// Brings a pool that takes no more tasks to its end.
fn finish(shared: &Shared, core: &mut Core) {
    let ended = match core.phase {
        Phase::Open => false,
        Phase::Closing => core.outstanding == 0 && core.is_fed(),
        Phase::Terminated => true,
    };
    if ended {
        shared.tasks.close();
        core.sealed = true;
        core.over |= core.staff.workers.is_empty() && core.callbacks_due == 0;
    }
}
