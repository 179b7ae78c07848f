//! Serving until somebody ends it.

use std::process::ExitCode;

use bty_web::config::Config;
use bty_web::error::{Error, Result};
use bty_web::server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub(crate) fn run(config: Config) -> Result<ExitCode> {
    let filter = EnvFilter::try_new(&config.log).map_err(|e| Error::invalid(format!("server.log: {e}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.logs_json {
        log.json().flatten_event(true).init();
    } else {
        log.with_ansi(std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init();
    }
    crate::block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        server::serve(config, async move {
            tokio::select! {
                _ = end.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
    })?;
    Ok(ExitCode::SUCCESS)
}
