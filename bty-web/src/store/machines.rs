//! The tables of machines and of the hardware that they posted.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, RowIndex, params, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::Connection;
use super::search;
use crate::domain::error::Result;
use crate::domain::mac::Mac;
use crate::domain::machine::firmware::{FirmwareId, MachineIdentity};
use crate::domain::machine::search::MachineSearch;
use crate::domain::machine::silence::SilenceLimit;
use crate::domain::machine::{Machine, MachineStatus, Phase, Stage};
use crate::domain::time::Time;

const COLUMNS: &str = "mac, plan, image_ref, target_serial, sanboot_drive, extra_args, \
                       params_json, labels_json, state_json, hold, cycle_json, answers_json, \
                       history_json, disks_json, disks_at, hardware_json, flashed_json, \
                       discovered_at, last_seen_at, last_seen_ip, created_at, updated_at, \
                       netboot_version, image_sha256, name";

/// The columns that rarely change, which [`put`] writes only then.
const RARE: &str = "identity_json, macs_json";

/// Returns the machine with this MAC address.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn get(conn: &Connection, mac: &Mac) -> Result<Option<Machine>> {
    let mut select = conn
        .sql
        .prepare_cached(&format!("SELECT {COLUMNS}, {RARE} FROM machines WHERE mac = ?1"))?;
    select.query_row([mac.as_str()], |row| Ok(from_row(row))).optional()?.transpose()
}

/// Returns all machines, sorted by MAC address.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn all(conn: &Connection) -> Result<Vec<Machine>> {
    let mut select =
        conn.sql.prepare_cached(&format!("SELECT {COLUMNS}, {RARE} FROM machines ORDER BY mac"))?;
    let rows = select.query_map([], |row| Ok(from_row(row)))?;
    rows.map(|row| row?).collect()
}

/// Calls `visit` with each machine that `search` finds, sorted by MAC address, until it returns
/// false. Keeps only one machine in memory at a time.
///
/// # Errors
/// The errors of `visit`, and `ErrorKind::Internal` when the database cannot be read.
pub fn each(
    conn: &Connection,
    search: &MachineSearch,
    mut visit: impl FnMut(Machine) -> Result<bool>,
) -> Result<()> {
    let (found, values) = search::found(search);
    let sql = format!("SELECT {COLUMNS}, {RARE} FROM machines WHERE {found} ORDER BY mac");
    let mut select = conn.sql.prepare(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        if !visit(from_row(row)?)? {
            break;
        }
    }
    Ok(())
}

/// The columns of a machine that long lists show.
#[derive(Clone, Debug)]
pub struct Brief {
    /// MAC address.
    pub mac: String,
    /// What people call it; empty for none.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Name of its plan.
    pub plan: String,
    /// Reference of its image.
    pub image_ref: Option<String>,
    /// Serial number of its disk.
    pub serial: Option<String>,
    /// Why it is on hold.
    pub hold: Option<String>,
    /// Stage of its most recent boot cycle; `None` once an operator has given a new order since.
    pub stage: Option<Stage>,
    /// Mode of the order in that cycle.
    pub mode: Option<String>,
    /// True if that cycle has been silent for too long.
    pub is_silent: bool,
    /// When it last sent a request.
    pub seen_at: Option<Time>,
    /// The address of that request.
    pub seen_ip: Option<String>,
    /// When its last flash completed.
    pub flashed_at: Option<Time>,
}

impl Brief {
    /// Returns the status of the machine.
    #[must_use]
    pub fn status(&self) -> MachineStatus<'_> {
        MachineStatus {
            plan: &self.plan,
            hold: self.hold.as_deref(),
            stage: self.stage,
            mode: self.mode.as_deref(),
            is_silent: self.is_silent,
        }
    }
}

/// Returns the rows of a list of the machines that `search` finds, sorted by MAC address.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn briefs(
    conn: &Connection,
    search: &MachineSearch,
    limit: &SilenceLimit,
) -> Result<Vec<Brief>> {
    let mut all = Vec::new();
    each_brief(conn, search, limit, |brief| all.push(brief))?;
    Ok(all)
}

