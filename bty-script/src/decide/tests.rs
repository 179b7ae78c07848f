use serde_json::json;

use super::*;
use crate::context::ScriptContext;
use crate::engine::Limits;

fn decider() -> Decider {
    Decider::new(Engine::new(ScriptContext::compute_only(), Limits::server()))
}

fn facts() -> MachineFacts {
    MachineFacts {
        mac: "52:54:00:12:34:56".into(),
        labels: vec!["lab".into()],
        disks: json!([{ "path": "/dev/sda", "serial": "S1", "size_bytes": 1_u64 << 40 }]),
        ..MachineFacts::default()
    }
}

fn decide(
    text: &str,
    function: &str,
    machine: &MachineFacts,
    catalog: &str,
) -> Result<Decision, ScriptError> {
    let args = Vec::new();
    decider().decide(&PlanCall {
        name: "plan.rhai",
        text,
        function,
        machine: Some(machine),
        args,
        catalog,
    })
}

const CATALOG: &str = "version = 1\n[[images]]\nname = \"deb\"\nsrc = \"https://h/deb.img\"\n";

#[test]
fn changes_of_the_state_are_returned() {
    let text = "fn boot(m) { m.state.boots = (m.state.boots ?? 0) + 1; m.state.flags = #{ a: [1] \
                }; boot_live() }";
    let decision = decide(text, "boot", &facts(), "").unwrap();
    assert_eq!(decision.value, json!({ "boot": "live" }));
    assert_eq!(decision.state, json!({ "boots": 1, "flags": { "a": [1] } }));
    let again = MachineFacts { state: decision.state, ..facts() };
    assert_eq!(decide(text, "boot", &again, "").unwrap().state["boots"], 2);
}

#[test]
fn an_undefined_function_is_reported_as_undefined() {
    let machine = MachineFacts { state: json!({ "a": 1 }), ..facts() };
    let decision = decide("fn plan(m) { 1 }", "boot", &machine, "").unwrap();
    assert_eq!(
        decision,
        Decision { value: Value::Null, state: json!({ "a": 1 }), is_defined: false }
    );
}

#[test]
fn the_assigned_image_comes_from_the_catalog() {
    let image_ref = bty::catalog::image_ref("https://h/deb.img").unwrap().to_string();
    let bound = MachineFacts {
        image_ref: Some(image_ref.clone()),
        target_serial: Some("S1".into()),
        ..facts()
    };
    let text = "fn plan(m) { #{ image: m.image(), disk: m.target_disk(), problem: m.problem } }";
    let decision = decide(text, "plan", &bound, CATALOG).unwrap();
    assert_eq!(decision.value["image"]["src"], "https://h/deb.img");
    assert_eq!(decision.value["image"]["ref"], image_ref);
    assert_eq!(decision.value["disk"], json!({ "serial": "S1" }));
    assert_eq!(decision.value["problem"], Value::Null);

    let problem = |machine: &MachineFacts, catalog| {
        decide("fn boot(m) { m.problem }", "boot", machine, catalog).unwrap().value
    };
    assert_eq!(problem(&bound, ""), "orphan_ref");
    assert_eq!(problem(&facts(), CATALOG), "no_image");
    assert_eq!(
        problem(&MachineFacts { target_serial: None, ..bound.clone() }, CATALOG),
        "no_target_disk"
    );
    let disks = json!([{ "path": "/dev/sda", "serial": "S1", "model": "M", "size_bytes": 1 << 30 },
        { "path": "/dev/sdb", "serial": "S1", "wwn": "0x02" }]);
    let twice = MachineFacts { disks, ..bound.clone() };
    assert_eq!(problem(&twice, CATALOG), "ambiguous_disk");
    for (target, is_second) in [("wwn:0x02", true), ("where:model=M,size=1G", false)] {
        let machine = MachineFacts { target_serial: Some(target.into()), ..twice.clone() };
        let decision = decide(text, "plan", &machine, CATALOG).unwrap().value;
        assert_eq!(decision["disk"], json!({ "selector": target }));
        assert_eq!(decision["problem"], Value::Null);
        let which = "fn boot(m) { let disks = m.disks; disks.map(|d| m.is_target(d)) }";
        let found = decide(which, "boot", &machine, CATALOG).unwrap().value;
        assert_eq!(found, json!([!is_second, is_second]), "{target}");
    }
    let error = decide(text, "plan", &bound, "").unwrap_err();
    assert_eq!(error.message, "the image assigned to this machine is not in the catalog");
    assert!(error.place.is_some(), "{error:?}");
}

#[test]
fn a_plan_sees_sizes_labels_and_a_stable_percentile() {
    let text = r#"fn boot(m) {
        #{ large: m.disks[0].size_bytes > size("500G"),
           lab: m.has_label("lab"), not: m.has_label("x"),
           share: m.percentile("wave"), same: m.percentile("wave") == m.percentile("wave"),
           other: m.percentile("2") }
    }"#;
    let value = decide(text, "boot", &facts(), "").unwrap().value;
    assert_eq!(
        (&value["large"], &value["lab"], &value["not"], &value["same"]),
        (&json!(true), &json!(true), &json!(false), &json!(true))
    );
    assert!((0..100).contains(&value["share"].as_i64().unwrap()), "{value}");
}

#[test]
fn a_plan_has_no_capabilities() {
    for call in [
        "disks()",
        "flash(1, 2)",
        "http::get(\"http://h\")",
        "reboot()",
        "catalog::load(\"/etc/passwd\")",
        "sleep(1)",
    ] {
        let error = decide(&format!("fn boot(m) {{ {call} }}"), "boot", &facts(), "").unwrap_err();
        assert_eq!(error.kind(), "capability", "{call}: {error}");
    }
}
