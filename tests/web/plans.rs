//! Plans: saving, comparing, rolling back and simulating them.

use std::fs;
use std::path::Path;

use bty_tests::web::Web;
use serde_json::json;

use super::pxe::{MAC, add_image, token};

const GOOD: &str = "//! Always the disk.\nfn boot(m) { boot_disk() }\n";

#[test]
fn a_plan_with_errors_is_refused_with_all_of_them() {
    let web = Web::start();
    let save = |name: &str, source: &str| {
        web.send("PUT", &format!("/plans/{name}"), &json!({ "source": source }))
    };
    let mut shown = String::new();
    for (what, source) in [
        ("a syntax error", "fn boot(m) { boot_disk( }"),
        ("unknown functions", "fn boot(m) { boot_dsik() }\nfn run(p) { flahs(p) }"),
        ("an unknown module", "fn boot(m) { boot_disk() }\nfn run(p) { discs::list() }"),
        ("no boot", "fn plan(m) { #{} }"),
        ("another arity", "fn boot(m, x) { boot_disk() }\nfn on(m) { }"),
        ("eval", "fn boot(m) { eval(\"1\") }"),
        ("a declaration that throws", "fn boot(m) { boot_disk() }\nfn declare() { throw \"no\" }"),
        (
            "a declaration that is none",
            "fn boot(m) { boot_disk() }\n\
             fn declare() { #{ parameters: #{ a: #{ type: \"colour\" } } } }",
        ),
        (
            "a declaration that does not end",
            "fn boot(m) { boot_disk() }\nfn declare() { loop { } }",
        ),
    ] {
        let answer = save("mine", source).expect(422).json();
        shown += &format!("{what}:\n");
        for p in answer["problems"].as_array().unwrap() {
            let hint = p["hint"].as_str().map_or_else(String::new, |hint| format!(" ({hint})"));
            shown += &format!(
                "  {}: {}{hint}\n",
                p["at"].as_str().unwrap(),
                p["message"].as_str().unwrap()
            );
        }
    }
    insta::assert_snapshot!("refused_plans", shown);
    save("Not-A-Name", GOOD).expect(422);
    save("bty-tui", GOOD).expect(409);
    web.get("/plans/mine").expect(404);
    let report = web.send("POST", "/plans/check", &json!({ "source": GOOD })).expect(200).json();
    assert_eq!(report["problems"], json!([]));
}

#[test]
fn a_plan_that_no_machine_can_carry_out_is_refused_when_it_is_saved() {
    let web = Web::start();
    add_image(&web);
    let source = "fn boot(m) { boot_live() }\nfn plan(m) { #{ image: m.image(\"debian\") } }\n";
    let script = json!({ "source": source });
    let refused = web.send("PUT", "/plans/mine", &script).expect(422).json();
    let problem = &refused["problems"][0];
    assert_eq!(
        problem["message"], "plan(m) returned no disk with a serial or a selector",
        "{refused}"
    );
    assert!(problem["hint"].as_str().unwrap().contains("m.target_disk()"), "{refused}");
    let checked = web.send("POST", "/plans/check", &script).expect(200).json();
    assert_eq!(checked["problems"], refused["problems"]);
    web.get("/plans/mine").expect(404);
}

#[test]
fn a_window_without_days_is_refused_and_one_that_ends_when_it_begins_is_a_day() {
    let web = Web::start();
    let image = add_image(&web);
    let assign = |params: serde_json::Value| {
        let assignment = json!({
            "boot_mode": "bty-window", "bty_image_ref": image, "target_disk_serial": "S1",
            "params": params,
        });
        web.send("PUT", &format!("/machines/{MAC}"), &assignment)
    };
    for weekdays in ["", "0", "Monday", "8"] {
        let refused = assign(json!({ "weekdays": weekdays })).expect(422).text();
        assert!(refused.contains("weekdays must consist of"), "{refused}");
    }
    assign(json!({ "from_hour": 0, "to_hour": 0 })).expect(200);
    assert!(web.get(&format!("/pxe/{MAC}?boot=1")).text().contains("bty.cycle="));
}