/// Calls `visit` with the row of each machine that `search` finds, sorted by MAC address.
fn each_brief(
    conn: &Connection,
    search: &MachineSearch,
    limit: &SilenceLimit,
    mut visit: impl FnMut(Brief),
) -> Result<()> {
    let (found, values) = search::found(search);
    let mut select = conn.sql.prepare(&format!(
        "SELECT mac, labels_json, plan, image_ref, target_serial, hold, cycle_json ->> '$.stage',
                cycle_json ->> '$.order.mode', last_seen_at, last_seen_ip, flashed_json ->> '$.at',
                cycle_json ->> '$.is_past', cycle_json ->> '$.heard_at',
                cycle_json ->> '$.progress.phase', cycle_json ->> '$.stalled_at' IS NOT NULL,
                name
         FROM machines WHERE {found} ORDER BY mac",
    ))?;
    let mut rows = select.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        visit(brief(row, limit)?);
    }
    Ok(())
}

fn brief(row: &Row<'_>, limit: &SilenceLimit) -> Result<Brief> {
    let time = |text: Option<String>| text.and_then(|at| Time::parse(&at));
    let is_current = row.get::<_, Option<bool>>(11)? != Some(true);
    let stage: Option<String> = row.get(6)?;
    let mode = row.get::<_, Option<String>>(7)?.filter(|_| is_current);
    let phase: Option<String> = row.get(13)?;
    let heard_at = time(row.get(12)?).unwrap_or(limit.now);
    Ok(Brief {
        mac: row.get(0)?,
        name: row.get(15)?,
        labels: parse(row, 1)?,
        plan: row.get(2)?,
        image_ref: row.get(3)?,
        serial: row.get(4)?,
        hold: row.get(5)?,
        stage: stage
            .filter(|_| is_current)
            .and_then(|stage| serde_json::from_value(Value::String(stage)).ok()),
        is_silent: row.get(14)? || limit.is_exceeded(heard_at, mode.as_deref(), phase.as_deref()),
        mode,
        seen_at: row.get(8)?,
        seen_ip: row.get(9)?,
        flashed_at: time(row.get(10)?),
    })
}

/// Returns the machines with an open boot cycle that is not recorded as stalled although it exceeds
/// `limit`.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn newly_stalled(conn: &Connection, limit: &SilenceLimit) -> Result<Vec<Mac>> {
    // the first condition must match that of the index machines_open literally
    let mut select = conn.sql.prepare_cached(
        "SELECT mac, cycle_json ->> '$.heard_at', cycle_json ->> '$.order.mode',
                cycle_json ->> '$.progress.phase'
         FROM machines
         WHERE cycle_json ->> '$.stage' IN ('offered', 'booting', 'working')
           AND cycle_json ->> '$.stalled_at' IS NULL",
    )?;
    let mut rows = select.query([])?;
    let mut stalled = Vec::new();
    while let Some(row) = rows.next()? {
        let (mac, heard_at): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let (mode, phase): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        let heard_at = heard_at.and_then(|at| Time::parse(&at)).unwrap_or(limit.now);
        if limit.is_exceeded(heard_at, mode.as_deref(), phase.as_deref()) {
            stalled.extend(mac.parse::<Mac>());
        }
    }
    Ok(stalled)
}

/// Numbers of machines, each with their phase and their [state](MachineStatus::state).
pub type MachineCounts = BTreeMap<(Phase, &'static str), i64>;

/// Counts the machines by their phase and state.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn count_by_state(conn: &Connection, limit: &SilenceLimit) -> Result<MachineCounts> {
    let mut counts = MachineCounts::new();
    each_brief(conn, &MachineSearch::default(), limit, |brief| {
        let status = brief.status();
        *counts.entry((status.phase(), status.state())).or_default() += 1;
    })?;
    Ok(counts)
}

