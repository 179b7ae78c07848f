//! The example rules for Prometheus and the example dashboard for Grafana.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bty_tests::command::tool;
use bty_tests::web::Web;
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

#[test]
fn rules_and_dashboard_use_metrics_that_the_server_has() {
    let web = Web::with(&[("BTY_CACHE_EMBEDDED", "1"), ("BTY_CACHE_LISTEN", "127.0.0.1:0")]);
    web.send("PUT", "/machines/020000000001", &json!({})).expect(200);
    let metrics = web.get("/metrics").expect(200).text();
    // a family without values yet has only its description
    let described: BTreeSet<String> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .flat_map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let endings: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            endings.iter().map(move |ending| format!("{name}{ending}")).collect::<Vec<_>>()
        })
        .collect();
    let text = std::fs::read_to_string(deploy("grafana/bty.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let rules = rules();
    let recorded: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .map(str::to_owned)
        .collect();
    let used = names(&(expressions(&dashboard).join(" ") + &rules));
    assert!(used.len() > 10, "{used:?}");
    for name in used.iter().filter(|name| !name.ends_with(".rules.yml")) {
        assert!(described.contains(name) || recorded.contains(name), "{name} is not in\n{metrics}");
    }
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
