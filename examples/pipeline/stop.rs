//! Ctrl-C: the collector is asked to stop, and everybody else is told by the queues being closed.

// The flag of a signal handler is no shared memory.
#![expect(
    clippy::disallowed_types,
    reason = "signal-hook sets a flag of this type"
)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether the program was asked to stop.
pub struct Stop {
    signals: [(i32, Arc<AtomicBool>); 2],
}

impl Stop {
    /// Catches SIGINT and SIGTERM. The second one of a kind ends the program at once; the children, being daemons, end
    /// with it.
    pub fn on_signals() -> io::Result<Stop> {
        let signals = [SIGINT, SIGTERM].map(|signal| (signal, Arc::new(AtomicBool::new(false))));
        for (signal, asked) in &signals {
            flag::register_conditional_shutdown(*signal, 128 + signal, Arc::clone(asked))?;
            flag::register(*signal, Arc::clone(asked))?;
        }
        Ok(Stop { signals })
    }

    /// The signal that came, if any did.
    pub fn signal(&self) -> Option<i32> {
        self.signals
            .iter()
            .find(|(_, asked)| asked.load(Ordering::Relaxed))
            .map(|(signal, _)| *signal)
    }

    pub fn asked(&self) -> bool {
        self.signal().is_some()
    }
}

/// For the children: Ctrl-C goes to every process of the terminal, but it is the collector who ends the work.
pub fn ignore() {
    // Should this fail, the child simply dies of Ctrl-C.
    let _ = flag::register(SIGINT, Arc::new(AtomicBool::new(false)));
}
