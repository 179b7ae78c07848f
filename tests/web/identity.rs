//! Machines with several network cards, and cards that move between machines.

use bty_tests::web::Web;
use serde_json::{Value, json};

const FIRST: &str = "02:00:00:00:00:01";
const SECOND: &str = "02:00:00:00:00:02";
const THIRD: &str = "02:00:00:00:00:03";
const UUID: &str = "4c4c4544-0042-4b10-8051-c7c04f4d3232";

/// Contacts the server as iPXE does, with fields of the firmware.
fn boot(web: &Web, card: &str, nonce: u32, firmware: &str) -> String {
    let card = card.replace(':', "-");
    web.get(&format!("/pxe/{card}?boot={nonce}&{firmware}")).expect(200).text()
}

fn machine(web: &Web, mac: &str) -> Value {
    web.get(&format!("/machines/{mac}")).expect(200).json()
}

fn set_rule(web: &Web, rule: &str) {
    web.send("PUT", "/settings", &json!({ "machines.identity": rule })).expect(200);
}

#[test]
fn a_second_card_is_suggested_and_merged_on_request_only() {
    let web = Web::start();
    web.send("PUT", &format!("/machines/{FIRST}"), &json!({ "boot_mode": "bty-tui" })).expect(200);
    boot(&web, FIRST, 1, &format!("uuid={UUID}&serial=7XYZ123&asset=&arch=x86_64"));
    let identity = &machine(&web, FIRST)["identity"];
    assert_eq!(identity["current"]["uuid"], UUID);
    assert_eq!(identity["current"]["arch"], "x86_64");
    boot(&web, SECOND, 2, &format!("uuid={}&serial=7XYZ123", UUID.to_uppercase()));
    assert_eq!(machine(&web, SECOND)["identity"]["same_as"], FIRST);
    assert!(web.events(SECOND).contains(&"machine.identity.suggested".to_owned()));
    assert_eq!(machine(&web, SECOND)["boot_mode"], "bty-inventory", "nothing else has changed");

    let put = format!("/machines/{FIRST}/macs/{SECOND}");
    // the open cycle of the card ends with its next boot from the disk
    let at_work = web.send("PUT", &put, &Value::Null).expect(409).text();
    assert!(at_work.contains("at work"), "{at_work}");
    let save = json!({ "boot_mode": "ipxe-exit" });
    web.send("PUT", &format!("/machines/{SECOND}"), &save).expect(200);
    let merged = web.send("PUT", &put, &Value::Null).expect(200).json();
    assert_eq!(merged["macs"], json!([SECOND]));
    assert_eq!(web.get("/machines").json().as_array().unwrap().len(), 1);

    // the machine boots by its second card: its own plan, and addresses of that card
    let script = boot(&web, SECOND, 3, "");
    assert!(script.contains("# machine: 02:00:00:00:00:01"), "{script}");
    assert!(script.contains("# plan: bty-tui"), "{script}");
    assert!(script.contains(&format!("bty.mac={SECOND} ")), "{script}");
    let token = script.split("bty.cycle=").nth(1).unwrap().split(' ').next().unwrap();
    let plan = format!("/pxe/{SECOND}/plan?cycle={token}");
    assert_eq!(web.get(&plan).expect(200).json()["mode"], "interactive");
    assert_eq!(machine(&web, SECOND)["mac"], FIRST, "both addresses mean the machine");
    let change = json!({ "labels": ["docked"] });
    web.send("PATCH", &format!("/machines/{SECOND}"), &change).expect(200);
    assert_eq!(machine(&web, FIRST)["labels"], json!(["docked"]));
    assert_eq!(web.get("/machines").json().as_array().unwrap().len(), 1);

    web.request("DELETE", &put, &[], b"").expect(200);
    web.get(&format!("/machines/{SECOND}")).expect(404);
    boot(&web, SECOND, 4, "");
    assert_eq!(machine(&web, SECOND)["mac"], SECOND);
    web.request("DELETE", &put, &[], b"").expect(404);
}

#[test]
fn placeholders_and_ties_suggest_nothing() {
    let web = Web::start();
    let placeholder = "uuid=03000200-0400-0500-0006-000700080009\
                       &serial=To%20be%20filled%20by%20O.E.M.&asset=XXXXXXXX";
    boot(&web, FIRST, 1, placeholder);
    boot(&web, SECOND, 2, placeholder);
    assert!(machine(&web, SECOND).get("identity").is_none());
    boot(&web, FIRST, 3, "serial=SHARED17");
    boot(&web, SECOND, 4, "serial=SHARED17");
    assert_eq!(machine(&web, SECOND)["identity"]["same_as"], FIRST);
    boot(&web, THIRD, 5, "serial=SHARED17");
    assert!(machine(&web, THIRD)["identity"].get("same_as").is_none());
}

#[test]
fn an_unknown_card_is_merged_if_the_setting_says_so() {
    let mut web = Web::start();
    set_rule(&web, "merge");
    web.send("PUT", &format!("/machines/{FIRST}"), &json!({ "boot_mode": "bty-tui" })).expect(200);
    boot(&web, FIRST, 1, &format!("uuid={UUID}"));
    let script = boot(&web, SECOND, 2, &format!("uuid={UUID}"));
    assert!(script.contains("# plan: bty-tui"), "{script}");
    assert_eq!(machine(&web, FIRST)["macs"], json!([SECOND]));
    let events = web.get("/events?kind=machine.merged").json();
    assert_eq!(events["events"][0]["actor"], "pxe-client");
    assert_eq!(events["events"][0]["details"]["reason"], "the same uuid");
    web.restart();
    assert!(boot(&web, SECOND, 3, "").contains("# plan: bty-tui"), "also after a restart");
    // what is asked about one card is answered about its machine
    let inventory = json!({ "disks": [], "lshw": { "id": "rack" } });
    web.send("POST", &format!("/pxe/{SECOND}/inventory"), &inventory).expect(204);
    for card in [FIRST, SECOND] {
        web.get(&format!("/machines/{card}/lshw.json")).expect(200);
        let simulated = json!({ "boots": 1 });
        web.send("POST", &format!("/machines/{card}/simulate"), &simulated).expect(200);
    }
    // a deleted machine takes its cards along
    web.request("DELETE", &format!("/machines/{FIRST}"), &[], b"").expect(204);
    boot(&web, SECOND, 4, "");
    assert_eq!(machine(&web, SECOND)["mac"], SECOND);

    set_rule(&web, "off");
    boot(&web, THIRD, 5, &format!("uuid={UUID}"));
    assert!(machine(&web, THIRD).get("identity").is_none());
}

#[test]
fn a_card_that_has_moved_is_said_and_nothing_else_happens() {
    let web = Web::start();
    web.send("PUT", &format!("/machines/{FIRST}"), &json!({ "boot_mode": "bty-tui" })).expect(200);
    boot(&web, FIRST, 1, "serial=7XYZ123");
    let script = boot(&web, FIRST, 2, "serial=8ABC456");
    assert!(script.contains("# plan: bty-tui"), "{script}");
    let identity = &machine(&web, FIRST)["identity"];
    assert_eq!(identity["current"]["serial"], "8ABC456");
    assert_eq!(identity["previous"]["firmware"]["serial"], "7XYZ123");
    let events = web.get("/events?kind=machine.identity.changed").json();
    let summary = events["events"][0]["summary"].as_str().unwrap();
    assert!(summary.contains("7XYZ123") && summary.contains("8ABC456"), "{summary}");
}
