use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::convert::to_json;
use crate::world::{Effect, SimulatedWorld};
use crate::{Capabilities, Limits, ScriptContext};

fn engine() -> Engine {
    Engine::new(ScriptContext::compute_only(), Limits::operator())
}

fn plan(value: Value, source: &str) -> PlanScript {
    let machine = "52:54:00:12:34:56".to_owned();
    let header = Header { machine, plan: "test".into(), revision: 7, cycle: "abc".into() };
    PlanScript { header, value, source: source.to_owned() }
}

fn value_of(script: &PlanScript) -> Value {
    let outcome = run(&engine(), "plan", &script.render().unwrap(), &CancelToken::new()).unwrap();
    to_json(&outcome.value).unwrap()
}

#[test]
fn a_rendered_plan_parses_and_runs() {
    let script = plan(
        json!({"disk": {"serial": "S1"}, "sizes": [1, -2, 0.5, null, true]}),
        "fn run(p) { p }",
    );
    let text = script.render().unwrap();
    assert_eq!(Header::parse(&text).unwrap(), script.header);
    assert_eq!(value_of(&script), script.value);
}

#[test]
fn hostile_values_stay_values() {
    for hostile in [
        "\"; reboot(); \"",
        "${reboot()}",
        "`${1}`",
        "\\\"",
        "*/ reboot() /*",
        "a\nfn run(p) { 666 }",
        "\u{2028}\u{feff}\0",
    ] {
        let value = json!({ "label": hostile, hostile: [hostile] });
        assert_eq!(value_of(&plan(value.clone(), "fn run(p) { p }")), value, "{hostile:?}");
        let mut script = plan(json!(null), "fn run(p) { p }");
        script.header.plan = hostile.to_owned();
        let is_one_line = !hostile.chars().any(char::is_control);
        match script.render() {
            Ok(text) => {
                assert!(is_one_line, "{hostile:?}");
                assert_eq!(Header::parse(&text).unwrap().plan, hostile);
            }
            Err(error) => assert!(!is_one_line, "{hostile:?}: {error}"),
        }
    }
}

#[test]
fn a_plan_without_run_says_what_is_missing() {
    let error = run(
        &engine(),
        "plan",
        &plan(json!(1), "fn start(p) {}").render().unwrap(),
        &CancelToken::new(),
    );
    assert_eq!(error.unwrap_err().message, "the plan does not define run(p)");
}

#[test]
fn statements_outside_functions_happen_once() {
    let (world, _, terminal) = SimulatedWorld::parse("").unwrap();
    let engine = Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
    let text = plan(json!(7), "print(\"once\");\nfn run(p) { print(p); }").render().unwrap();
    run(&engine, "plan", &text, &CancelToken::new()).unwrap();
    assert_eq!(terminal.printed(), ["once", "7"]);
}

#[test]
fn newer_versions_and_invalid_headers_are_refused() {
    for (text, why) in [
        ("//! bty plan script 2\n//! machine: x\n", "version 2"),
        ("//! bty plan script x\n", "version is missing"),
        ("//! bty plan script 1\nconst PLAN = 1;", "machine is missing"),
        ("<html>", "first line"),
        ("", "first line"),
    ] {
        let error = Header::parse(text).unwrap_err();
        assert!(error.message.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn mac_addresses_have_one_form() {
    for text in ["52:54:00:AB:cd:ef", "52-54-00-ab-cd-ef", "525400abcdef", " 5254.00ab.cdef "] {
        assert_eq!(canonical_mac(text).as_deref(), Some("52:54:00:ab:cd:ef"));
    }
    for bad in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:eg", "52:54:00:ab:cd:ef:00"] {
        assert_eq!(canonical_mac(bad), None, "{bad:?}");
    }
}

#[test]
fn json_plans_have_the_wire_format() {
    let text = r#"{"mode":"flash","image":"http://h/a.img","target_disk_serial":"S1","name":"a",
        "disk_image_sha":"00","extra":1}"#;
    let plan: JsonPlan = serde_json::from_str(text).unwrap();
    let script = plan.script("52:54:00:12:34:56").unwrap();
    assert_eq!(script.value["disk"]["serial"], "S1");
    assert_eq!(script.value["image"]["src"], "http://h/a.img");
    assert_eq!(serde_json::to_value(JsonPlan::Inventory).unwrap(), json!({"mode": "inventory"}));
    assert_eq!(
        serde_json::from_str::<JsonPlan>(r#"{"mode":"interactive"}"#).unwrap(),
        JsonPlan::Interactive { catalog: None }
    );
    assert!(serde_json::from_str::<JsonPlan>(r#"{"mode":"dance"}"#).is_err());
}

#[test]
fn a_json_plan_flashes_its_disk_and_reboots() {
    let world = "[[disks]]\npath = \"/dev/sda\"\nsize = \"8G\"\nserial = \"OTHER\"\n\
        [[disks]]\npath = \"/dev/sdb\"\nsize = \"8G\"\nserial = \"S1\"\nappears_after = 5\n\
        [[images]]\nsrc = \"http://h/a.img\"\ndisk_size = \"1G\"\n";
    let digest = "6418d460e0a234cedbd008a77113f9f85975f153de727756c9082910c18dccd4";
    for sha in [Some(digest), None] {
        let (world, effects, _) = SimulatedWorld::parse(world).unwrap();
        let engine =
            Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
        let plan = json!({
            "mode": "flash", "image": "http://h/a.img", "target_disk_serial": "S1",
            "disk_image_sha": sha,
        });
        let plan: JsonPlan = serde_json::from_value(plan).unwrap();
        let text = plan.script("52:54:00:12:34:56").unwrap().render().unwrap();
        let outcome = run(&engine, "flash", &text, &CancelToken::new()).unwrap();
        assert_eq!(outcome.power, Some(crate::error::PowerAction::Reboot));
        // the script waited for the disk, which appeared late
        let flashed = effects.list().into_iter().find_map(|effect| match effect {
            Effect::Flash { targets, sha256, .. } => {
                Some((targets[0].serial.clone(), sha256.map(|d| d.to_string())))
            }
            _ => None,
        });
        assert_eq!(flashed, Some((Some("S1".to_owned()), sha.map(str::to_owned))));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_value_survives_the_way_through_a_script(value in any_json()) {
        prop_assert_eq!(value_of(&plan(value.clone(), "fn run(p) { p }")), value);
    }

    #[test]
    fn no_text_makes_the_header_parser_panic(text in any::<String>()) {
        let _ = Header::parse(&text);
        let _ = Header::parse(&format!("//! bty plan script 1\n//! machine: {text}"));
    }
}
