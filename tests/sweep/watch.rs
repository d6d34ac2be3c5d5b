//! The guard against hanging: a thread that ends the victim, and then this whole program, when a
//! round of a sweep has made no progress for far longer than it could need.

use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(20);

struct Watched {
    what: String,
    since: Instant,
    victim: Option<i32>,
}

static WATCHED: Mutex<Option<Watched>> = Mutex::new(None);
static THREAD: Once = Once::new();

/// Watches until it is dropped. One at a time.
pub struct Watch(());

pub fn start(what: String) -> Watch {
    THREAD.call_once(|| {
        thread::spawn(watch);
    });
    *lock() = Some(Watched {
        what,
        since: Instant::now(),
        victim: None,
    });
    Watch(())
}

impl Watch {
    /// Says that a new round has begun.
    pub fn round(&self, what: String) {
        if let Some(watched) = lock().as_mut() {
            watched.what = what;
            watched.since = Instant::now();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *lock() = None;
    }
}

/// Names the process to be ended first.
pub fn victim(pid: Option<i32>) {
    if let Some(watched) = lock().as_mut() {
        watched.victim = pid;
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Watched>> {
    WATCHED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let mut guard = lock();
        let Some(watched) = guard.as_mut() else {
            continue;
        };
        let waited = watched.since.elapsed();
        if waited > LIMIT + GRACE {
            eprintln!("sweep: {} hangs; the program gives up", watched.what);
            std::process::abort();
        }
        if waited > LIMIT
            && let Some(pid) = watched.victim.take()
        {
            eprintln!("sweep: {} hangs; its victim {pid} is killed", watched.what);
            // SAFETY: a victim is named only while its stepper keeps it from being reaped.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}
