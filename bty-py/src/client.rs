//! HTTP clients for web servers and registries.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bty::ClientOptions;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::{arguments, errors};

/// How web servers and registries are accessed: proxies, certificates, timeouts, credentials. The
/// default proxies are those of the environment.
#[pyclass(frozen, module = "bty")]
pub(crate) struct Client {
    options: ClientOptions,
    /// Process id and client: the threads of a client do not survive a fork, so that each process
    /// needs a client of its own.
    by_process: Mutex<(u32, bty::Client)>,
}

fn seconds(value: Option<f64>, default: Duration) -> PyResult<Duration> {
    let Some(value) = value else { return Ok(default) };
    Duration::try_from_secs_f64(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

impl Client {
    /// The client for this process.
    pub(crate) fn get(&self) -> bty::Client {
        let mut current = self.by_process.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 != std::process::id() {
            let parent = std::mem::replace(
                &mut *current,
                (std::process::id(), bty::Client::new(self.options.clone())),
            );
            // dropping it would wait for threads that exist only in the parent process
            std::mem::forget(parent);
        }
        current.1.clone()
    }

    fn with(options: ClientOptions) -> Self {
        let client = bty::Client::new(options.clone());
        Self { by_process: Mutex::new((std::process::id(), client)), options }
    }

    fn options_of_environment() -> ClientOptions {
        let mut options = ClientOptions::default();
        options.set_proxies_from(&|name| std::env::var(name).ok());
        options
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (
        *, http_proxy=None, https_proxy=None, no_proxy=None, ca_files=None, plain_http=false,
        connect_timeout=None, stall_timeout=None, attempts=None, retry_delay=None, spool_dir=None,
        netrc=None, auth_file=None
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments in Python
    fn new(
        py: Python<'_>,
        http_proxy: Option<String>,
        https_proxy: Option<String>,
        no_proxy: Option<String>,
        ca_files: Option<Vec<Bound<'_, PyAny>>>,
        plain_http: bool,
        connect_timeout: Option<f64>,
        stall_timeout: Option<f64>,
        attempts: Option<u32>,
        retry_delay: Option<f64>,
        spool_dir: Option<Bound<'_, PyAny>>,
        netrc: Option<Bound<'_, PyAny>>,
        auth_file: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut options = Self::options_of_environment();
        options.http_proxy = http_proxy.or(options.http_proxy);
        options.https_proxy = https_proxy.or(options.https_proxy);
        options.no_proxy = no_proxy.or(options.no_proxy);
        let files = ca_files.unwrap_or_default();
        options.ca_files = files.iter().map(arguments::path).collect::<PyResult<Vec<PathBuf>>>()?;
        options.plain_http = plain_http;
        options.connect_timeout = seconds(connect_timeout, options.connect_timeout)?;
        options.stall_timeout = seconds(stall_timeout, options.stall_timeout)?;
        options.attempts = attempts.unwrap_or(options.attempts).max(1);
        options.retry_delay = seconds(retry_delay, options.retry_delay)?;
        if let Some(dir) = spool_dir {
            options.spool_dir = arguments::path(&dir)?;
        }
        let failed = |error: bty::Error| errors::of(py, &error);
        if let Some(file) = auth_file {
            options.credentials.add_auth_file(&arguments::path(&file)?).map_err(failed)?;
        }
        if let Some(file) = netrc {
            options.credentials.add_netrc(&arguments::path(&file)?).map_err(failed)?;
        }
        Ok(Self::with(options))
    }

    fn __repr__(&self) -> String {
        format!("<bty.Client attempts={}>", self.options.attempts)
    }
}

/// The given client, or a shared default one.
pub(crate) fn of(py: Python<'_>, given: Option<&Bound<'_, Client>>) -> bty::Client {
    static SHARED: PyOnceLock<Client> = PyOnceLock::new();
    match given {
        Some(client) => client.get().get(),
        None => SHARED.get_or_init(py, || Client::with(Client::options_of_environment())).get(),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Client>()
}
