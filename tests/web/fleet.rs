//! Simulated fleets.

use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::Value;

use super::pxe::add_image;

fn fleet(web: &Web, more: &[&str]) -> Value {
    let mut arguments = vec!["simulate-fleet", "--json"];
    arguments.extend(more);
    let output = web.command(&arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn a_fleet_with_faults_gets_no_wrong_decision() {
    let web = Web::start();
    add_image(&web);
    let report =
        fleet(&web, &["--machines", "100", "--boots", "8", "--faults", "20", "--seed", "7"]);
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    for what in ["flashes", "completed", "crashes", "repeated", "late"] {
        assert!(report[what].as_u64().unwrap() > 10, "{what}: {report}");
    }
    assert!(report["stalled"].as_u64().unwrap() > 0, "{report}");
    let machines = web.get("/machines?label=simulated").json();
    assert_eq!(machines.as_array().map(Vec::len), Some(100));
}

#[test]
fn a_fleet_that_loses_power_is_reported_as_stalled() {
    let web = Web::start();
    add_image(&web);
    web.send("PUT", "/settings", &serde_json::json!({ "machines.stalled_after": "1" })).expect(200);
    let report =
        fleet(&web, &["--machines", "40", "--boots", "4", "--faults", "20", "--seed", "3"]);
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    assert!(report["silent"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_wrong_decision_is_noticed() {
    // simulates a defect: a plan that flashes at every boot, with the name of one that does not
    let web = Web::start();
    add_image(&web);
    let report = fleet(&web, &["--machines", "5", "--boots", "3", "--faults", "0"]);
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    // a second simulation saves the assignment again, so the machine rightly flashes again
    let again = fleet(&web, &["--machines", "1", "--boots", "1", "--faults", "0"]);
    assert_eq!(again["violations"], Value::Array(Vec::new()), "a save is an order");
    let script = "fn boot(m) { boot_live() }\n\
                  fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }\nfn run(p) { }";
    web.send("PUT", "/plans/wrong", &serde_json::json!({ "source": script })).expect(200);
    let watcher = std::thread::scope(|scope| {
        let run =
            scope.spawn(|| fleet(&web, &["--machines", "1", "--boots", "100", "--faults", "0"]));
        eventually(LIMIT, "the simulation ends", || {
            let binding = serde_json::json!({ "boot_mode": "wrong" });
            web.send("PATCH", "/machines/02b7f0000000", &binding).expect(200);
            run.is_finished().then_some(())
        });
        run.join().unwrap()
    });
    assert!(!watcher["violations"].as_array().unwrap().is_empty(), "{watcher}");
}
