//! Writes large request bodies to files as they arrive.

use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use futures_util::{Stream, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::io::StreamReader;

use crate::domain::error::{Error, Result};
use crate::http::extract::incomplete_body;

/// How long the server keeps reading a body that it has refused.
const DRAIN: Duration = Duration::from_secs(5);
const DRAIN_BYTES_MAX: u64 = 256 << 20;

/// Where and how a body is received.
pub struct Receiver<'a> {
    /// Directory that errors of the file name.
    pub dir: &'a Path,
    /// Maximum number of bytes.
    pub limit: u64,
    /// Minimum rate of bodies in bytes per second, for the error message.
    pub rate: u64,
}

impl Receiver<'_> {
    /// Writes `body` to `file`, and returns the number of bytes. If it is larger than the limit,
    /// one byte more than that is written, so that the caller can tell. What has been written stays
    /// after an error.
    ///
    /// # Errors
    /// - [`ErrorKind::Full`](crate::domain::error::ErrorKind::Full) when the disk has no space.
    /// - The errors of [`incomplete_body`].
    pub async fn receive<E>(
        &self,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        file: &mut tokio::fs::File,
    ) -> Result<u64>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut body = StreamReader::new(body.map_err(io::Error::other));
        let mut limited = (&mut body).take(self.limit.saturating_add(1));
        let copied = tokio::io::copy_buf(&mut limited, file).await;
        let unwritten = |e: io::Error| Error::writing(self.dir, &e);
        // the operating system reports only errors of the file; errors of the body are created here
        let bytes = match copied {
            Ok(bytes) => bytes,
            Err(e) if e.raw_os_error().is_some() => {
                drain(&mut body).await;
                return Err(unwritten(e));
            }
            Err(e) => {
                // keep what has arrived, for a client that continues
                let _ = file.flush().await;
                return Err(incomplete_body(self.rate, &e));
            }
        };
        if bytes > self.limit {
            drain(&mut body).await;
        }
        file.flush().await.map_err(unwritten)?;
        Ok(bytes)
    }
}

/// Reads the rest of the client's request. If the server closed the connection earlier, the client
/// would see a reset instead of the response.
async fn drain(body: &mut (impl AsyncRead + Unpin)) {
    let mut rest = body.take(DRAIN_BYTES_MAX);
    let _ = tokio::time::timeout(DRAIN, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// Reads and drops a body that the server has refused; see [`Receiver`].
pub async fn discard<E>(body: impl Stream<Item = Result<Bytes, E>> + Unpin)
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    drain(&mut StreamReader::new(body.map_err(io::Error::other))).await;
}

/// Returns the size of the body in bytes, if the client has declared it.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
