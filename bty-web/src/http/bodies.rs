//! Limits on request bodies: their minimum rate, and the memory for bodies of clients without a
//! login.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use crate::config::limits::{BODY_GRACE, Limits};

/// The limits, and the remaining memory for bodies of clients without a login.
pub struct Bodies {
    grace: Duration,
    rate: u64,
    memory: Arc<Semaphore>,
}

impl Bodies {
    /// Creates the limits with all memory free.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            grace: BODY_GRACE,
            rate: limits.body_rate,
            memory: Arc::new(Semaphore::new(limits.body_bytes)),
        }
    }

    /// Wraps a body, which fails with [`Refusal::TooSlow`] if it arrives too slowly.
    pub fn pace(&self, body: Body) -> Body {
        let sleep = Box::pin(tokio::time::sleep(self.grace));
        Body::new(Paced {
            inner: body,
            rate: self.rate,
            grace_until: Instant::now() + self.grace,
            bytes: 0,
            sleep,
        })
    }

    /// Returns an empty share of the memory for one request.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { memory: Arc::clone(&self.memory), held: Arc::default() }
    }
}

/// The memory that one request holds for its body. Dropping the last clone frees it.
#[derive(Clone)]
pub struct Share {
    memory: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Share {
    /// Wraps a body, which fails with [`Refusal::NoMemory`] if no memory is left.
    pub fn count(&self, body: Body) -> Body {
        Body::new(Counted { inner: body, share: self.clone() })
    }

    fn take(&self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(bytes) else { return false };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        true
    }
}

/// Why the server stopped reading a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It arrived more slowly than the configured rate.
    TooSlow,
    /// No memory for bodies is left.
    NoMemory,
}

impl Refusal {
    /// Returns the refusal among the sources of `error`, if there is one.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref().copied())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooSlow => "the client sent the body too slowly",
            Self::NoMemory => "too many bodies are being sent",
        })
    }
}

impl std::error::Error for Refusal {}

struct Paced {
    inner: Body,
    rate: u64,
    /// End of the grace period, from which the rate is measured.
    grace_until: Instant,
    bytes: u64,
    sleep: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                // at the minimum rate, the bytes so far would have arrived by this time
                let due = this.grace_until
                    + Duration::from_millis(this.bytes.saturating_mul(1000) / this.rate);
                this.sleep.as_mut().reset(due);
                this.sleep.as_mut().poll(cx).map(|()| Some(Err(Refusal::TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct Counted {
    inner: Body,
    share: Share,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map(|frame| match frame? {
            Ok(frame) if !self.share.take(frame.data_ref().map_or(0, Bytes::len)) => {
                Some(Err(Refusal::NoMemory.into()))
            }
            frame => Some(frame.map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn bodies(body_bytes: usize) -> Bodies {
        Bodies {
            grace: Duration::from_millis(50),
            rate: 1 << 20,
            memory: Arc::new(Semaphore::new(body_bytes)),
        }
    }

    /// Returns a body of `bytes` in chunks, one every 10 ms.
    fn trickle(bytes: usize) -> Body {
        let chunks = futures_util::stream::repeat(()).then(move |()| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![0; bytes]))
        });
        Body::from_stream(chunks)
    }

    #[tokio::test]
    async fn a_body_below_the_rate_fails_and_one_above_it_does_not() {
        let mut slow = bodies(1).pace(trickle(1)).into_data_stream();
        let mut chunks = 0;
        let error = loop {
            match slow.next().await.unwrap() {
                Ok(_) => chunks += 1,
                Err(error) => break error,
            }
            assert!(chunks < 1000, "a byte each 10 ms is slower than 1 MiB/s");
        };
        assert_eq!(Refusal::of(&error), Some(Refusal::TooSlow));
        // each chunk takes a minute at the minimum rate
        let mut steady = bodies(1).pace(trickle(60 << 20)).into_data_stream();
        for _ in 0..20 {
            steady.next().await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn memory_is_held_until_the_request_has_ended() {
        let bodies = bodies(1500);
        let (first, second) = (bodies.share(), bodies.share());
        let read = async |share: &Share| {
            axum::body::to_bytes(share.count(Body::from(vec![0; 1000])), 2000).await
        };
        assert_eq!(read(&first).await.unwrap().len(), 1000);
        assert_eq!(Refusal::of(&read(&second).await.unwrap_err()), Some(Refusal::NoMemory));
        drop(first);
        assert_eq!(read(&second).await.unwrap().len(), 1000);
    }
}
