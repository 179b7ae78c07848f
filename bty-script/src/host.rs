//! What the command takes from its surroundings: proxies, Ctrl-C. The library itself reads none of it.

use std::sync::Arc;

use bty::{CancelToken, Client, ClientOptions, Error, ErrorKind, Observer, Result};

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

/// A token that the first Ctrl-C, SIGTERM or SIGHUP cancels. The second Ctrl-C ends the program at once:
/// the first MiB of a disk is written last, so even then nothing half-written boots.
pub(crate) fn cancel_on_signal() -> Result<CancelToken> {
    let cancel = CancelToken::new();
    let token = cancel.clone();
    ctrlc::set_handler(move || {
        if token.is_cancelled() {
            std::process::exit(i32::from(crate::exit::CANCELLED));
        }
        token.cancel();
    })
    .map_err(|e| Error::new(ErrorKind::Host, "listening for signals").because(e))?;
    Ok(cancel)
}
