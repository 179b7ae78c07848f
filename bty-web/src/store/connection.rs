//! A connection to the database.

/// A connection to the database, which the functions of the store take. Only the store can execute
/// SQL with it.
pub struct Connection {
    pub(super) sql: rusqlite::Connection,
}

impl From<rusqlite::Connection> for Connection {
    fn from(sql: rusqlite::Connection) -> Self {
        Self { sql }
    }
}
