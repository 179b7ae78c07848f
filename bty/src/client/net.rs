//! The runtime and the HTTP client that all network origins share.
//!
//! Nothing here reads an environment variable: proxies and certificates come from [`ClientOptions`] and from well-known files.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use reqwest::{NoProxy, Proxy};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::runtime::{Builder, Runtime};
use url::Url;

use super::reach::{self, Guarded};
use super::{ClientOptions, MayReach};
use crate::oci::{self, OciBlob, OciReference};
use crate::source::http;
use crate::{CancelToken, Error, ErrorKind, Location, Result, Source, threads};

/// How the library introduces itself to servers.
pub(crate) const USER_AGENT: &str = concat!("bty/", env!("CARGO_PKG_VERSION"));

const REDIRECTS_MAX: usize = 10;

/// How often a blocked caller looks at its token.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Where distributions keep the bundle of authorities they trust; the first that holds any is taken.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",                  // older RHEL
    "/etc/ssl/ca-bundle.pem",                            // SUSE
    "/etc/ssl/cert.pem",                                 // Alpine
];

/// The network, which starts when it is first needed.
pub(crate) struct Net {
    options: Arc<ClientOptions>,
    online: Mutex<Option<Arc<Online>>>,
}

impl Net {
    pub(crate) fn new(options: Arc<ClientOptions>) -> Self {
        Self { options, online: Mutex::new(None) }
    }

    pub(crate) fn open_http(&self, url: &Url, cancel: &CancelToken) -> Result<Source> {
        let input = http::HttpInput::open(&self.online()?, url, None, cancel)?;
        Ok(Source {
            location: Location::Http(url.clone()),
            name: http::name_of(url),
            input: Arc::new(input),
            expected: None,
        })
    }

    pub(crate) fn open_oci(&self, reference: &OciReference, cancel: &CancelToken) -> Result<Source> {
        oci::open(&self.online()?, reference, cancel).map_err(|e| e.context(format!("opening {reference}")))
    }

    pub(crate) fn resolve_oci(&self, reference: &OciReference, cancel: &CancelToken) -> Result<OciBlob> {
        oci::resolve(&*self.online()?, reference, cancel).map_err(|e| e.context(format!("resolving {reference}")))
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
        let http = Http::new(options, trusted_roots(options)?)?;
        // the runtime panics when it is refused a thread
        if threads::available(WORKERS) < WORKERS {
            return Err(threads::refused(std::io::ErrorKind::WouldBlock.into()).context("starting the network threads"));
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
            Ok(Err(e)) => Err(Error::new(ErrorKind::Host, "a network task ended unexpectedly").because(e)),
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
/// Works on any thread, also on one of a runtime that the library does not own (`Handle::block_on` would panic there).
pub(crate) fn wait<F: Future>(future: F, cancel: &CancelToken) -> Result<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    // unconstrained: on a foreign runtime's thread the budget of its task would run out and never be refilled
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
    pub(crate) client: reqwest::Client,
    /// Follows no redirects: what is sent goes to the host that was named.
    pub(crate) direct: reqwest::Client,
    pub(crate) options: Arc<ClientOptions>,
}

impl Http {
    fn new(options: &Arc<ClientOptions>, roots: Vec<CertificateDer<'static>>) -> Result<Self> {
        let broken =
            |e: &dyn std::fmt::Display| Error::new(ErrorKind::Host, format!("setting up the HTTP client: {e}"));
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        // A provider of our own: the process-wide default belongs to the program, not to a library.
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| broken(&e))?
            .with_root_certificates(store)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];

        let build = |redirects: reqwest::redirect::Policy| -> Result<reqwest::Client> {
            #[expect(clippy::disallowed_methods, reason = "this is the client that all requests go through")]
            let mut builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                // some registries' storage resets long HTTP/2 streams
                .http1_only()
                .no_proxy()
                .user_agent(USER_AGENT)
                .referer(false)
                .redirect(redirects)
                .connect_timeout(options.connect_timeout)
                // the bytes that were digested are the bytes on the wire
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate();
            if let Some(may_reach) = &options.may_reach {
                builder = builder.dns_resolver(Arc::new(Guarded::new(Arc::clone(may_reach))));
            }
            for proxy in proxies(options)? {
                builder = builder.proxy(proxy);
            }
            builder.build().map_err(|e| broken(&e))
        };
        let client = build(follow(options.may_reach.clone()))?;
        let direct = build(reqwest::redirect::Policy::none())?;
        Ok(Self { client, direct, options: Arc::clone(options) })
    }
}

