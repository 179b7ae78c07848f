//! The texts of machines that searches compare with, and the index of their parts.
//!
//! The texts change in the same transaction as their machine. An index of trigrams finds texts of
//! three characters and more; shorter ones are compared with each machine.

use rusqlite::types::Value;
use rusqlite::{params, params_from_iter};

use super::connection::Connection;
use crate::domain::error::{Error, Result};
use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::domain::machine::search::{MachineSearch, SearchField, SearchTerm, SearchTexts, fold};
use crate::domain::time::Time;

/// Minimum length in characters of a text that the index finds.
const TRIGRAM: usize = 3;

/// Writes the texts of a machine, if they have changed.
///
/// # Errors
/// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
pub(super) fn put(conn: &Connection, machine: &Machine) -> Result<()> {
    let SearchTexts { mac, phase, state, plan, image_ref, name, labels, texts } =
        SearchTexts::of(machine);
    let mut upsert = conn.sql.prepare_cached(
        "INSERT INTO machine_texts (mac, phase, state, plan, image_ref, name, labels, texts)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (mac) DO UPDATE SET
             phase = ?2, state = ?3, plan = ?4, image_ref = ?5, name = ?6, labels = ?7, texts = ?8
         WHERE (phase, state, plan, image_ref, name, labels, texts)
               IS NOT (?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    upsert.execute(params![mac, phase, state, plan, image_ref, name, labels, texts])?;
    Ok(())
}

/// Returns the addresses of the machines that `search` finds, sorted.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn macs(conn: &Connection, search: &MachineSearch) -> Result<Vec<Mac>> {
    let (found, values) = found(search);
    let mut select =
        conn.sql.prepare(&format!("SELECT mac FROM machines WHERE {found} ORDER BY mac"))?;
    let rows = select.query_map(params_from_iter(values), |row| row.get::<_, String>(0))?;
    rows.map(|mac| mac?.parse().map_err(Error::internal)).collect()
}

/// Returns the addresses of other machines with the name of `machine`, at most `max`.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn namesakes(conn: &Connection, machine: &Machine, max: u32) -> Result<Vec<String>> {
    let sql = "SELECT mac FROM machine_texts WHERE name = ?1 AND name <> '' AND mac <> ?2 \
               ORDER BY mac LIMIT ?3";
    let mut select = conn.sql.prepare_cached(sql)?;
    let rows = select
        .query_map(params![fold(&machine.name), machine.mac.as_str(), max], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the addresses of the machines with an open boot cycle whose live environments have sent
/// a request since `since`.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn working(conn: &Connection, since: Time) -> Result<Vec<String>> {
    let sql = "SELECT mac, cycle_json ->> '$.heard_at' FROM machine_texts JOIN machines USING (mac) \
               WHERE phase = 'working'";
    let mut select = conn.sql.prepare_cached(sql)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<(String, Option<String>)>>>()?;
    let is_recent =
        |at: &Option<String>| at.as_deref().and_then(Time::parse).is_none_or(|at| at.0 >= since.0);
    Ok(rows.into_iter().filter(|(_, at)| is_recent(at)).map(|(mac, _)| mac).collect())
}

/// Returns the condition on a row of `machines` that is true if `search` finds it, and the values
/// of its parameters.
pub(super) fn found(search: &MachineSearch) -> (String, Vec<Value>) {
    if search.terms.is_empty() {
        return ("1".into(), Vec::new());
    }
    let mut values = Vec::new();
    let terms: Vec<String> = search.terms.iter().map(|term| condition(term, &mut values)).collect();
    let terms = terms.join(" AND ");
    (format!("mac IN (SELECT mac FROM machine_texts WHERE {terms})"), values)
}

/// Returns the condition of a term on a row of `machine_texts`, and adds its parameters.
fn condition(term: &SearchTerm, values: &mut Vec<Value>) -> String {
    let mut parameter = |text: String| {
        values.push(Value::Text(text));
        format!("?{}", values.len())
    };
    let text = term.text.clone();
    match term.field {
        SearchField::Name => format!("instr(name, {}) > 0", parameter(text)),
        SearchField::Label => format!("instr(labels, {}) > 0", parameter(format!("\n{text}\n"))),
        SearchField::Plan => format!("plan = {}", parameter(text)),
        SearchField::State => format!("instr(state, {}) > 0", parameter(text)),
        SearchField::Image => {
            let (text, images) = (parameter(text), parameter(json(&term.images)));
            format!(
                "(instr(image_ref, {text}) > 0 OR image_ref IN (SELECT value FROM \
                 json_each({images})))"
            )
        }
        SearchField::Any => {
            // each part uses an index of its own
            let mut parts = vec![part_of_texts(text.clone(), &mut parameter)];
            let text = parameter(text);
            parts.extend(["state", "plan"].map(|column| format!("instr({column}, {text}) > 0")));
            if term.is_reference() {
                let (text, length) = (parameter(term.text.clone()), term.text.len());
                parts.push(format!("substr(image_ref, 1, {length}) = {text}"));
            }
            if !term.images.is_empty() {
                let images = parameter(json(&term.images));
                parts.push(format!("image_ref IN (SELECT value FROM json_each({images}))"));
            }
            if let Some(digits) = &term.mac_digits {
                parts.push(part_of_texts(digits.clone(), &mut parameter));
            }
            let parts = parts.join(" UNION SELECT id FROM machine_texts WHERE ");
            format!("id IN (SELECT id FROM machine_texts WHERE {parts})")
        }
    }
}

fn part_of_texts(text: String, parameter: &mut impl FnMut(String) -> String) -> String {
    if text.chars().count() < TRIGRAM {
        return format!("instr(texts, {}) > 0", parameter(text));
    }
    let phrase = parameter(format!("\"{}\"", text.replace('"', "\"\"")));
    format!("id IN (SELECT rowid FROM machine_index WHERE machine_index MATCH {phrase})")
}

fn json(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::store::database::Database;
    use crate::store::machines;

    fn names() -> HashMap<String, String> {
        HashMap::from([("ab".repeat(32), "Debian 13".into())])
    }

    fn any_machine() -> impl Strategy<Value = Machine> {
        let text = "[ab1ÄäK\u{212a}\"'%_*ß ]{0,5}";
        let label = "[ab1ä]{1,3}";
        (any::<[u8; 2]>(), text, prop::collection::vec(label, 0..3), text, any::<bool>()).prop_map(
            |(mac, name, labels, serial, has_image)| {
                let mac = format!("52:54:00:00:{:02x}:{:02x}", mac[0], mac[1]);
                Machine {
                    name,
                    labels,
                    hardware: json!({ "vendor": "ACME", "serial": serial }),
                    image_ref: has_image.then(|| "ab".repeat(32)),
                    ..Machine::new(mac.parse().unwrap(), "bty-flash-once", Time(1))
                }
            },
        )
    }

    fn any_query() -> impl Strategy<Value = String> {
        let term = prop_oneof![
            "[ab1ÄäkK\u{212a}\"'%_*ß]{1,4}",
            "(label|name|state|image|plan):[ab1äd]{1,3}",
            "52:54:00:00:[0-9a-f]{1,2}",
            Just("52-54-00-00".to_owned()),
            Just("deb".to_owned()),
            Just("abababab".to_owned()),
            Just("waiting".to_owned()),
            Just("plan:bty-flash-once".to_owned()),
        ];
        prop::collection::vec(term, 0..3).prop_map(|terms| terms.join(" "))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn the_index_finds_what_the_rules_find(
            machines in prop::collection::vec(any_machine(), 0..12),
            renamed in prop::collection::vec("[ab1]{0,4}", 0..12),
            queries in prop::collection::vec(any_query(), 1..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
            // each machine is written twice, and every third is deleted again
            db.write_blocking(move |t| {
                for machine in &machines {
                    machines::put(t, machine)?;
                }
                for (machine, name) in machines.iter().zip(renamed) {
                    machines::put(t, &Machine { name, ..machine.clone() })?;
                }
                machines.iter().step_by(3).try_for_each(|machine| machines::delete(t, &machine.mac).map(drop))
            }).unwrap();
            let left: Vec<Machine> = db.read_blocking(machines::all).unwrap();
            for query in queries {
                let search = MachineSearch::parse(&query, &names()).unwrap();
                let found = db.read_blocking(|conn| macs(conn, &search)).unwrap();
                let expected: Vec<Mac> = left
                    .iter()
                    .filter(|machine| search.matches(&SearchTexts::of(machine)))
                    .map(|machine| machine.mac.clone())
                    .collect();
                prop_assert_eq!(found, expected, "{}", query);
            }
        }
    }

    #[test]
    fn machines_without_texts_get_them_when_the_database_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let db = Database::open(&path, ()).unwrap();
        let machine = Machine {
            name: "Seven".into(),
            ..Machine::new("52:54:00:00:00:07".parse().unwrap(), "ipxe-exit", Time(1))
        };
        db.write_blocking(move |t| machines::put(t, &machine)).unwrap();
        db.write_blocking(|t| Ok(t.sql.execute("DELETE FROM machine_texts", [])?)).unwrap();
        db.close();
        let search = MachineSearch::parse("seven", &names()).unwrap();
        let found = Database::open(&path, ()).unwrap().read_blocking(|conn| macs(conn, &search));
        assert_eq!(found.unwrap().len(), 1);
    }
}
