//! `make advisories` must not pass without a recent database.

use std::path::Path;
use std::process::Command;

use bty_tests::command::{Outcome, write_program};

const VERSION: &str = "0.20.2";

/// A fake cargo-deny: fetching succeeds if the file `fetches` exists, and checks find nothing.
const CARGO_DENY: &str = r#"#!/bin/sh
case "$*" in
--version) echo "cargo-deny $(cat "$HERE/version")" ;;
"deny fetch db") test -e "$HERE/fetches" ;;
"deny --offline check advisories") echo checked ;;
*) echo "unexpected: $*"; exit 9 ;;
esac
"#;

struct Tools(tempfile::TempDir);

impl Tools {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        write_program(&dir.path().join("bin/cargo-deny"), CARGO_DENY);
        std::fs::write(dir.path().join("version"), VERSION).unwrap();
        Self(dir)
    }

    /// Creates a copy of the database whose newest commit is `days` old.
    fn database(&self, days: u32) {
        let dir = self.0.path().join("advisory-dbs/advisory-db-1");
        let script = format!(
            "rm -rf \"$0\" && mkdir -p \"$0\" && cd \"$0\" && git init -q . && \
             GIT_COMMITTER_DATE=\"$(date -R -d '{days} days ago')\" git -c user.name=a -c \
             user.email=a@example commit -q --allow-empty -m change"
        );
        assert!(Command::new("sh").args(["-ec", &script]).arg(&dir).status().unwrap().success());
    }

    fn run(&self) -> Outcome {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dependencies/advisories.sh");
        let mut command = Command::new(script);
        command
            .arg(self.0.path())
            .arg(VERSION)
            .env("CARGO_HOME", self.0.path())
            .env("HERE", self.0.path());
        command.output().unwrap().into()
    }
}

#[test]
fn advisories_are_checked_with_a_database_of_the_last_thirty_days_or_not_at_all() {
    let tools = Tools::new();
    let none = tools.run().expect(1);
    assert!(none.stderr.contains("NOT checked: there is no copy of"), "{}", none.stderr);
    tools.database(31);
    let old = tools.run().expect(1);
    assert!(old.stderr.contains("31 days old, more than 30"), "{}", old.stderr);
    std::fs::write(tools.0.path().join("fetches"), "").unwrap();
    let old = tools.run().expect(1);
    assert!(
        old.stderr.contains("31 days old, more than 30"),
        "a mirror that is no longer updated: {}",
        old.stderr
    );
    tools.database(3);
    assert!(tools.run().expect(0).stdout.ends_with("3 days old\nchecked\n"));
    std::fs::remove_file(tools.0.path().join("fetches")).unwrap();
    let copy = tools.run().expect(0);
    assert!(
        copy.stderr.contains("warning: the advisory database cannot be fetched"),
        "{}",
        copy.stderr
    );
    std::fs::write(tools.0.path().join("version"), "0.1.0").unwrap();
    assert!(tools.run().expect(1).stderr.contains("is not version 0.20.2"));
}
