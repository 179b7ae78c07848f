//! Starting threads, inside the span of the thread that starts them. The system may refuse a
//! thread; these functions then return an error, where the standard library would panic.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crate::trace::Span;
use crate::{Error, ErrorKind, Result};

/// Starts `body` on a thread called `name`.
///
/// # Errors
/// [`ErrorKind::Host`] when the system refuses the thread.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let span = Span::current();
    Builder::new().name(name.to_owned()).spawn(move || span.in_scope(body)).map_err(refused)
}

/// Like [`start`], within `scope`.
///
/// # Errors
/// [`ErrorKind::Host`] when the system refuses the thread.
pub(crate) fn start_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let span = Span::current();
    let body = move || span.in_scope(body);
    Builder::new().name(name.to_owned()).spawn_scoped(scope, body).map_err(refused)
}

/// Calls `start` up to `count` times, for threads that share work. Stops at the first failure,
/// since fewer threads are enough.
///
/// # Errors
/// The error of the first call: not a single thread was started.
pub(crate) fn start_some(count: usize, mut start: impl FnMut() -> Result<()>) -> Result<()> {
    start()?;
    let _ = (1..count).try_for_each(|_| start());
    Ok(())
}

/// The number of threads, up to `limit`, that the system would grant now. For libraries that start
/// threads themselves and panic when refused.
pub(crate) fn available(limit: usize) -> usize {
    // every thread waits until the sender is dropped, so that all of them exist at the same time
    let (release, wait) = crossbeam_channel::bounded::<()>(0);
    let probe = || {
        let wait = wait.clone();
        start("bty-probe", move || wait.recv().is_ok())
    };
    let started: Vec<_> = std::iter::repeat_with(probe).take(limit).map_while(Result::ok).collect();
    drop(release);
    let count = started.len();
    // wait for their end, so that they do not count against the threads of the caller
    started.into_iter().for_each(|thread| drop(thread.join()));
    count
}

/// The error for a thread that the system has refused.
pub(crate) fn refused(error: io::Error) -> Error {
    Error::new(ErrorKind::Host, "starting a thread").because(error).hint(
        "allow more processes or memory (ulimit -u, ulimit -v, the limits of the \
         container), then try again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_threads_are_enough_and_none_are_an_error() {
        let mut left = 2;
        let mut start = || {
            left -= 1;
            if left >= 0 { Ok(()) } else { Err(refused(io::ErrorKind::WouldBlock.into())) }
        };
        assert!(start_some(4, &mut start).is_ok());
        let error = start_some(4, &mut start).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Host);
        assert!(error.next_step().is_some_and(|step| step.contains("ulimit")));
    }

    #[test]
    fn available_threads_are_counted() {
        assert_eq!(available(3), 3);
        assert_eq!(available(0), 0);
    }
}
