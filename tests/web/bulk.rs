//! Names, the search, changes to many machines, and machines as a table.

use bty_tests::web::Web;
use serde_json::{Value, json};

use super::pxe::add_image;

fn mac(n: u32) -> String {
    format!("52:54:00:00:{:02x}:{:02x}", n / 256, n % 256)
}

fn add(web: &Web, n: u32, assignment: &Value) -> Value {
    web.send("PUT", &format!("/machines/{}", mac(n)), assignment).expect(200).json()
}

fn found(web: &Web, query: &str) -> Vec<String> {
    let query: String = url_encoded(query);
    let machines = web.get(&format!("/machines?q={query}")).expect(200).json();
    let macs = machines.as_array().unwrap().iter();
    macs.map(|machine| machine["mac"].as_str().unwrap().to_owned()).collect()
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn change(web: &Web, filter: &str, action: &Value, digest: Option<&Value>, status: u16) -> Value {
    let request = json!({
        "filter": filter, "action": action, "dry_run": digest.is_none(), "digest": digest,
    });
    web.send("PATCH", "/machines", &request).expect(status).json()
}

/// Asks for the list, and confirms it.
fn confirmed(web: &Web, filter: &str, action: &Value) -> Value {
    let list = change(web, filter, action, None, 200);
    change(web, filter, action, Some(&list["digest"]), 200)
}

#[test]
fn machines_have_names_and_one_search_finds_them() {
    let web = Web::start();
    let image = add_image(&web);
    let flash = json!({
        "name": "Büro West", "boot_mode": "bty-flash-once", "bty_image_ref": image,
        "target_disk_serial": "S1", "labels": ["Regal äöü", "lab"],
    });
    let machine = add(&web, 1, &flash);
    assert_eq!((&machine["name"], machine.get("warnings")), (&json!("Büro West"), None));
    let second = add(&web, 2, &json!({ "name": "büro west" }));
    let warning = second["warnings"][0].as_str().unwrap();
    assert!(warning.contains("name büro west") && warning.contains(&mac(1)), "{warning}");
    let unknown = web.get(&format!("/pxe/{}?boot=1", mac(3))).expect(200).text();
    let cycle = unknown.split("cycle=").nth(1).unwrap();
    let cycle: String = cycle.chars().take_while(char::is_ascii_alphanumeric).collect();
    let inventory = json!({
        "disks": [{ "path": "/dev/sda", "serial": "WD-77" }],
        "lshw": { "vendor": "Dell", "product": "R640", "serial": "7XQ0Z", "class": "system" },
    });
    web.send("POST", &format!("/pxe/{}/inventory?cycle={cycle}", mac(3)), &inventory).expect(204);
    for (query, expected) in [
        ("büro", &[1, 2][..]),
        ("525400000001", &[1]),
        ("52-54-00-00-00-02", &[2]),
        ("5254.0000.0003", &[3]),
        ("wd-77", &[3]),
        ("7xq0z dell", &[3]),
        ("label:\"regal ÄÖÜ\"", &[1]),
        ("image:debian", &[1]),
        ("plan:bty-flash-once state:\"pending flash\"", &[1]),
        ("state:working", &[3]),
        ("127.0.0.1", &[3]),
        ("", &[1, 2, 3]),
        ("label:regal", &[]),
    ] {
        let expected: Vec<String> = expected.iter().map(|n| mac(*n)).collect();
        assert_eq!(found(&web, query), expected, "{query}");
        let page = web.get(&format!("/ui/machines?q={}", url_encoded(query))).expect(200).text();
        for n in 1..=3 {
            let is_shown = page.contains(&format!("id=\"m-{}\"", mac(n).replace(':', "-")));
            assert_eq!(is_shown, expected.contains(&mac(n)), "{query}");
        }
        let output = web.command(&["machine", "list", "--filter", query]).output().unwrap();
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(listed.lines().count(), 1 + expected.len(), "{query}: {listed}");
    }
    web.get(&format!("/machines?q={}", "a".repeat(1001))).expect(422);
    // a rename is found at once, and what is gone is not
    web.send("PATCH", &format!("/machines/{}", mac(2)), &json!({ "name": "Keller" })).expect(200);
    assert_eq!(found(&web, "keller"), [mac(2)]);
    assert_eq!(found(&web, "büro"), [mac(1)]);
    web.request("DELETE", &format!("/machines/{}", mac(1)), &[], b"").expect(204);
    assert_eq!(found(&web, "büro"), Vec::<String>::new());
}

#[test]
fn many_machines_change_after_their_list_is_confirmed() {
    let web = Web::start();
    let image = add_image(&web);
    for n in 1..=4 {
        let disk = (n != 3).then(|| format!("S{n}"));
        add(&web, n, &json!({ "labels": ["rack"], "target_disk_serial": disk }));
    }
    add(&web, 5, &json!({ "labels": ["other"] }));
    // at work
    add(&web, 4, &json!({ "labels": ["rack"], "boot_mode": "bty-inventory" }));
    web.get(&format!("/pxe/{}?boot=1", mac(4))).expect(200);
    let action = json!({ "assign": { "boot_mode": "bty-flash-once", "bty_image_ref": image } });
    let list = change(&web, "label:rack", &action, None, 200);
    assert_eq!(list["dry_run"], true);
    let macs: Vec<&str> = list["machines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|machine| machine["mac"].as_str().unwrap())
        .collect();
    assert_eq!(macs, [mac(1), mac(2)]);
    let first = &list["machines"][0];
    assert_eq!(
        (&first["image"], &first["disk"], &first["next_boot"], &first["writes"]),
        (&json!("debian"), &json!("S1"), &json!("flash debian"), &json!(true))
    );
    assert_eq!(list["at_work"], json!([mac(4)]));
    assert_eq!(list["skipped"][0]["mac"], mac(3));
    assert!(list["skipped"][0]["reason"].as_str().unwrap().contains("needs a disk"), "{list}");
    assert_eq!(web.get(&format!("/machines/{}", mac(1))).json()["boot_mode"], "ipxe-exit");
    // without a digest, and with that of another list
    let request = json!({ "filter": "label:rack", "action": action });
    let refused = web.send("PATCH", "/machines", &request).expect(422).text();
    assert!(refused.contains("dry_run first"), "{refused}");
    add(&web, 6, &json!({ "labels": ["rack"], "target_disk_serial": "S6" }));
    let digest = &list["digest"];
    let refused = change(&web, "label:rack", &action, Some(digest), 409);
    assert!(refused["detail"].as_str().unwrap().contains("have changed"), "{refused}");
    assert_eq!(web.get(&format!("/machines/{}", mac(1))).json()["boot_mode"], "ipxe-exit");
    let done = confirmed(&web, "label:rack", &action);
    assert_eq!(done["machines"].as_array().map(Vec::len), Some(3));
    assert_eq!(web.get(&format!("/machines/{}", mac(6))).json()["boot_state"], "pending flash");
    assert_eq!(web.get(&format!("/machines/{}", mac(5))).json()["boot_mode"], "ipxe-exit");
    // a hold keeps a machine out of the live environment, and a release lets it in
    confirmed(&web, "label:rack plan:bty-flash-once", &json!({ "hold": "the rack moves" }));
    let held = web.get(&format!("/pxe/{}?boot=2", mac(1))).expect(200).text();
    assert!(held.contains("on hold: the rack moves") && !held.contains("kernel"), "{held}");
    let release = change(&web, "state:hold", &json!("release"), None, 200);
    assert_eq!(release["machines"][0]["next_boot"], "flash debian");
    confirmed(&web, "state:hold", &json!("release"));
    assert!(web.get(&format!("/pxe/{}?boot=3", mac(1))).text().contains("kernel"));
    confirmed(&web, "label:other", &json!({ "label": ["second"] }));
    confirmed(&web, "label:second", &json!({ "unlabel": ["other"] }));
    assert_eq!(web.get(&format!("/machines/{}", mac(5))).json()["labels"], json!(["second"]));
    confirmed(&web, "label:second", &json!("delete"));
    web.get(&format!("/machines/{}", mac(5))).expect(404);
}

#[test]
fn machines_are_changed_and_moved_as_tables_from_a_shell() {
    let web = Web::start();
    add_image(&web);
    let run = |arguments: &[&str], code: i32| {
        let output = web.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
        (out, err)
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rack.csv");
    let table = format!(
        "name,mac,plan,image,disk,labels\nFirst,{},bty-flash-once,debian,S1,rack 1;lab\n\
         \"Second, spare\",52-54-00-00-00-02,,,,\n",
        mac(1)
    );
    std::fs::write(&file, &table).unwrap();
    let path = file.to_str().unwrap();
    let (out, _) = run(&["machine", "import", path, "--dry-run"], 0);
    assert!(out.contains("flash debian") && out.contains("would change 2 machines"), "{out}");
    assert_eq!(found(&web, ""), Vec::<String>::new());
    run(&["machine", "import", path], 0);
    assert_eq!(found(&web, "label:\"rack 1\" name:first"), [mac(1)]);
    let (out, _) = run(&["machine", "import", path], 0);
    assert!(out.contains("changed 0 machines; 2 stay as they are"), "{out}");
    // as CSV and TOML, out and in again
    for format in ["csv", "toml"] {
        let (out, _) = run(&["machine", "export", "--format", format], 0);
        let other = Web::start();
        add_image(&other);
        let file = dir.path().join(format!("again.{format}"));
        std::fs::write(&file, &out).unwrap();
        let output =
            other.command(&["machine", "import", file.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let answer = other.get(&format!("/machines.{format}")).expect(200);
        assert_eq!(answer.text(), out);
    }
    std::fs::write(&file, table.replace("First", "Erste")).unwrap();
    let (_, err) = run(&["machine", "import", path], 1);
    assert!(err.contains("it is here already"), "{err}");
    run(&["machine", "import", path, "--replace"], 0);
    assert_eq!(found(&web, "erste"), [mac(1)]);
    // a change is printed first, and made with its digest
    let wanted = ["machine", "change", "--filter", "label:lab", "--hold", "moves"];
    let (out, _) = run(&wanted, 0);
    let digest = out.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(found(&web, "state:hold"), Vec::<String>::new());
    run(&[&wanted[..], &["--confirm", digest.as_str()][..]].concat(), 0);
    assert_eq!(found(&web, "state:hold"), [mac(1)]);
    run(&[&wanted[..], &["--confirm", digest.as_str()][..]].concat(), 1);
    run(&["machine", "change", "525400000002", "--label", "a", "--release"], 2);
    run(&["machine", "change", "525400000002"], 2);
    run(&["machine", "change", "--again"], 2);
}

#[test]
fn no_more_machines_work_at_once_than_the_operator_allows() {
    let web = Web::start();
    web.send("PUT", "/settings", &json!({ "machines.parallel": "1" })).expect(200);
    let contact = |n: u32, boot: u32| web.get(&format!("/pxe/{}?boot={boot}", mac(n))).text();
    let is_live = |script: &str| script.contains("initrd");
    assert!(is_live(&contact(1, 1)));
    let waits = contact(2, 1);
    assert!(!is_live(&waits) && waits.contains("waiting: the server lets no more"), "{waits}");
    assert!(is_live(&contact(1, 1)), "a repeated contact gets the same answer");
    assert!(!is_live(&contact(2, 1)), "also one that waits");
    // the first one finishes
    let script = contact(1, 2);
    let cycle: String = script
        .split("cycle=")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    let inventory = json!({ "disks": [], "lshw": null });
    web.send("POST", &format!("/pxe/{}/inventory?cycle={cycle}", mac(1)), &inventory).expect(204);
    web.get(&format!("/pxe/{}/plan?cycle={cycle}", mac(1))).expect(200);
    assert!(is_live(&contact(2, 2)));
    web.send("PUT", "/settings", &json!({ "machines.parallel": "x" })).expect(422);
}
