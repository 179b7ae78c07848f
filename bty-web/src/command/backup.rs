//! `bty-web backup` and `restore`: the whole state, events and secrets included.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bty::CancelToken;
use bty::text::count;

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, Author};
use crate::domain::time::Time;
use crate::durable::PRIVATE_FILE;
use crate::services::jobs::backup::{self, COPY, Written};
use crate::services::transfer;
use crate::state_dir::{self, Use};
use crate::store::database::Database;
use crate::store::state_file::StateFile;

use super::cli::RestoreArgs;
use super::print::out;

/// Name of the database in the state directory.
const STATE: &str = "state.db";

/// Writes a backup to a file, or to the directory of the server's backups. The server may run.
pub(crate) fn back_up(config: &Config, file: Option<&Path>) -> Result<ExitCode> {
    let db = super::existing_state::open(config)?;
    let result = match file {
        Some(path) => write_file(&db, path),
        None => write_dir(&db, config),
    };
    db.close();
    let path = result?;
    out!("bty-web backup -> {}; bty-web restore reads it", path.display());
    Ok(ExitCode::SUCCESS)
}

fn write_file(db: &Database, path: &Path) -> Result<PathBuf> {
    if path.exists() {
        let why = format!("{} exists already; choose another file", path.display());
        return Err(Error::new(ErrorKind::Conflict, why));
    }
    let part = path.with_extension("part");
    // of an interrupted attempt
    let _ = std::fs::remove_file(&part);
    backup::copy_database(db, &part)?;
    std::fs::rename(&part, path).map_err(|e| Error::writing(path, &e))?;
    Ok(path.to_owned())
}

fn write_dir(db: &Database, config: &Config) -> Result<PathBuf> {
    let id = backup::id_at(Time::now());
    let Written { .. } = backup::write(db, &config.backup_dir, &id, &CancelToken::new())?;
    Ok(config.backup_dir.join(id))
}

/// Replaces the state by a backup. No server may use it.
pub(crate) fn restore(config: &Config, args: &RestoreArgs) -> Result<ExitCode> {
    let source = database_of(&args.backup)?;
    let may_be_remote = config.state_may_be_remote;
    let _lock = state_dir::claim(&config.state_dir, Use::State { may_be_remote })?;
    let state = config.state_dir.join(STATE);
    let new = config.state_dir.join("state.db.restoring");
    let result = prepare(&source, &new)
        .and_then(|backup| check_age(&state, backup, args).map(|current| (backup, current)));
    let (backup, current) = match result {
        Ok(found) => found,
        Err(error) => {
            discard(&new);
            return Err(error);
        }
    };
    let what = describe(backup);
    if args.dry_run {
        discard(&new);
        out!("{} would be restored: {what}; nothing was changed", source.display());
        return Ok(ExitCode::SUCCESS);
    }
    let kept = put_in_place(config, &state, &new, current.is_some())?;
    let held = disarm(&state, &source, args.armed)?;
    out!("bty-web restore {}: {what}", source.display());
    if let Some(kept) = kept {
        out!("the state from before is {}", kept.display());
    }
    if held > 0 {
        out!(
            "machines on hold: {held}, because their plans may write to disks; they boot their \
             disks until their assignments are saved; use --armed to let them go on"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the database in `path`, which is a file or the directory of a backup.
fn database_of(path: &Path) -> Result<PathBuf> {
    let path = if path.is_dir() { path.join(COPY) } else { path.to_owned() };
    match path.is_file() {
        true => Ok(path),
        false => Err(Error::not_found(format!("the backup {}", path.display()))),
    }
}

/// Copies the backup, with its write-ahead log if it has one, and checks the copy.
fn prepare(source: &Path, new: &Path) -> Result<StateFile> {
    discard(new);
    for end in ["", "-wal"] {
        let (from, to) = (with_end(source, end), with_end(new, end));
        if from.exists() {
            std::fs::copy(&from, &to).map_err(|e| Error::writing(&to, &e))?;
        }
    }
    let private = Permissions::from_mode(PRIVATE_FILE);
    std::fs::set_permissions(new, private).map_err(|e| Error::writing(new, &e))?;
    let backup = StateFile::settle(new).map_err(|error| {
        // the person knows the backup, and not its copy
        let detail =
            error.detail.replace(&new.display().to_string(), &source.display().to_string());
        Error { detail, ..error }
    })?;
    File::open(new).and_then(|file| file.sync_all()).map_err(|e| Error::writing(new, &e))?;
    Ok(backup)
}

/// Refuses to replace a state that is newer than the backup. Returns what the state holds; `None`
/// if there is none, or if it is damaged.
fn check_age(state: &Path, backup: StateFile, args: &RestoreArgs) -> Result<Option<StateFile>> {
    if !state.is_file() {
        return Ok(None);
    }
    let current = match StateFile::settle(state) {
        Ok(current) => current,
        Err(error) => {
            eprintln!("warning: {}", error.detail);
            return Ok(None);
        }
    };
    if current.newest_event_at > backup.newest_event_at && !args.replace {
        let why = format!(
            "{} is newer ({}) than the backup ({}), so its changes since then would be lost; \
             --replace restores the backup, and keeps the state beside it",
            state.display(),
            describe(current),
            describe(backup)
        );
        return Err(Error::new(ErrorKind::Conflict, why));
    }
    Ok(Some(current))
}

fn describe(state: StateFile) -> String {
    let machines = count(state.machines, "machine");
    match state.newest_event_at {
        Some(at) => format!("{machines}, newest event at {at}"),
        None => machines,
    }
}

/// Renames the state and the checked copy. Returns where the state from before is.
fn put_in_place(
    config: &Config,
    state: &Path,
    new: &Path,
    is_settled: bool,
) -> Result<Option<PathBuf>> {
    let at = |e: std::io::Error| Error::writing(state, &e);
    let owner = config.state_dir.metadata().map_err(at)?;
    // as root: otherwise the server could not open it
    chown(new, Some(owner.uid()), Some(owner.gid())).map_err(at)?;
    let kept = state.with_file_name(format!("state.db.before-{}", backup::id_at(Time::now())));
    let has_state = state.exists();
    for end in ["", "-wal", "-shm"] {
        let (from, to) = (with_end(state, end), with_end(&kept, end));
        // a settled state has nothing in its log; that of a damaged one belongs to it
        match (from.exists(), end.is_empty() || !is_settled) {
            (true, true) => std::fs::rename(&from, &to).map_err(at)?,
            (true, false) => std::fs::remove_file(&from).map_err(at)?,
            (false, _) => {}
        }
    }
    std::fs::rename(new, state).map_err(at)?;
    File::open(&config.state_dir).and_then(|dir| dir.sync_all()).map_err(at)?;
    Ok(has_state.then_some(kept))
}

fn disarm(state: &Path, source: &Path, is_armed: bool) -> Result<usize> {
    let owner = state.metadata().map_err(|e| Error::writing(state, &e))?;
    let db = Database::open(state, ())?;
    let (source, author) = (source.display().to_string(), Author::from(Actor::Operator));
    let held = db.write_blocking(move |t| transfer::disarm(t, &source, is_armed, &author));
    db.close();
    for entry in [state.to_owned(), state.with_extension("schema.lock")] {
        let _ = chown(entry, Some(owner.uid()), Some(owner.gid()));
    }
    held
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn discard(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(with_end(path, end));
    }
}