/// Follows redirections, so far and to where it is allowed.
fn follow(may_reach: Option<MayReach>) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        if let Err(refused) = reach::check_literal(may_reach.as_ref(), attempt.url()) {
            return attempt.error(refused);
        }
        match attempt.previous().len() > REDIRECTS_MAX {
            true => attempt.error("too many redirects"),
            false => attempt.follow(),
        }
    })
}

fn proxies(options: &ClientOptions) -> Result<Vec<Proxy>> {
    // the address may hold a password, so it is not shown
    let bad = |scheme: &str, e: reqwest::Error| {
        Error::new(ErrorKind::Usage, format!("the proxy for {scheme} is no address"))
            .because(e.without_url())
            .hint("write http://host:port; a user and a password stand before the host, as in user:password@host")
    };
    let no_proxy = || options.no_proxy.as_deref().and_then(NoProxy::from_string);
    let mut proxies = Vec::new();
    if let Some(address) = &options.http_proxy {
        proxies.push(Proxy::http(address).map_err(|e| bad("http", e))?.no_proxy(no_proxy()));
    }
    if let Some(address) = &options.https_proxy {
        proxies.push(Proxy::https(address).map_err(|e| bad("https", e))?.no_proxy(no_proxy()));
    }
    Ok(proxies)
}

/// The system's authorities, as far as they can be read, and all of the caller's.
///
/// A system without any is no error: plain HTTP and the caller's own authorities work all the same.
fn trusted_roots(options: &ClientOptions) -> Result<Vec<CertificateDer<'static>>> {
    let mut store = RootCertStore::empty();
    let mut roots = system_roots(&SYSTEM_ROOTS.map(Path::new));
    roots.retain(|root| store.add(root.clone()).is_ok());
    for path in &options.ca_files {
        let shown = &path.display();
        let pem = std::fs::read(path).map_err(|e| {
            Error::new(ErrorKind::Host, format!("reading the certificates in {shown}")).because(e).with_path(shown)
        })?;
        let unusable = |why: String| {
            Error::new(ErrorKind::Usage, format!("{shown} holds no usable certificate: {why}"))
                .with_path(shown)
                .hint("give the authority's certificate in PEM form")
        };
        let before = roots.len();
        for root in CertificateDer::pem_slice_iter(&pem) {
            let root = root.map_err(|e| unusable(e.to_string()))?;
            store.add(root.clone()).map_err(|e| unusable(e.to_string()))?;
            roots.push(root);
        }
        if roots.len() == before {
            return Err(unusable("there is none in it".to_owned()));
        }
    }
    Ok(roots)
}

fn system_roots(bundles: &[&Path]) -> Vec<CertificateDer<'static>> {
    bundles
        .iter()
        .filter_map(|path| std::fs::read(path).ok())
        .map(|pem| CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect::<Vec<_>>())
        .find(|roots| !roots.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_certificates_still_gets_a_client() {
        assert!(system_roots(&[Path::new("/nonexistent"), Path::new("/dev/null")]).is_empty());
        assert!(Http::new(&Arc::default(), Vec::new()).is_ok());
    }

    #[test]
    fn an_unusable_certificate_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, kind) in [
            ("", ErrorKind::Usage),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ErrorKind::Usage),
        ] {
            std::fs::write(file.path(), content).unwrap();
            let options = ClientOptions { ca_files: vec![file.path().to_owned()], ..ClientOptions::default() };
            let error = trusted_roots(&options).unwrap_err();
            assert_eq!((error.kind(), error.path()), (kind, file.path().to_str()));
        }
        let options = ClientOptions { ca_files: vec!["/nonexistent.pem".into()], ..ClientOptions::default() };
        assert_eq!(trusted_roots(&options).unwrap_err().kind(), ErrorKind::Host);
    }

    #[test]
    fn a_bad_proxy_is_refused_without_showing_its_password() {
        let options = ClientOptions { http_proxy: Some("http://user:secret@:x".into()), ..ClientOptions::default() };
        let error = proxies(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }

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
