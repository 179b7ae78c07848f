//! `bty-web export` and `import`, which work on the state directory without a server.

use std::path::Path;
use std::process::ExitCode;

use bty::text::count;

use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, Author};
use crate::domain::time::Time;
use crate::durable::{PRIVATE_FILE, write_durably};
use crate::services::jobs::backup::FILE;
use crate::services::transfer::{self, ImportRules, ImportSummary, reference};
use crate::state_dir::{self, Use};
use crate::store::database::Database;

use super::print::out;

pub(crate) fn export(config: &Config, dest: &Path) -> Result<ExitCode> {
    let db = super::existing_state::open(config)?;
    let bundle = db.read_blocking(transfer::export)?;
    db.close();
    std::fs::create_dir_all(dest)?;
    write_durably(&dest.join(FILE), &serde_json::to_vec_pretty(&bundle)?, PRIVATE_FILE)?;
    let machines = count(bundle.machines.len(), "machine");
    out!("bty-web export -> {}: {machines}", dest.display());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn import(config: &Config, path: &Path, rules: ImportRules) -> Result<ExitCode> {
    let inside = ["inventory.json", "state.db"]
        .map(|name| path.join(name))
        .into_iter()
        .find(|path| path.is_file());
    let path = inside.unwrap_or_else(|| path.to_owned());
    if !path.is_file() {
        return Err(Error::invalid(format!(
            "cannot import {}: it is neither a file nor a directory that contains inventory.json \
             or state.db",
            path.display()
        )));
    }
    let _lock = state_dir::claim(
        &config.state_dir,
        Use::State { may_be_remote: config.state_may_be_remote },
    )?;
    let now = Time::now();
    // read and check everything before opening the database for writing
    let summary = if reference::is_database(&path) {
        let contents = crate::store::reference::read(&path)?;
        let db = Database::open(&config.state_dir.join("state.db"), ())?;
        let summary = db.write_blocking(move |t| reference::import(t, &contents, rules, now));
        db.close();
        summary?
    } else {
        let bytes = std::fs::read(&path)?;
        let wrong = |e: serde_json::Error| Error::invalid(format!("{}: {e}", path.display()));
        let bundle = serde_json::from_slice(&bytes).map_err(wrong)?;
        let author = Author { actor: Actor::Operator, name: None, ip: None };
        let db = Database::open(&config.state_dir.join("state.db"), ())?;
        let summary = db.write_blocking(move |t| transfer::import(t, bundle, rules, &author, now));
        db.close();
        summary?
    };
    print_summary(&summary);
    Ok(ExitCode::SUCCESS)
}

fn print_summary(summary: &ImportSummary) {
    for skipped in &summary.skipped {
        eprintln!("skipped: {skipped}");
    }
    let ImportSummary { format, machines, held, plans, images, settings, events, .. } = summary;
    out!(
        "bty-web import: {format}: {}, {}, {}, {}, {}",
        count(*machines, "machine"),
        count(*plans, "plan"),
        count(*images, "image"),
        count(*settings, "setting"),
        count(*events, "event")
    );
    if *held > 0 {
        out!(
            "machines on hold: {held}, because their plans may write to disks; they boot their \
             disks until their assignments are saved; use --armed to let them flash at their \
             next boot"
        );
    }
}
