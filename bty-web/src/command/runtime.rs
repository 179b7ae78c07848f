//! The asynchronous runtime of commands.

use crate::domain::error::{Error, Result};

/// Maximum number of threads that wait for the disk and for scripts. Each thread needs memory, and
/// their tasks are short.
const BLOCKING_THREADS: usize = 16;

/// Runs `work` on a new runtime.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        builder.max_blocking_threads(BLOCKING_THREADS).enable_all().build().map_err(Error::from)?;
    runtime.block_on(work)
}