/// Returns the number of machines.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn count(conn: &Connection) -> Result<i64> {
    Ok(conn.sql.query_row("SELECT count(*) FROM machines", [], |row| row.get(0))?)
}

/// Returns the number of machines with each plan.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn count_by_plan(conn: &Connection) -> Result<Vec<(String, i64)>> {
    let mut select = conn
        .sql
        .prepare_cached("SELECT plan, count(*) FROM machines GROUP BY plan ORDER BY plan")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the number of machines with each image.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn count_by_image(conn: &Connection) -> Result<Vec<(String, i64)>> {
    let sql =
        "SELECT image_ref, count(*) FROM machines WHERE image_ref IS NOT NULL GROUP BY image_ref";
    let mut select = conn.sql.prepare_cached(sql)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Inserts or replaces a machine, and its texts for searches.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put(conn: &Connection, machine: &Machine) -> Result<()> {
    let mut upsert = conn.sql.prepare_cached(&format!(
        "INSERT INTO machines ({COLUMNS})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20, ?21, ?22, ?23, ?24, ?25)
         ON CONFLICT (mac) DO UPDATE SET
             plan = ?2, image_ref = ?3, target_serial = ?4, sanboot_drive = ?5, extra_args = ?6,
             params_json = ?7, labels_json = ?8, state_json = ?9, hold = ?10, cycle_json = ?11,
             answers_json = ?12, history_json = ?13, disks_json = ?14, disks_at = ?15,
             hardware_json = ?16, flashed_json = ?17, discovered_at = ?18, last_seen_at = ?19,
             last_seen_ip = ?20, created_at = ?21, updated_at = ?22, netboot_version = ?23,
             image_sha256 = ?24, name = ?25"
    ))?;
    upsert.execute(params![
        machine.mac.as_str(),
        machine.plan,
        machine.image_ref,
        machine.target_serial,
        machine.sanboot_drive,
        machine.extra_args,
        json(&machine.params)?,
        json(&machine.labels)?,
        json(&machine.state)?,
        machine.hold,
        machine.cycle.as_ref().map(json).transpose()?,
        json(&machine.answers)?,
        json(&machine.history)?,
        machine.disks.as_ref().map(json).transpose()?,
        machine.disks_at,
        json(&machine.hardware)?,
        machine.flashed.as_ref().map(json).transpose()?,
        machine.discovered_at,
        machine.last_seen_at,
        machine.last_seen_ip,
        machine.created_at,
        machine.updated_at,
        machine.netboot_version,
        machine.image_sha256,
        machine.name,
    ])?;
    put_identity(conn, machine)?;
    search::put(conn, machine)
}

/// Writes the texts for searches of all machines that have none, after an upgrade of the schema.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub(super) fn complete_texts(conn: &Connection) -> Result<()> {
    let missing = {
        let sql = "SELECT mac FROM machines WHERE mac NOT IN (SELECT mac FROM machine_texts)";
        let mut select = conn.sql.prepare(sql)?;
        let rows = select.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()?
    };
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = conn.sql.unchecked_transaction()?;
    for mac in &missing {
        let mac: Mac = mac.parse().map_err(crate::domain::error::Error::internal)?;
        if let Some(machine) = get(conn, &mac)? {
            search::put(conn, &machine)?;
        }
    }
    Ok(transaction.commit()?)
}

/// Writes the columns that have indexes only if they change, which is rare.
fn put_identity(conn: &Connection, machine: &Machine) -> Result<()> {
    let mut update = conn.sql.prepare_cached(
        "UPDATE machines SET identity_json = ?2, macs_json = ?3
         WHERE mac = ?1 AND (identity_json IS NOT ?2 OR macs_json IS NOT ?3)",
    )?;
    let identity = machine.identity.as_ref().map(json).transpose()?;
    update.execute(params![machine.mac.as_str(), identity, json(&machine.macs)?])?;
    Ok(())
}

