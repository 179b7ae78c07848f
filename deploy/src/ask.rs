//! What a server of the site says.

use std::time::Duration;

use bty_web::client::ServerClient;

/// What the server at `url` says at `path`.
pub(crate) fn ask(url: &str, path: &str) -> std::result::Result<serde_json::Value, String> {
    talk(url, async |server| server.get(path).await)
}

/// Whether the server at `url` has something at `path`.
pub(crate) fn has(url: &str, path: &str) -> std::result::Result<bool, String> {
    talk(url, async |server| server.has(path).await)
}

fn talk<T>(
    url: &str,
    say: impl AsyncFnOnce(&ServerClient) -> bty_web::domain::error::Result<T>,
) -> std::result::Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let server = ServerClient::new(url, None).map_err(|e| short(&e))?;
        let answer = tokio::time::timeout(Duration::from_secs(3), say(&server)).await;
        answer.map_err(|_| format!("{url} does not answer within 3 s"))?.map_err(|e| short(&e))
    })
}

/// The cause alone: whoever reads it knows who was asked for what.
fn short(error: &bty_web::domain::error::Error) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or(&text).to_owned()
}