#[test]
fn revisions_have_author_and_time_and_can_be_restored() {
    let web = Web::start();
    let second = GOOD.replace("boot_disk()", "boot_disk(\"second\")");
    web.send("PUT", "/plans/mine", &json!({ "source": GOOD, "note": "first", "base_revision": 0 }))
        .expect(200);
    web.send("PUT", "/plans/mine", &json!({ "source": GOOD, "base_revision": 0 })).expect(409);
    web.send(
        "PUT",
        "/plans/mine",
        &json!({ "source": second, "note": "second", "base_revision": 1 }),
    )
    .expect(200);
    let diff = web.get("/plans/mine/diff?from=1&to=2").expect(200).text();
    assert!(
        diff.contains("-fn boot(m) { boot_disk() }")
            && diff.contains("+fn boot(m) { boot_disk(\"second\") }"),
        "{diff}"
    );
    web.send("POST", "/plans/mine/roll-back", &json!({ "revision": 1 })).expect(200);
    let plan = web.get("/plans/mine").expect(200).json();
    assert_eq!((&plan["revision"], &plan["source"]), (&json!(3), &json!(GOOD)));
    let revisions = web.get("/plans/mine/revisions").json();
    assert_eq!(revisions[0]["note"], "rolled back to revision 1");
    assert_eq!(revisions[2]["saved_by"], "operator");
    assert_eq!(web.events("mine"), ["plan.created", "plan.saved", "plan.rolled_back"]);
    web.send("PUT", &format!("/machines/{MAC}"), &json!({ "boot_mode": "mine" })).expect(200);
    let bound = web.request("DELETE", "/plans/mine", &[], b"").expect(409).text();
    assert!(bound.contains("assigned to machines (1)"), "{bound}");
    assert!(web.get(&format!("/pxe/{MAC}?boot=1")).text().contains("sanboot"));
    web.send("PUT", &format!("/machines/{MAC}"), &json!({})).expect(200);
    web.request("DELETE", "/plans/mine", &[], b"").expect(204);
    web.get("/plans/mine").expect(404);
    web.get("/plans/mine?revision=2").expect(200);
}