/// Returns the machine with this MAC address, or to which the network card with it belongs.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn find(conn: &Connection, mac: &Mac) -> Result<Option<Machine>> {
    if let Some(machine) = get(conn, mac)? {
        return Ok(Some(machine));
    }
    match owners(conn)?.into_iter().find(|(card, _)| card == mac) {
        Some((_, owner)) => get(conn, &owner),
        None => Ok(None),
    }
}

/// Returns the MAC addresses of all further network cards, each with that of its machine.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn owners(conn: &Connection) -> Result<Vec<(Mac, Mac)>> {
    // a machine of its own, which an import has added, wins
    let sql = "SELECT card.value, machines.mac FROM machines, json_each(macs_json) AS card \
               WHERE macs_json <> '[]' AND card.value NOT IN (SELECT mac FROM machines)";
    let mut select = conn.sql.prepare_cached(sql)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let parsed = |text: String| text.parse().map_err(crate::domain::error::Error::internal);
    rows.map(|row| {
        let (card, owner): (String, String) = row?;
        Ok((parsed(card)?, parsed(owner)?))
    })
    .collect()
}

/// Maximum number of machines that are compared with one: more with the same UUID or serial number
/// say nothing.
const SIMILAR_MAX: u32 = 16;

/// Returns other machines whose firmware has the same UUID or serial number as `id`.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn similar(conn: &Connection, mac: &Mac, id: &FirmwareId) -> Result<Vec<(Mac, FirmwareId)>> {
    let mut found = Vec::new();
    for (path, value) in [("$.current.uuid", &id.uuid), ("$.current.serial", &id.serial)] {
        let Some(value) = value else { continue };
        // the condition must match that of the index literally
        let sql = format!(
            "SELECT mac, identity_json FROM machines WHERE identity_json IS NOT NULL \
             AND identity_json ->> '{path}' = ?1 AND mac <> ?2 LIMIT {SIMILAR_MAX}"
        );
        let mut select = conn.sql.prepare_cached(&sql)?;
        let mut rows = select.query(params![value, mac.as_str()])?;
        while let Some(row) = rows.next()? {
            let other: String = row.get(0)?;
            let other: Mac = other.parse().map_err(crate::domain::error::Error::internal)?;
            let identity: MachineIdentity = parse(row, 1)?;
            if !found.iter().any(|(known, _)| *known == other) {
                found.push((other, identity.current));
            }
        }
    }
    Ok(found)
}

/// Deletes a machine and its hardware. Returns false if it does not exist.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn delete(conn: &Connection, mac: &Mac) -> Result<bool> {
    Ok(conn.sql.execute("DELETE FROM machines WHERE mac = ?1", [mac.as_str()])? > 0)
}

/// Selects discovered machines that no operator has saved. Must match the condition of the index
/// `machines_unassigned` literally, so that SQLite uses the index.
const UNASSIGNED: &str = "discovered_at IS NOT NULL AND updated_at = created_at \
                          AND image_ref IS NULL AND target_serial IS NULL \
                          AND labels_json = '[]' AND flashed_json IS NULL";

/// True if this machine is unassigned: it was discovered, and no operator has saved it since.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn is_unassigned(conn: &Connection, mac: &Mac) -> Result<bool> {
    let mut select = conn.sql.prepare_cached(&format!(
        "SELECT EXISTS (SELECT 1 FROM machines WHERE mac = ?1 AND {UNASSIGNED})"
    ))?;
    Ok(select.query_row([mac.as_str()], |row| row.get(0))?)
}

/// Deletes unassigned machines and their events until `max` are left, starting with those not seen
/// for the longest time. Returns how many it deleted.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn make_room(conn: &Connection, max: u32) -> Result<usize> {
    let count = format!("SELECT count(*) FROM machines WHERE {UNASSIGNED}");
    let there: u32 = conn.sql.prepare_cached(&count)?.query_row([], |row| row.get(0))?;
    let oldest =
        format!("SELECT mac FROM machines WHERE {UNASSIGNED} ORDER BY last_seen_at LIMIT ?1");
    let mut select = conn.sql.prepare_cached(&oldest)?;
    let macs = select
        .query_map([there.saturating_sub(max)], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    for mac in &macs {
        conn.sql.prepare_cached("DELETE FROM machines WHERE mac = ?1")?.execute([mac])?;
        // keep events that an operator caused
        let sql = "DELETE FROM events \
                   WHERE subject_kind = 'machine' AND subject_id = ?1 AND actor = 'pxe-client'";
        conn.sql.prepare_cached(sql)?.execute([mac])?;
    }
    Ok(macs.len())
}

