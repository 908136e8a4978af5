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
    /// Lets SIGINT, SIGTERM and SIGHUP set the flag for the rest of the process's life. A SIGHUP that is ignored already
    /// stays so: that is how `nohup` keeps a program running when its terminal is closed.
    ///
    /// # Errors
    /// `signals` when the system refuses a handler.
    pub fn listen(&self) -> Result<()> {
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && is_ignored(signal) {
                continue;
            }
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

/// Whether the process does not get the signal at all.
fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one, into memory of its type; all zeros are a valid
    // value of that type, should the call fail.
    let now = unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.sa_sigaction == libc::SIG_IGN
}
