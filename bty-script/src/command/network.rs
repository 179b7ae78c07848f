//! How others are reached: proxies from the environment, which the library itself does not read.

use std::sync::Arc;

use bty::{Client, ClientOptions, Observer};

use crate::cli::Network;

/// A client as the command line and the environment want it.
pub(crate) fn client(network: &Network, observer: Arc<dyn Observer>) -> Client {
    let mut options = ClientOptions::default();
    options.http_proxy = variable(&["http_proxy", "HTTP_PROXY"]);
    options.https_proxy = variable(&["https_proxy", "HTTPS_PROXY"]);
    options.no_proxy = variable(&["no_proxy", "NO_PROXY"]);
    options.ca_files.clone_from(&network.ca);
    options.plain_http = network.plain_http;
    options.spool_dir.clone_from(&network.spool_dir);
    options.observer = observer;
    Client::new(options)
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
}
