//! The wish to stop: Ctrl-C, SIGTERM and a closed terminal set a flag that the training loop reads between steps. A second signal ends
//! the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Exit, Result};

/// A flag shared with the signal handlers.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Lets SIGINT, SIGTERM and SIGHUP set the flag for the rest of the process's life.
    ///
    /// # Errors
    /// `signals` when the system refuses a handler.
    pub fn listen(&self) -> Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or_default();
            // The order matters: the first signal finds `again` unset, sets it, and only the second one ends the process.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
                .and_then(|_| flag::register(signal, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&self.signal), number))
                .map_err(|e| Error::new(Exit::Run, "signals", format!("cannot listen for signals: {e}")))?;
        }
        Ok(())
    }

    /// Asks to stop, as a signal would.
    pub fn request(&self, signal: i32) {
        self.signal.store(usize::try_from(signal).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The signal that asked to stop.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}
