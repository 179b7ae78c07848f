//! Starting threads. The system may refuse one, so everything here fails with an error, and never
//! panics.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use crate::{Error, ErrorKind, Result};

/// Starts `body` on a thread called `name`.
///
/// # Errors
/// [`ErrorKind::Host`] when the system refuses the thread.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(body).map_err(refused)
}

/// The same within `scope`.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().name(name.to_owned()).spawn_scoped(scope, body).map_err(refused)
}

/// Calls `start` up to `wanted` times, for threads that share their work: fewer do it as well, only
/// none is an error.
///
/// # Errors
/// Of the first start.
pub(crate) fn start_some(wanted: usize, mut start: impl FnMut() -> Result<()>) -> Result<()> {
    start()?;
    let _ = (1..wanted).try_for_each(|_| start());
    Ok(())
}

/// How many of `wanted` threads the system would give now. For libraries that start threads
/// themselves, and do not bear a refusal.
pub(crate) fn available(wanted: usize) -> usize {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let wait = || {
        let held = held.clone();
        start("bty-probe", move || held.recv().is_ok())
    };
    let started: Vec<_> = std::iter::repeat_with(wait).take(wanted).map_while(Result::ok).collect();
    drop(hold);
    let count = started.len();
    // they have ended before others take their place
    started.into_iter().for_each(|thread| drop(thread.join()));
    count
}

/// The error for a thread that the system did not give.
pub(crate) fn refused(error: io::Error) -> Error {
    Error::new(ErrorKind::Host, "starting a thread")
        .because(error)
        .hint("allow more processes or memory (ulimit -u, ulimit -v, the limits of the container), then try again")
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
    fn threads_that_may_be_had_are_counted() {
        assert_eq!(available(3), 3);
        assert_eq!(available(0), 0);
    }
}
