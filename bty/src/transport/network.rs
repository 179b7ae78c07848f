//! The runtime that all network requests share, started when it is first needed.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::transport::http_client::HttpClient;
use crate::transport::options::ClientOptions;
use crate::{CancelToken, Error, ErrorKind, Result, threads, trace};

/// How often a blocked caller checks its cancel token.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Threads of the runtime: one for requests, one while the other is busy with TLS.
const WORKERS: usize = 2;

/// The network of a client. Starts no thread before the first request.
pub(crate) struct Network {
    options: Arc<ClientOptions>,
    runtime: Mutex<Option<Arc<NetworkRuntime>>>,
}

impl Network {
    pub(crate) fn new(options: Arc<ClientOptions>) -> Self {
        Self { options, runtime: Mutex::new(None) }
    }

    /// The runtime, started by the first call.
    pub(crate) fn runtime(&self) -> Result<Arc<NetworkRuntime>> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.as_ref() {
            return Ok(Arc::clone(runtime));
        }
        let started = Arc::new(NetworkRuntime::start(&self.options)?);
        Ok(Arc::clone(runtime.insert(started)))
    }
}

/// The threads and the HTTP client. Lives as long as the last client, source or reader that uses
/// it.
pub(crate) struct NetworkRuntime {
    /// `None` only while `drop` runs.
    runtime: Option<Runtime>,
    http: HttpClient,
}

impl NetworkRuntime {
    fn start(options: &Arc<ClientOptions>) -> Result<Self> {
        let http = HttpClient::new(options)?;
        // tokio panics when the system refuses it a thread
        if threads::available(WORKERS) < WORKERS {
            return Err(threads::refused(std::io::ErrorKind::WouldBlock.into())
                .context("starting the network threads"));
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("bty-net")
            .enable_all()
            .build()
            .map_err(|e| Error::new(ErrorKind::Host, "starting the network threads").because(e))?;
        Ok(Self { runtime: Some(runtime), http })
    }

    pub(crate) fn http(&self) -> &HttpClient {
        &self.http
    }

    pub(crate) fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().expect("only drop takes the runtime");
        runtime.spawn(trace::in_current_span(future))
    }

    /// Runs `future` on the network threads and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
        cancel: &CancelToken,
    ) -> Result<T> {
        let mut task = self.spawn(future);
        match wait(&mut task, cancel) {
            Ok(Ok(result)) => result,
            Ok(Err(e)) => {
                Err(Error::new(ErrorKind::Host, "a network task ended unexpectedly").because(e))
            }
            Err(cancelled) => {
                task.abort();
                Err(cancelled)
            }
        }
    }
}

impl Drop for NetworkRuntime {
    fn drop(&mut self) {
        // dropping a runtime blocks, which panics on a thread of another runtime
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Blocks the calling thread on `future`, until it completes or `cancel` is cancelled.
///
/// Works on any thread, even on one of a runtime that the library does not own (`Handle::block_on`
/// would panic there).
pub(crate) fn wait<F: Future>(future: F, cancel: &CancelToken) -> Result<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    // unconstrained: on a thread of another runtime, the budget of its task would run out and never
    // be refilled
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        cancel.check()?;
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        std::thread::park_timeout(CANCEL_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancel_ends_a_blocked_call() {
        let runtime = NetworkRuntime::start(&Arc::default()).unwrap();
        let cancel = CancelToken::new();
        let canceller = cancel.clone();
        // cancels from inside the awaited future, which otherwise never ends
        let waiting = async move {
            canceller.cancel();
            std::future::pending::<Result<()>>().await
        };
        assert!(runtime.run(waiting, &cancel).unwrap_err().is_cancelled());
    }

    #[test]
    fn works_on_a_thread_of_another_runtime() {
        let foreign = Builder::new_current_thread().build().unwrap();
        foreign.block_on(async {
            let runtime = NetworkRuntime::start(&Arc::default()).unwrap();
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            runtime.spawn(async move {
                for i in 0..1000 {
                    sender.send(i).await.unwrap();
                }
            });
            for i in 0..1000 {
                // more polls than the budget of one task allows
                assert_eq!(wait(receiver.recv(), &CancelToken::new()).unwrap(), Some(i));
            }
            assert_eq!(runtime.run(async { Ok(7) }, &CancelToken::new()).unwrap(), 7);
        });
    }
}
