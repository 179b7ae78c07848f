//! The state of a server on this host, for commands that work on it without the server.

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::store::database::Database;

/// Opens the database of a server that has run on this host. Commands never create one, because it
/// would not be the server's.
pub(super) fn open(config: &Config) -> Result<Database> {
    let (dir, path) = (config.state_dir.display(), config.state_dir.join("state.db"));
    let next = "set BTY_PATHS_STATE_DIR to the server's state directory, or --config to its \
                configuration";
    match path.metadata() {
        Ok(meta) if meta.is_file() => Database::open_beside(&path, ()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Forbidden,
            format!(
                "cannot access the state directory {dir}: {e}; run this as root or as the server's \
                 user, or {next}"
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::NotFound,
            format!("{dir} contains no state of a server; {next}"),
        )),
    }
}
