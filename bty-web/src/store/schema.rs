//! The schema of the database, and its migration at startup. A migration first copies the database,
//! then runs in one transaction. If it fails, the file stays unchanged.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::domain::error::{Error, ErrorKind, Result};

/// All migrations, in order. Each upgrades one schema version to the next, and keeps all data.
const STEPS: [&str; 5] = [
    include_str!("../../migrations/0001_state.sql"),
    include_str!("../../migrations/0002_cache.sql"),
    include_str!("../../migrations/0003_limits.sql"),
    include_str!("../../migrations/0004_packed.sql"),
    include_str!("../../migrations/0005_fleet.sql"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// Number of the previous schema.
    pub from: usize,
    /// Number of the current schema.
    pub to: usize,
    /// Copy of the database before the upgrade.
    pub copy: PathBuf,
}

fn migrations(steps: &[&'static str]) -> Migrations<'static> {
    Migrations::new(steps.iter().copied().map(M::up).collect())
}

/// Returns the path for the copy of `path` with the schema `number`.
fn copy_of(path: &Path, number: usize) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.schema-{number}.bak"))
}

/// True if the database at `path` has an earlier schema.
pub(super) fn is_behind(path: &Path) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let number = number(&Connection::open(path).map_err(|e| unreadable(path, &e))?, path)?;
    Ok((1..STEPS.len()).contains(&number))
}

fn number(conn: &Connection, path: &Path) -> Result<usize> {
    let number: i64 = conn
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|e| unreadable(path, &e))?;
    usize::try_from(number).map_err(|_| later(path, "an unknown number"))
}

/// Migrates the database at `path` to the newest schema; `None` if it was new or up to date.
pub(super) fn bring_up(conn: &mut Connection, path: &Path) -> Result<Option<Upgrade>> {
    let (from, to) = (number(conn, path)?, STEPS.len());
    if from > to {
        return Err(later(path, &from.to_string()));
    }
    if from == 0 {
        let tables: i64 = conn
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|e| unreadable(path, &e))?;
        if tables > 0 {
            return Err(foreign(path));
        }
    }
    if from == to || from == 0 {
        migrations(&STEPS).to_latest(conn).map_err(|e| unreadable(path, &e))?;
        return Ok(None);
    }
    let copy = copy_of(path, from);
    keep(conn, &copy).map_err(|e| failed(path, from, &e))?;
    if let Err(e) = migrations(&STEPS).to_latest(conn) {
        // the migration was rolled back, so the copy is not needed
        let _ = std::fs::remove_file(&copy);
        return Err(failed(path, from, &e));
    }
    tracing::info!(from, to, copy = %copy.display(), "upgraded the schema of the state");
    Ok(Some(Upgrade { from, to, copy }))
}

/// Makes a durable and complete copy, or none. It reads every page, so damage is detected before
/// the migration changes anything.
fn keep(conn: &Connection, copy: &Path) -> Result<()> {
    let part = copy.with_extension("part");
    let made = || -> Result<()> {
        match std::fs::remove_file(&part) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        conn.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
        // private: the copy contains digests of secrets
        std::fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
        std::fs::File::open(&part)?.sync_all()?;
        std::fs::rename(&part, copy)?;
        std::fs::File::open(copy.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    };
    made().inspect_err(|_| {
        for left in [&part, &part.with_extension("part-journal")] {
            let _ = std::fs::remove_file(left);
        }
    })
}

fn refused(detail: String) -> Error {
    Error::new(ErrorKind::Conflict, detail)
}

fn unreadable(path: &Path, e: &dyn std::fmt::Display) -> Error {
    let path = path.display();
    refused(format!(
        "{path} cannot be read as a database ({e}); replace it with the state.db of a backup, and \
         start again"
    ))
}

fn foreign(path: &Path) -> Error {
    let path = path.display();
    refused(format!(
        "{path} is not a state of this server; set BTY_PATHS_STATE_DIR to another directory, and \
         import a state of the reference server with bty-web import {path}"
    ))
}

fn failed(path: &Path, from: usize, e: &dyn std::fmt::Display) -> Error {
    let (path, to) = (path.display(), STEPS.len());
    // keep one line: the message of SQLite contains the whole SQL
    let why = e.to_string();
    let why = why.lines().next().unwrap_or_default();
    refused(format!(
        "{path} could not be upgraded from schema {from} to {to} ({why}), and is unchanged; \
         correct the cause and start again, or start the previous version of bty-web"
    ))
}

/// Returns the error for a database of a later version, which stays unchanged.
fn later(path: &Path, number: &str) -> Error {
    let known = STEPS.len();
    let copy = (1..=known).rev().map(|number| copy_of(path, number)).find(|copy| copy.is_file());
    let way = match copy {
        Some(copy) => {
            format!(
                "to go back, replace it with {}, which lacks all changes since that upgrade",
                copy.display()
            )
        }
        None => "to go back, replace it with a backup from before the upgrade".to_owned(),
    };
    let (path, version) = (path.display(), env!("CARGO_PKG_VERSION"));
    refused(format!(
        "{path} has schema {number} of a later version, but bty-web {version} supports at most \
         schema {known}; start the later version again, or, {way}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_the_newest_one() {
        migrations(&STEPS).validate().unwrap();
    }

    #[test]
    fn there_is_a_state_of_every_schema_to_test_with() {
        for number in 1..=STEPS.len() {
            let file = format!("{}/schemas/{number:04}.sql", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(
                text.trim_end().ends_with(&format!("PRAGMA user_version = {number};")),
                "{file}"
            );
        }
    }
}
