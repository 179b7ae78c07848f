//! Blocking work, kept away from the threads that serve requests.

use std::any::Any;

use crate::domain::error::{Error, Result};

type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Runs `work` on a thread that may block. The work starts at once and runs to its end, even when
/// the future is dropped.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when `work` panics.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T>> {
    // boxed, so that the runtime is instantiated for one type of work only: each further type
    // compiles 120 of its functions again
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
