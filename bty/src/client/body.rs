//! Bodies of answers. This is the one place that reads from a response: each read has a deadline,
//! and what is read as a whole has a limit in bytes too. `clippy.toml` refuses the methods of
//! [`Response`] everywhere else.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke.
    Broken(reqwest::Error),
    /// Nothing came for so long.
    Stalled(Duration),
    /// Not all of it came in this time.
    Late(Duration),
    /// It has more bytes than this.
    TooLarge(usize),
}

/// The next piece, which must come within `stall`; `None` is the marked end of the body.
pub(crate) async fn chunk(reply: &mut Response, stall: Duration) -> Result<Option<Bytes>, Failure> {
    #[expect(clippy::disallowed_methods, reason = "with the deadline around it")]
    match tokio::time::timeout(stall, reply.chunk()).await {
        Ok(chunk) => chunk.map_err(Failure::Broken),
        Err(_) => Err(Failure::Stalled(stall)),
    }
}

/// All of a body that has at most `limit_bytes`, and comes within `deadline`.
pub(crate) async fn read(
    reply: &mut Response,
    limit_bytes: usize,
    deadline: Duration,
) -> Result<Vec<u8>, Failure> {
    let all = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunk(reply, deadline).await? {
            if bytes.len() + chunk.len() > limit_bytes {
                return Err(Failure::TooLarge(limit_bytes));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(deadline, all).await.unwrap_or(Err(Failure::Late(deadline)))
}