#[test]
fn hostile_values_stay_data_in_every_script() {
    let web = Web::start();
    let evil = "\"}; disks::list(); /*`${1}\n<script>alert(1)</script>\u{2028}";
    let source = "fn declare() { #{ parameters: #{ text: #{ type: \"string\" } } } }\n\
                  fn boot(m) { boot_live() }\n\
                  fn plan(m) { #{ text: m.params.text, labels: m.labels } }\n\
                  fn run(p) { print(p.text); }\n";
    web.send("PUT", "/plans/mine", &json!({ "source": source })).expect(200);
    let binding = json!({
        "boot_mode": "mine", "params": { "text": evil }, "target_disk_serial": "S\"1\\`${x}",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    let script = web.get(&format!("/pxe/{MAC}?boot=1")).text();
    let token = token(&script);
    let plan = web
        .request("GET", &format!("/pxe/{MAC}/plan?cycle={token}"), &[("Accept", "text/rhai")], b"")
        .expect(200);
    let text = plan.text();
    let path = web.state().join("plan.rhai");
    std::fs::write(&path, format!("{text}\nassert_eq(PLAN.text.len(), {});", evil.chars().count()))
        .unwrap();
    let run = bty_tests::command::bty(&["run", path.to_str().unwrap()]).expect(0);
    assert!(!run.stdout.contains("dev"), "{}", run.stdout);
    let page = web.get("/ui/machines").expect(200).text();
    assert!(!page.contains("<script>"), "{page}");
    assert_eq!(web.get(&format!("/machines/{MAC}")).json()["params"]["text"], evil);
}

#[test]
fn a_catalog_with_hostile_names_and_addresses_stays_data() {
    let web = Web::start();
    let name = "\\\"}; disks::list(); `${1}` <script>alert(1)</script> & || echo";
    let text = format!(
        "version = 1\n[[images]]\nname = \"{name}\"\nsrc = \"https://h/a'b`id`$(x)<i>.img\"\n\
         format = \"x\\\"<b>\"\n"
    );
    let path = web.state().join("evil.toml");
    std::fs::write(&path, text).unwrap();
    let imported = web
        .request("POST", &format!("/catalog/import?source={}", path.display()), &[], b"")
        .expect(200);
    assert_eq!(imported.json()["imported"], 1, "{}", imported.text());
    let image = web.get("/images").json()[0].clone();
    let binding = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image["ref"],
        "target_disk_serial": "S1\"}; reboot(); //",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    let token = token(&web.get(&format!("/pxe/{MAC}?boot=1")).text());
    let path = format!("/pxe/{MAC}/plan?cycle={token}");
    let plan = web.request("GET", &path, &[("Accept", "text/rhai")], b"").expect(200).text();
    let literal = plan.lines().find(|line| line.starts_with("const PLAN = ")).unwrap();
    let json: serde_json::Value = serde_json::from_str(
        literal
            .trim_start_matches("const PLAN = #")
            .trim_end_matches(';')
            .replace("#{", "{")
            .replace(": ()", ": null")
            .as_str(),
    )
    .unwrap();
    assert_eq!(
        (&json["image"]["name"], &json["disk"]["serial"]),
        (&image["name"], &binding["target_disk_serial"])
    );
    assert_eq!(web.get(&path).json()["name"], image["name"]);
    let page = web.get("/ui/machines").expect(200).text();
    assert!(page.contains("&#60;script&#62;") && !page.contains("<script>"), "{page}");
    bty::catalog::Catalog::parse(web.get("/catalog.toml").text().as_bytes()).unwrap();
}

#[test]
fn a_machine_and_the_fleet_are_simulated_and_nothing_changes() {
    let web = Web::start();
    let image = add_image(&web);
    let binding = json!({
        "boot_mode": "bty-flash-always", "bty_image_ref": image, "target_disk_serial": "S1",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    for n in 0..9 {
        web.send("PUT", &format!("/machines/0200000000{n:02}"), &json!({})).expect(200);
    }
    let events = web.get("/events?limit=1").json()["events"][0]["id"].clone();
    let steps = web
        .send("POST", &format!("/machines/{MAC}/simulate"), &json!({ "boots": 4 }))
        .expect(200)
        .json();
    let offers: Vec<&str> =
        steps.as_array().unwrap().iter().map(|s| s["offer"].as_str().unwrap()).collect();
    assert_eq!(offers, ["live", "disk", "live", "disk"]);
    assert_eq!(
        (&steps[0]["mode"], &steps[0]["image"], &steps[0]["disk"]),
        (&json!("flash"), &json!("debian"), &json!("S1"))
    );
    let once = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
    });
    let steps = web
        .send("POST", "/machines/020000000099/simulate", &json!({ "binding": once }))
        .expect(200)
        .json();
    let offers: Vec<&str> =
        steps.as_array().unwrap().iter().map(|s| s["offer"].as_str().unwrap()).collect();
    assert_eq!(offers, ["live", "disk", "disk", "disk"]);

    let without = "version = 1\n";
    let report = web.send("POST", "/simulate", &json!({ "catalog": without })).expect(200).json();
    assert_eq!((&report["machines"], &report["unchanged"]), (&json!(10), &json!(9)));
    assert_eq!(
        report["changed"][0]["summary"],
        "boot 1: firmware (orphan_ref) instead of flash debian"
    );
    let other = json!({ "plan": "ipxe-exit", "source": "fn boot(m) { boot_live() }\n\
                                                        fn plan(m) { #{ mode: \"inventory\" } }" });
    let report = web.send("POST", "/simulate", &other).expect(200).json();
    assert_eq!(report["changed"].as_array().map(Vec::len), Some(9), "{report}");
    web.send("POST", "/simulate", &json!({ "plan": "ipxe-exit", "source": "fn boot(" }))
        .expect(422);
    assert_eq!(web.get("/events?limit=1").json()["events"][0]["id"], events, "nothing was written");
}

#[test]
fn a_plan_that_exhausts_memory_or_time_does_not_harm_the_server() {
    let web = Web::start();
    for (n, body) in [
        "loop { }",
        "let m = #{}; let i = 0; loop { let s = \"\"; s.pad(60000, 'x'); m[`${i}`] = s; i += 1; }",
    ]
    .iter()
    .enumerate()
    {
        web.send(
            "PUT",
            &format!("/plans/bad{n}"),
            &json!({ "source": format!("fn boot(m) {{ {body} }}") }),
        )
        .expect(200);
        let mac = format!("0200000000{n:02}");
        web.send("PUT", &format!("/machines/{mac}"), &json!({ "boot_mode": format!("bad{n}") }))
            .expect(200);
        let script = web.get(&format!("/pxe/{mac}?boot=1")).expect(200).text();
        assert!(script.starts_with("#!ipxe") && script.contains("sanboot"), "{script}");
    }
    let failed = web.get("/events?kind=plan.failed").json();
    assert_eq!(failed["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(failed["unacknowledged_failures"], 2);
    web.get("/healthz").expect(200);
}

#[test]
fn the_example_plans_do_at_the_next_boots_what_they_say() {
    let web = Web::start();
    let image = add_image(&web);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plans");
    let examples = [
        ("burn_in_then_flash", json!({}), ["live flash", "disk"]),
        ("canary", json!({ "since": 0 }), ["live flash", "disk"]),
        (
            "choose_by_size",
            json!({ "small": "debian", "large": "debian" }),
            ["live inventory", "live interactive"],
        ),
        ("erase_with_proof", json!({}), ["live script", "firmware"]),
        ("memtest_once", json!({ "memtest": "http://192.0.2.1/memtest.ipxe" }), ["chain", "disk"]),
        ("rescue_shell", json!({}), ["live interactive", "disk"]),
        (
            "several_disks",
            json!({ "data_image": "debian", "data_disks": "S2 S3" }),
            ["live flash", "disk"],
        ),
    ];
    let plans = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let tested = plans.filter(|path| !path.to_str().unwrap().ends_with("_test.rhai"));
    assert_eq!(tested.count(), examples.len(), "every example is simulated");
    for (file, params, boots) in examples {
        let source = fs::read_to_string(folder.join(format!("{file}.rhai"))).unwrap();
        let name = file.replace('_', "-");
        web.send("PUT", &format!("/plans/{name}"), &json!({ "source": source })).expect(200);
        let binding = json!({
            "boot_mode": name, "bty_image_ref": image, "target_disk_serial": "S1", "params": params,
        });
        web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
        let simulate = format!("/machines/{MAC}/simulate");
        let steps = web.send("POST", &simulate, &json!({ "boots": 2 })).expect(200).json();
        let word = |step: &serde_json::Value| {
            let words = [&step["offer"], &step["mode"]];
            words.iter().filter_map(|word| word.as_str()).collect::<Vec<_>>().join(" ")
        };
        let said: Vec<String> = steps.as_array().unwrap().iter().map(word).collect();
        assert_eq!(said, boots, "{file}: {steps}");
    }
}
