//! Runs work that blocks on files, the database or the processor on threads that do not serve
//! requests.

use std::any::Any;

use crate::domain::error::{Error, Result};

type BoxedWork = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Starts `work` immediately on a thread that may block. It runs to completion even if the returned
/// future is dropped.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) if `work` panics.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T>> {
    // boxed, so that tokio is instantiated for only one type of work: each type adds 120 functions
    let work: BoxedWork = Box::new(move || Box::new(work()));
    let running = tokio::task::spawn_blocking(work);
    async move {
        let result = running.await.map_err(Error::internal)?;
        result
            .downcast()
            .map(|result| *result)
            .map_err(|_| Error::internal("the result is of another type"))
    }
}
