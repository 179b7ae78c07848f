//! Decides when a failed request is sent again.

use std::time::Duration;

use crate::progress::Event;
use crate::transport::options::ClientOptions;
use crate::{Error, Result, trace};

const BACKOFF_MAX: Duration = Duration::from_secs(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// A failed request, and whether sending it again may help.
pub(crate) enum RequestError {
    /// It would fail again.
    Permanent(Error),
    /// Nothing accepts connections at the address: the address is wrong or the server does not run.
    /// It may be restarting if it has answered before.
    Refused(Error),
    /// It may succeed later. `retry_after` is the delay that the server asked for.
    Transient { error: Error, retry_after: Option<Duration> },
}

impl RequestError {
    pub(crate) fn transient(error: Error) -> Self {
        Self::Transient { error, retry_after: None }
    }

    pub(crate) fn map(self, change: impl FnOnce(Error) -> Error) -> Self {
        match self {
            Self::Permanent(error) => Self::Permanent(change(error)),
            Self::Refused(error) => Self::Refused(change(error)),
            Self::Transient { error, retry_after } => {
                Self::Transient { error: change(error), retry_after }
            }
        }
    }
}

/// Counts failures in a row, and backs off between attempts.
pub(crate) struct Backoff<'a> {
    options: &'a ClientOptions,
    failures: u32,
    /// The server has answered, so it exists.
    has_answered: bool,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(options: &'a ClientOptions) -> Self {
        Self { options, failures: 0, has_answered: false }
    }

    /// For a server that has answered an earlier request.
    pub(crate) fn after_answer(options: &'a ClientOptions) -> Self {
        Self { has_answered: true, ..Self::new(options) }
    }

    /// Starts the count over, because bytes have arrived.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Sleeps until the next attempt is due.
    ///
    /// # Errors
    /// The error of `failure` when it is permanent or no attempt is left.
    pub(crate) async fn wait_after(&mut self, failure: RequestError) -> Result<()> {
        let (error, retry_after) = match failure {
            RequestError::Permanent(error) => return Err(error),
            RequestError::Refused(error) if self.failures == 0 && !self.has_answered => {
                return Err(error);
            }
            RequestError::Refused(error) => (error, None),
            RequestError::Transient { error, retry_after } => (error, retry_after),
        };
        self.failures += 1;
        if self.failures >= self.options.attempts {
            let attempts = self.failures;
            return Err(if attempts > 1 {
                error.context(format!("giving up after {attempts} attempts"))
            } else {
                error
            });
        }
        let doubled = self.options.retry_delay.saturating_mul(1 << (self.failures - 1).min(16));
        let delay = retry_after
            .map_or(doubled.min(BACKOFF_MAX), |retry_after| retry_after.min(RETRY_AFTER_MAX));
        trace::retry(&error, self.failures, delay);
        let message = format!("{error:#}; trying again in {:.1} s", delay.as_secs_f64());
        self.options.observer.event(&Event::Notice { message });
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn refused() -> RequestError {
        RequestError::Refused(Error::new(ErrorKind::Source, "cannot connect"))
    }

    fn is_retried(backoff: &mut Backoff<'_>, failure: RequestError) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(backoff.wait_after(failure)).is_ok()
    }

    #[test]
    fn only_the_refusal_of_a_first_connection_is_final() {
        let options = ClientOptions::default().retry_delay(Duration::ZERO);
        assert!(!is_retried(&mut Backoff::new(&options), refused()));
        assert!(is_retried(&mut Backoff::after_answer(&options), refused()));
        let mut restarting = Backoff::new(&options);
        let busy = RequestError::transient(Error::new(ErrorKind::Source, "answered 503"));
        assert!(is_retried(&mut restarting, busy));
        assert!(is_retried(&mut restarting, refused()));
    }
}
