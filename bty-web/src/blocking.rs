//! Work that waits for files, the database or the processor, away from the threads that serve
//! requests.

use std::any::Any;

use crate::domain::error::{Error, Result};

type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Starts `work` on a thread that may wait, at once; the future is only what it returns.
///
/// # Errors
/// When `work` panics.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T>> {
    // boxed, so that the runtime sees one kind of work: for each kind, 120 functions of it are
    // compiled again
    let work: Work = Box::new(move || Box::new(work()));
    let running = tokio::task::spawn_blocking(work);
    async move {
        let result = running.await.map_err(Error::internal)?;
        result
            .downcast()
            .map(|result| *result)
            .map_err(|_| Error::internal("the result is of another type"))
    }
}
