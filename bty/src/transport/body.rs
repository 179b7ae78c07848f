//! Response bodies. This is the only place that reads from a response: every read has a deadline,
//! and a body that is read as a whole also has a limit in bytes. `clippy.toml` forbids the methods
//! of [`Response`] everywhere else.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The connection broke before the end.
    Broken(reqwest::Error),
    /// No bytes arrived for this long.
    Stalled(Duration),
    /// The body was not complete after this time.
    Late(Duration),
    /// The body has more bytes than this limit.
    TooLarge(usize),
}

/// The next chunk, which must arrive within `stall_timeout`; `None` at the end of the body.
pub(crate) async fn chunk(
    response: &mut Response,
    stall_timeout: Duration,
) -> Result<Option<Bytes>, BodyError> {
    #[expect(clippy::disallowed_methods, reason = "the deadline is around it")]
    match tokio::time::timeout(stall_timeout, response.chunk()).await {
        Ok(chunk) => chunk.map_err(BodyError::Broken),
        Err(_) => Err(BodyError::Stalled(stall_timeout)),
    }
}

/// Reads a whole body of at most `limit_bytes` within `timeout`.
pub(crate) async fn read(
    response: &mut Response,
    limit_bytes: usize,
    timeout: Duration,
) -> Result<Vec<u8>, BodyError> {
    let all = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunk(response, timeout).await? {
            if bytes.len() + chunk.len() > limit_bytes {
                return Err(BodyError::TooLarge(limit_bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(timeout, all).await.unwrap_or(Err(BodyError::Late(timeout)))
}