/// Inserts or replaces the `lshw` output of a machine, which must be in the database.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub fn put_lshw(conn: &Connection, mac: &Mac, lshw: &str, at: Time) -> Result<()> {
    let sql = "INSERT INTO machine_lshw VALUES (?1, ?2, ?3) \
               ON CONFLICT (mac) DO UPDATE SET lshw_json = ?2, lshw_at = ?3";
    conn.sql.prepare_cached(sql)?.execute(params![mac.as_str(), lshw, at])?;
    Ok(())
}

/// Returns the `lshw` output of a machine, and when the machine posted it.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn lshw(conn: &Connection, mac: &Mac) -> Result<Option<(String, Time)>> {
    let sql = "SELECT lshw_json, lshw_at FROM machine_lshw WHERE mac = ?1";
    Ok(conn.sql.query_row(sql, [mac.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

fn from_row(row: &Row<'_>) -> Result<Machine> {
    let mac: String = row.get(0)?;
    Ok(Machine {
        mac: mac.parse().map_err(crate::domain::error::Error::internal)?,
        plan: row.get(1)?,
        image_ref: row.get(2)?,
        target_serial: row.get(3)?,
        sanboot_drive: row.get(4)?,
        extra_args: row.get(5)?,
        params: parse(row, 6)?,
        labels: parse(row, 7)?,
        state: parse(row, 8)?,
        hold: row.get(9)?,
        cycle: maybe(row, 10)?,
        answers: parse(row, 11)?,
        history: parse(row, 12)?,
        disks: maybe::<Value>(row, 13)?,
        disks_at: row.get(14)?,
        hardware: parse(row, 15)?,
        flashed: maybe(row, 16)?,
        discovered_at: row.get(17)?,
        last_seen_at: row.get(18)?,
        last_seen_ip: row.get(19)?,
        created_at: row.get(20)?,
        updated_at: row.get(21)?,
        netboot_version: row.get(22)?,
        image_sha256: row.get(23)?,
        name: row.get(24)?,
        identity: maybe(row, "identity_json")?,
        macs: parse(row, "macs_json")?,
    })
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

fn parse<T: DeserializeOwned>(row: &Row<'_>, column: impl RowIndex) -> Result<T> {
    Ok(serde_json::from_str(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)?)
}

fn maybe<T: DeserializeOwned>(row: &Row<'_>, column: impl RowIndex) -> Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Actor, NewEvent};
    use crate::domain::machine::{Cycle, Flashed, OrderSummary};
    use crate::store::database::Database;
    use crate::store::events::Filter;

    #[test]
    fn unassigned_machines_replace_only_unassigned_machines() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        let change: [fn(&mut Machine); 5] = [
            |machine| machine.updated_at = Time(2),
            |machine| machine.image_ref = Some("ab".repeat(32)),
            |machine| machine.labels = vec!["lab".into()],
            |machine| {
                machine.flashed = Some(Flashed { at: Time(7), ..Flashed::default() });
            },
            |machine| machine.discovered_at = None,
        ];
        db.write_blocking(move |conn| {
            for n in 0..20_u8 {
                let mut machine = Machine::new(
                    format!("02:00:00:00:00:{n:02x}").parse().unwrap(),
                    "ipxe-exit",
                    Time(1),
                );
                machine.discovered_at = Some(Time(1));
                machine.last_seen_at = Some(Time(n.into()));
                if let Some(change) = change.get(usize::from(n)) {
                    change(&mut machine);
                }
                put(conn, &machine)?;
                conn.record(
                    &NewEvent::new("machine.discovered", machine.mac.as_str(), "new")
                        .by(Actor::PxeClient, None),
                )?;
            }
            assert_eq!(make_room(conn, 3)?, 12);
            assert_eq!(make_room(conn, 3)?, 0);
            Ok(())
        })
        .unwrap();
        let left: Vec<Machine> = db.read_blocking(all).unwrap();
        let seen: Vec<i64> = left.iter().map(|machine| machine.last_seen_at.unwrap().0).collect();
        assert_eq!(
            seen,
            [0, 1, 2, 3, 4, 17, 18, 19],
            "all that are assigned, and who was seen last"
        );
        let events = crate::store::events::list;
        assert_eq!(
            db.read_blocking(|conn| events(conn, &Filter::default(), 500)).unwrap().len(),
            8
        );
        for machine in &left {
            let is = db.read_blocking(|conn| is_unassigned(conn, &machine.mac)).unwrap();
            assert_eq!(is, machine.last_seen_at.unwrap().0 > 4);
        }
    }

    #[test]
    fn lists_show_the_same_state_as_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        let order = OrderSummary {
            mode: "flash".into(),
            image_ref: None,
            image_name: None,
            sha256: None,
            index_sha256: None,
            serial: None,
        };
        let stages = [
            Stage::Offered,
            Stage::Working,
            Stage::Done,
            Stage::Failed,
            Stage::Lost,
            Stage::Superseded,
            Stage::Stalled,
        ];
        let mut machines = Vec::new();
        for (n, stage) in stages.into_iter().enumerate() {
            for (is_past, order) in
                [(false, None), (false, Some(order.clone())), (true, Some(order.clone()))]
            {
                let mac = format!("02:00:00:00:{n:02x}:{:02x}", machines.len()).parse().unwrap();
                let mut machine = Machine::new(mac, "bty-flash-once", Time(1));
                machine.hold = (n == 2 && is_past).then(|| "why".to_owned());
                machine.flashed = Some(Flashed { at: Time(7), ..Flashed::default() });
                machine.cycle = Some(Cycle {
                    token: String::new(),
                    opened_at: Time(1),
                    opened_by: None,
                    stage,
                    is_tokenless: false,
                    fallback: None,
                    has_inventory: false,
                    is_inventory_unreadable: false,
                    order,
                    progress: None,
                    heard_at: Time(1),
                    stalled_at: None,
                    is_past,
                    silent_before: 0,
                });
                machines.push(machine);
            }
        }
        machines.push(Machine::new("02:00:00:00:ff:ff".parse().unwrap(), "ipxe-exit", Time(1)));
        let kept = machines.clone();
        db.write_blocking(move |t| kept.iter().try_for_each(|machine| put(t, machine))).unwrap();
        let limit = SilenceLimit { now: Time(i64::from(u32::MAX)), after_ms: 900_000 };
        let briefs =
            db.read_blocking(|conn| briefs(conn, &MachineSearch::default(), &limit)).unwrap();
        let counts = db.read_blocking(|conn| count_by_state(conn, &limit)).unwrap();
        let marked: usize =
            machines.iter_mut().map(|machine| usize::from(machine.mark_stalled(&limit))).sum();
        let newly = db.read_blocking(|conn| newly_stalled(conn, &limit)).unwrap();
        assert_eq!(newly.len(), marked);
        let mut expected = MachineCounts::new();
        for status in machines.iter().map(Machine::status) {
            *expected.entry((status.phase(), status.state())).or_default() += 1;
        }
        assert_eq!(counts, expected);
        assert_eq!(briefs.len(), machines.len());
        for (brief, machine) in briefs.iter().zip(&machines) {
            assert_eq!(brief.mac, machine.mac.as_str());
            assert_eq!(brief.status().text(), machine.boot_state());
            assert_eq!(brief.status().phase(), machine.status().phase());
            assert_eq!(brief.flashed_at, machine.flashed.as_ref().map(|flashed| flashed.at));
        }
    }
}
