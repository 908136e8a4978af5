//! The wish to stop: Ctrl-C, SIGTERM and a closed terminal set a flag that the training loop reads between steps. A second signal ends
//! the process at once. Commands with nothing to save end at the first one ([`end_on_signals`]). No temporary file stays
//! behind, and a signal that was ignored when the program started stays ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::atomic;
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
        for signal in heard() {
            let number = usize::try_from(signal).unwrap_or_default();
            let second = Arc::clone(&again);
            let end_if_second = move || {
                if second.load(Ordering::SeqCst) {
                    end(signal);
                }
            };
            // The order matters: the first signal finds `again` unset, sets it, and only the second one ends the process.
            // SAFETY: the action reads an atomic value and calls `end`, which signal handlers may do.
            unsafe { low_level::register(signal, end_if_second) }
                .and_then(|_| flag::register(signal, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&self.signal), number))
                .map_err(|e| deaf(&e))?;
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

/// Lets SIGINT, SIGTERM and SIGHUP end the process at once with 128 + the signal's number, without the temporary file
/// of what is being written; for commands that have nothing to save.
///
/// # Errors
/// `signals` when the system refuses a handler.
pub fn end_on_signals() -> Result<()> {
    for signal in heard() {
        // SAFETY: `end` does only what signal handlers may do.
        unsafe { low_level::register(signal, move || end(signal)) }.map_err(|e| deaf(&e))?;
    }
    Ok(())
}

/// Lets a write beyond the file size limit of the process (`ulimit -f`) fail as one to a full disk does, instead of
/// ending the process without a word.
pub fn survive_file_limit() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Ends the process; only with calls that are allowed in a signal handler.
fn end(signal: i32) -> ! {
    atomic::abandon();
    low_level::exit(128 + signal)
}

fn deaf(cause: &std::io::Error) -> Error {
    Error::new(Exit::Run, "signals", format!("cannot listen for signals: {cause}"))
}

/// The signals to listen for. One that is ignored already stays so: that is how `nohup` keeps a program running when its
/// terminal is closed, and how a shell keeps Ctrl-C from its background jobs.
fn heard() -> impl Iterator<Item = i32> {
    [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|s| !is_ignored(*s))
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
