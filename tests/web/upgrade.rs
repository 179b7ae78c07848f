//! Databases of earlier versions in this version, and of later versions.

use std::path::{Path, PathBuf};

use bty_tests::command::tool;
use bty_tests::loops::Mount;
use bty_tests::web::Web;
use serde_json::json;

const MAC: &str = "52:54:00:12:34:56";
/// A token whose digest the test adds to each database.
const TOKEN: &str = "bty_known-in-this-test";

fn schemas() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bty-web/schemas");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The schema version of this program.
fn newest() -> String {
    schemas().len().to_string()
}

fn sql(web: &Web, sql: &str) {
    tool(&["sqlite3", "-bail", web.state().join("state.db").to_str().unwrap(), sql]);
}

/// A server that is not started, with a database of schema 1.
fn first() -> Web {
    Web::idle(Some(&schemas()[0]), &[])
}

fn bytes(web: &Web) -> Vec<u8> {
    std::fs::read(web.state().join("state.db")).unwrap()
}

fn copies(web: &Web) -> Vec<String> {
    let names = std::fs::read_dir(web.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".schema-")).collect()
}

#[test]
fn a_state_of_every_schema_is_served_without_loss() {
    let files = schemas();
    for (index, file) in files.iter().enumerate() {
        let mut web = Web::idle(Some(file), &[("BTY_ADMIN_PASSWORD", "s3cret")]);
        let digest = bty::Digest::of(TOKEN.as_bytes());
        sql(
            &web,
            &format!(
                "INSERT INTO api_tokens VALUES (9, 'kept', '{digest}', 'admin', 1, \
                 NULL, NULL, NULL)"
            ),
        );
        sql(&web, "INSERT INTO settings VALUES ('netboot.extra_args', 'quiet', 1)");
        web.start_again();
        web.get("/machines").expect(401);
        web.headers.push(("Authorization".into(), format!("Bearer {TOKEN}")));
        let machine = web.get(&format!("/machines/{MAC}")).expect(200).json();
        assert_eq!(
            (&machine["boot_mode"], &machine["labels"]),
            (&json!("bty-flash-once"), &json!(["lab"])),
            "{file:?}"
        );
        assert_eq!(
            (&machine["target_disk_serial"], &machine["boot_state"]),
            (&json!("S1"), &json!("flashed; booting disk"))
        );
        assert_eq!(machine["hardware"]["product"], "Rack");
        // the next decision takes earlier flashes into account
        let script = web.get("/pxe/52-54-00-12-34-56?boot=2").expect(200).text();
        assert!(!script.contains("kernel "), "it was flashed once: {script}");
        assert_eq!(
            web.get("/plans/mine").expect(200).json()["source"],
            "fn boot(m) { boot_disk() }"
        );
        let images = web.get("/images").expect(200).json();
        assert!(images.to_string().contains("http://127.0.0.1:9/demo.img"), "{images}");
        let settings = web.get("/settings").expect(200).text();
        assert!(settings.contains(r#""netboot.extra_args","value":"quiet""#), "{settings}");
        let tokens = web.get("/tokens").expect(200).json();
        assert!(tokens.to_string().contains("\"ci\""), "{tokens}");
        let kinds = web.events(MAC);
        assert_eq!(kinds[..2], ["machine.created", "netboot.pxe.offered"], "{kinds:?}");
        // an upgrade keeps a copy of the old database
        let is_newest = index + 1 == files.len();
        assert_eq!(web.events("state").contains(&"system.schema.upgraded".to_owned()), !is_newest);
        let kept =
            if is_newest { Vec::new() } else { vec![format!("state.db.schema-{}.bak", index + 1)] };
        assert_eq!(copies(&web), kept);
        web.restart();
        web.get(&format!("/machines/{MAC}")).expect(200);
    }
    assert!(files.len() >= 2, "one a schema that there has been");
}

#[test]
fn an_upgrade_keeps_the_objects_of_a_cache_host() {
    for file in &schemas()[1..] {
        let mut web = Web::idle_cache(&[], &[]);
        let database = web.state().join("state.db");
        tool(&[
            "sqlite3",
            "-bail",
            database.to_str().unwrap(),
            &format!(".read {}", file.display()),
        ]);
        let objects = web.state().join("blobs");
        std::fs::create_dir(&objects).unwrap();
        std::fs::write(objects.join("ab".repeat(32)), b"five!").unwrap();
        web.start_again();
        let held = web.get("/cache").expect(200).json();
        assert_eq!(held["objects"].as_array().map(Vec::len), Some(1), "{held}");
        assert_eq!(
            (&held["objects"][0]["hits"], &held["objects"][0]["is_pinned"]),
            (&json!(3), &json!(true)),
            "{held}"
        );
    }
}

#[test]
fn an_upgrade_is_undone_by_putting_the_copy_back() {
    let mut web = first();
    web.start_again();
    web.send("PUT", "/machines/020000000001", &json!({ "boot_mode": "bty-inventory" })).expect(200);
    web.end();
    let state = web.state().to_owned();
    // SQLite would apply a leftover write-ahead log to the restored database
    let log = state.join("state.db-wal").metadata().map_or(0, |meta| meta.len());
    assert_eq!(log, 0, "a server that has ended leaves nothing in a log");
    std::fs::copy(state.join("state.db.schema-1.bak"), state.join("state.db")).unwrap();
    let version = || {
        let output = std::process::Command::new("sqlite3")
            .arg(state.join("state.db"))
            .arg("PRAGMA user_version")
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(version().trim(), "1", "the program before finds its own schema");
    web.start_again();
    web.get("/machines/020000000001").expect(404);
    assert_eq!(version().trim(), newest(), "and once more");
    web.get(&format!("/machines/{MAC}")).expect(200);
}

#[test]
fn a_state_of_a_later_version_is_refused_and_unchanged() {
    let mut web = first();
    web.start_again();
    web.end();
    sql(&web, "PRAGMA user_version = 7");
    let before = bytes(&web);
    let said = web.refuses(&mut web.command(&[]));
    assert!(
        said.contains("has schema 7 of a later version")
            && said.contains(&format!("at most schema {};", newest())),
        "{said}"
    );
    assert!(said.contains("state.db.schema-1.bak, which lacks"), "{said}");
    assert_eq!(bytes(&web), before);
    let said = web.refuses(&mut web.command(&["token", "list"]));
    assert!(said.contains("of a later version"), "{said}");
}

#[test]
fn a_failed_upgrade_leaves_the_file_unchanged() {
    // a migration that fails
    let web = first();
    sql(&web, "CREATE TABLE cache_tags (is_in_the_way)");
    let before = bytes(&web);
    let said = web.refuses(&mut web.command(&[]));
    assert!(
        said.contains(&format!("could not be upgraded from schema 1 to {}", newest()))
            && said.contains("and is unchanged"),
        "{said}"
    );
    assert_eq!(bytes(&web), before);
    assert_eq!(copies(&web), [""; 0]);
    sql(&web, "DROP TABLE cache_tags");
    let mut web = web;
    web.start_again();
    web.get(&format!("/machines/{MAC}")).expect(200);

    // a damaged page: the copy fails before anything is changed
    let web = first();
    sql(
        &web,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT \
         INTO machine_lshw SELECT 'm' || i, hex(randomblob(200)), 0 FROM n",
    );
    let path = web.state().join("state.db");
    let mut damaged = bytes(&web);
    let middle = damaged.len() / 4096 / 2 * 4096;
    damaged[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, &damaged).unwrap();
    let said = web.refuses(&mut web.command(&[]));
    assert!(
        said.contains(&format!("could not be upgraded from schema 1 to {}", newest()))
            && said.contains("malformed"),
        "{said}"
    );
    assert_eq!(bytes(&web), damaged);
    assert_eq!(copies(&web), [""; 0]);
}

#[test]
fn an_upgrade_without_space_for_the_copy_does_not_start() {
    let web = first();
    sql(
        &web,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT \
         INTO machine_lshw SELECT 'm' || i, hex(randomblob(2000)), 0 FROM n",
    );
    let disk = Mount::memory(36 << 20);
    let path = disk.path().join("state.db");
    std::fs::copy(web.state().join("state.db"), &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let said = web.refuses(web.command(&[]).env("BTY_PATHS_STATE_DIR", disk.path()));
    assert!(
        said.contains(&format!("could not be upgraded from schema 1 to {}", newest()))
            && said.contains("full"),
        "{said}"
    );
    assert!(std::fs::read(&path).unwrap() == before, "it is as it was");
    let left: Vec<_> =
        std::fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("schema-1")), "{left:?}");
}

#[test]
fn a_command_does_not_upgrade_the_state_of_a_running_server() {
    let web = first();
    let lock = std::fs::File::create(web.state().join("state.lock")).unwrap();
    lock.lock().unwrap();
    let before = bytes(&web);
    for arguments in [["token", "list"], ["export", "/nonexistent/x"]] {
        let said = web.refuses(&mut web.command(&arguments));
        assert!(said.contains("another process uses"), "{said}");
    }
    assert_eq!(bytes(&web), before);
}

#[test]
fn a_state_of_the_reference_server_is_refused() {
    let web = Web::idle(None, &[]);
    sql(
        &web,
        "CREATE TABLE machines (mac TEXT PRIMARY KEY); CREATE TABLE bty_version (version \
         TEXT PRIMARY KEY)",
    );
    let before = bytes(&web);
    let said = web.refuses(&mut web.command(&[]));
    assert!(
        said.contains("is not a state of this server") && said.contains("bty-web import"),
        "{said}"
    );
    assert_eq!(bytes(&web), before);
}
