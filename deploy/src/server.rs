//! Requests to a running server of the site, with a timeout.

use std::time::Duration;

use bty_web::ServerClient;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Fetches the JSON at `path` from the server at `url`. The error is the cause alone, since the
/// caller knows the request.
pub(crate) fn get(url: &str, path: &str) -> std::result::Result<serde_json::Value, String> {
    request(url, async |server| server.get(path).await)
}

/// True if the server at `url` has a file at `path`.
pub(crate) fn exists(url: &str, path: &str) -> std::result::Result<bool, String> {
    request(url, async |server| server.has(path).await)
}

fn request<T>(
    url: &str,
    send: impl AsyncFnOnce(&ServerClient) -> bty_web::Result<T>,
) -> std::result::Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let server = ServerClient::new(url, None).map_err(|e| cause(&e))?;
        let answer = tokio::time::timeout(TIMEOUT, send(&server)).await;
        answer
            .map_err(|_| format!("{url} does not answer within {} s", TIMEOUT.as_secs()))?
            .map_err(|e| cause(&e))
    })
}

/// The innermost cause of an error, which its text has last.
fn cause(error: &bty_web::Error) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or(&text).to_owned()
}
