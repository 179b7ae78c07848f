//! Converts errors of SQLite to errors of the server.

use crate::domain::error::Error;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let cause = format!("database: {error}");
        let code = error.sqlite_error().copied();
        // the shared-memory file beside the database may be the one that cannot grow
        let is_full = code.is_some_and(|code| {
            code.code == rusqlite::ErrorCode::DiskFull
                || code.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
        });
        if is_full { Self::full(cause) } else { Self::internal(cause) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::error::ErrorKind;

    #[test]
    fn a_full_disk_is_not_an_internal_error() {
        let kind = |code| {
            Error::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)).kind
        };
        assert_eq!(kind(rusqlite::ffi::SQLITE_FULL), ErrorKind::Full);
        assert_eq!(kind(rusqlite::ffi::SQLITE_IOERR_SHMSIZE), ErrorKind::Full);
        assert_eq!(kind(rusqlite::ffi::SQLITE_IOERR_READ), ErrorKind::Internal);
    }
}
