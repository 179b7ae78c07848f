//! The runtime and the HTTP client that all network origins share.
//!
//! Nothing here reads an environment variable: proxies and certificates come from [`ClientOptions`]
//! and from well-known files.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::address_policy::Guarded;
use super::{ClientOptions, proxy, trust};
use crate::oci::{self, OciBlob, OciReference};
use crate::source::http;
use crate::source::http::origin::Origin;
use crate::{CancelToken, Error, ErrorKind, Location, Result, Source, threads};

/// How the library introduces itself to servers.
pub(crate) const USER_AGENT: &str = concat!("bty/", env!("CARGO_PKG_VERSION"));

/// How often a blocked caller looks at its token.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// The network, which starts when it is first needed.
pub(crate) struct Net {
    options: Arc<ClientOptions>,
    online: Mutex<Option<Arc<Online>>>,
}

impl Net {
    pub(crate) fn new(options: Arc<ClientOptions>) -> Self {
        Self { options, online: Mutex::new(None) }
    }

    /// `is_proven` says that a digest of all of it will be checked.
    pub(crate) fn open_http(
        &self,
        url: &Url,
        is_proven: bool,
        cancel: &CancelToken,
    ) -> Result<Source> {
        let online = self.online()?;
        let origin = Origin::new(online.http().clone(), url.clone(), is_proven);
        let input = http::HttpInput::open(&online, origin, cancel)?;
        Ok(Source::new(Location::Http(url.clone()), http::name_of(url), Arc::new(input)))
    }

    pub(crate) fn open_oci(
        &self,
        reference: &OciReference,
        cancel: &CancelToken,
    ) -> Result<Source> {
        oci::open(&self.online()?, reference, cancel)
            .map_err(|e| e.context(format!("opening {reference}")))
    }

    pub(crate) fn resolve_oci(
        &self,
        reference: &OciReference,
        cancel: &CancelToken,
    ) -> Result<OciBlob> {
        oci::resolve(&*self.online()?, reference, cancel)
            .map_err(|e| e.context(format!("resolving {reference}")))
    }

    pub(crate) fn online(&self) -> Result<Arc<Online>> {
        let mut online = self.online.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(online) = online.as_ref() {
            return Ok(Arc::clone(online));
        }
        let started = Arc::new(Online::start(&self.options)?);
        Ok(Arc::clone(online.insert(started)))
    }
}

/// Threads of the network: one for requests, one while it is busy with TLS.
const WORKERS: usize = 2;

/// The network once it runs. Lives as long as the last client, source or reader that uses it.
pub(crate) struct Online {
    /// Taken only by `drop`.
    runtime: Option<Runtime>,
    http: Http,
}

impl Online {
    fn start(options: &Arc<ClientOptions>) -> Result<Self> {
        let http = Http::new(options)?;
        // the runtime panics when it is refused a thread
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

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.as_ref().expect("the runtime is taken only by drop").spawn(future)
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

impl Drop for Online {
    fn drop(&mut self) {
        // the plain drop of a runtime blocks, which panics on a thread of somebody else's runtime
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for `future` on the calling thread, until `cancel`.
///
/// Works on any thread, also on one of a runtime that the library does not own (`Handle::block_on`
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
    // unconstrained: on a foreign runtime's thread the budget of its task would run out and never
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

/// The HTTP client with the options it was made from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    /// Follows no redirections: what is sent goes to the host that was named, and
    /// [`Origin`](crate::source::http::origin::Origin) looks at each step.
    pub(crate) client: reqwest::Client,
    pub(crate) options: Arc<ClientOptions>,
}

impl Http {
    fn new(options: &Arc<ClientOptions>) -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client that all requests go through"
        )]
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(trust::tls(options)?)
            // some registries' storage resets long HTTP/2 streams
            .http1_only()
            .no_proxy()
            .user_agent(USER_AGENT)
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            // the bytes that were digested are the bytes on the wire
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate();
        if let Some(may_reach) = &options.may_reach {
            builder = builder.dns_resolver(Arc::new(Guarded::new(Arc::clone(may_reach))));
        }
        for proxy in proxy::proxies(options)? {
            builder = builder.proxy(proxy);
        }
        let client = builder
            .build()
            .map_err(|e| Error::new(ErrorKind::Host, format!("setting up the HTTP client: {e}")))?;
        Ok(Self { client, options: Arc::clone(options) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_soon_after_cancel() {
        let online = Online::start(&Arc::default()).unwrap();
        let cancel = CancelToken::new();
        let canceller = cancel.clone();
        // cancelled once the wait has begun; without that, it would never end
        let waiting = async move {
            canceller.cancel();
            std::future::pending::<Result<()>>().await
        };
        assert!(online.run(waiting, &cancel).unwrap_err().is_cancelled());
    }

    #[test]
    fn a_foreign_runtime_may_wait_and_drop() {
        let foreign = Builder::new_current_thread().build().unwrap();
        foreign.block_on(async {
            let online = Online::start(&Arc::default()).unwrap();
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            online.spawn(async move {
                for i in 0..1000 {
                    sender.send(i).await.unwrap();
                }
            });
            for i in 0..1000 {
                // more often than the budget of a task allows
                assert_eq!(wait(receiver.recv(), &CancelToken::new()).unwrap(), Some(i));
            }
            assert_eq!(online.run(async { Ok(7) }, &CancelToken::new()).unwrap(), 7);
        });
    }
}
