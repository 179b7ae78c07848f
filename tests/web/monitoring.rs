//! The example rules for Prometheus and the example dashboard for Grafana.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bty_tests::command::tool;
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// The names of metrics of bty in a text; recorded ones have colons.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(|c: char| !is_part(c));
    let names = words.map(|word| word.trim_end_matches(':'));
    names
        .filter(|word| word.starts_with("bty_") || word.starts_with("bty:"))
        .map(str::to_owned)
        .collect()
}

/// All expressions of the dashboard.
fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

fn rules() -> String {
    std::fs::read_to_string(deploy("prometheus/bty.rules.yml")).unwrap()
}

/// A server that has counted something in every family of metrics.
fn busy_server() -> Web {
    let env = [
        ("BTY_CACHE_EMBEDDED", "1"),
        ("BTY_CACHE_LISTEN", "127.0.0.1:0"),
        ("BTY_TFTP_EMBEDDED", "1"),
        ("BTY_TFTP_LISTEN", "127.0.0.1:0"),
        ("BTY_LIMITS_NEW_MACHINES_PER_MINUTE", "1"),
    ];
    let mut web = Web::idle(None, &env);
    let webhook =
        "[[webhooks]]\nname = \"ops\"\nurl = \"http://127.0.0.1:9/\"\nformat = \"slack\"\n";
    std::fs::write(web.state().join("bty.toml"), webhook).unwrap();
    web.start_again();
    for number in 0..2 {
        web.get(&format!("/pxe/02000000000{number}?boot=1")).expect(200);
    }
    eventually(LIMIT, "a delivery fails, and TFTP is served", || {
        let webhooks = web.get("/webhooks").expect(200).json();
        let has_tftp = web.get("/metrics").expect(200).text().contains("bty_tftp_transfers_total");
        (webhooks[0]["failures"] != 0 && has_tftp).then_some(())
    });
    web
}

/// The names of all samples whose families a text describes.
fn described(metrics: &str) -> BTreeSet<String> {
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let samples = families.flat_map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        let endings: &[&str] = match kind {
            "counter" => &["_total"],
            // the whole is in the documentation, its parts are in expressions
            "histogram" => &["", "_bucket", "_sum", "_count"],
            _ => &[""],
        };
        endings.iter().map(move |ending| format!("{name}{ending}"))
    });
    samples.collect()
}

#[test]
fn rules_dashboard_and_documentation_name_the_metrics_that_the_server_has() {
    let web = busy_server();
    let described = described(&web.get("/metrics").expect(200).text());
    let text = std::fs::read_to_string(deploy("grafana/bty.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let rules = rules();
    let recorded = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    let recorded: BTreeSet<String> = recorded.map(str::to_owned).collect();
    let used = names(&(expressions(&dashboard).join(" ") + &rules));
    let known = &described | &recorded;
    let unknown: Vec<&String> = used.difference(&known).collect();
    assert!(unknown.is_empty() && used.len() > 10, "{unknown:?} are not in {described:?}");
    let reference = deploy("../docs/reference/server.md");
    let documented = names(&std::fs::read_to_string(reference).unwrap());
    let parts = ["_bucket", "_sum", "_count"];
    let is_whole = |name: &String| !parts.iter().any(|end| name.ends_with(end));
    let whole: BTreeSet<String> = described.into_iter().filter(is_whole).collect();
    assert_eq!(documented, whole);
}

#[test]
fn rules_and_expressions_of_the_dashboard_pass_promtool_where_it_is_installed() {
    let is_installed = std::process::Command::new("promtool").arg("--version").output().is_ok();
    if !is_installed {
        return eprintln!("skipped: promtool is in Debian's package prometheus");
    }
    tool(&["promtool", "check", "rules", deploy("prometheus/bty.rules.yml").to_str().unwrap()]);
    // the expressions of the dashboard as rules, with its variables replaced
    let text = std::fs::read_to_string(deploy("grafana/bty.json")).unwrap();
    let rules: Vec<Value> = expressions(&serde_json::from_str(&text).unwrap())
        .into_iter()
        .enumerate()
        .map(|(number, expr)| {
            let expr = expr.replace("$__rate_interval", "1m").replace("$instance", ".*");
            json!({ "record": format!("panel:{number}"), "expr": expr })
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("panels.yml");
    let document = json!({ "groups": [{ "name": "panels", "rules": rules }] });
    std::fs::write(&file, document.to_string()).unwrap();
    tool(&["promtool", "check", "rules", file.to_str().unwrap()]);
}
