//! Stands in for the listeners if the feature `tftp` is off.

use std::sync::Arc;

use super::server::TftpServer;
use crate::domain::error::{Error, ErrorKind, Result};

/// Serves nothing.
///
/// # Errors
/// [`ErrorKind::Conflict`], always.
pub async fn serve(_: Arc<TftpServer>, _: impl Future<Output = ()>) -> Result<()> {
    let message = "TFTP cannot be served: the feature \"tftp\" is off in this program";
    Err(Error::new(ErrorKind::Conflict, message))
}
