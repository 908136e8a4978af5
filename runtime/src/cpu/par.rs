//! How kernels ask their caller to run tasks, possibly on several threads.
//!
//! In: a number of tasks and a function of (task, worker). Invariant: two tasks that run at the same time get different
//! worker numbers, all below the number of threads that its scratch memory is made for, so a worker number selects private memory.

/// Runs one task: the number of the task, then that of the worker it runs on.
pub type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Runs tasks `0..n`, each once, in any order and on any workers, and returns when all are done.
pub type Par<'a> = dyn Fn(usize, &Task<'_>) + 'a;

/// Runs all tasks one after the other on worker 0.
pub(crate) fn serial(tasks: usize, task: &Task<'_>) {
    for t in 0..tasks {
        task(t, 0);
    }
}

/// Runs the tasks through `par`, or right here if there is but one.
pub(crate) fn run_tasks(par: &Par<'_>, tasks: usize, task: &Task<'_>) {
    match tasks {
        0 => {}
        1 => task(0, 0),
        _ => par(tasks, task),
    }
}

/// A pointer that tasks may share. What each task does with it must not clash with the others.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) T);

// SAFETY: the kernels hand it to tasks that write disjoint parts only; that is argued where they do.
unsafe impl<T> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// The pointer. (A method, so that closures capture the wrapper and not its field.)
    pub(crate) fn get(&self) -> T {
        self.0
    }
}
