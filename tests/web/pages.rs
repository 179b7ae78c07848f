//! Pages for operators, without scripts. `tests/browser` tests them in a browser.

use bty_tests::web::{Answer, Web};
use bty_tests::{LIMIT, eventually};
use serde_json::json;
use url::form_urlencoded;

use super::pxe::{MAC, add_image, token};

const PAGE: &str = "/ui/machines/52-54-00-12-34-56";

/// Submits a form and returns the response.
fn post(web: &Web, path: &str, fields: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    web.request(
        "POST",
        path,
        &[("Content-Type", "application/x-www-form-urlencoded")],
        body.as_bytes(),
    )
}

/// Submits a form that must be accepted, and returns the page that it redirects to.
fn done(web: &Web, path: &str, fields: &[(&str, &str)]) -> String {
    let answer = post(web, path, fields).expect(303);
    web.get(answer.header("location").unwrap()).expect(200).text()
}

/// Submits the undo form of `page`.
fn undo(web: &Web, page: &str) -> String {
    done(web, "/ui/undo", &[("id", field(page, "id")), ("back", "/ui/dashboard")])
}

/// The value of a hidden field.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let found = page.split(&format!("name=\"{name}\" value=\"")).nth(1);
    found.unwrap_or_else(|| panic!("no field {name} in {page}")).split('"').next().unwrap()
}

/// Name and value of each hidden field of the confirmation form.
fn confirmation(page: &str) -> Vec<(String, String)> {
    let form = page
        .split("<section class=\"card danger\"")
        .nth(1)
        .expect("it is asked")
        .split("</form>")
        .next()
        .unwrap();
    let fields = form.split("<input type=\"hidden\" name=\"").skip(1);
    let pair = |text: &str| {
        let mut parts = text.splitn(3, '"');
        let name = parts.next().unwrap().to_owned();
        (name, parts.nth(1).unwrap_or_default().split('"').next().unwrap().to_owned())
    };
    fields.map(pair).collect()
}

fn bound(web: &Web) -> serde_json::Value {
    web.get(&format!("/machines/{MAC}")).json()["boot_mode"].clone()
}

/// Starts a server with an image, and a machine that has sent its inventory.
fn stage() -> (Web, String) {
    let web = Web::start();
    let image = add_image(&web);
    let token = token(&web.get(&format!("/pxe/{MAC}?boot=1")).text());
    let disk = json!({
        "path": "/dev/sda", "serial": "S1", "size_bytes": 64_u64 << 30, "model": "Fast Disk",
    });
    let posted = json!({ "disks": [disk], "lshw": { "class": "system", "vendor": "ACME" } });
    web.send("POST", &format!("/pxe/{MAC}/inventory?cycle={token}"), &posted).expect(204);
    web.get(&format!("/pxe/{MAC}/plan?cycle={token}")).expect(200);
    (web, image)
}

#[test]
fn a_plan_that_writes_is_saved_only_after_a_confirmation() {
    let (web, image) = stage();
    let form = [
        ("boot_mode", "bty-flash-once"),
        ("bty_image_ref", image.as_str()),
        ("target_disk_serial", "S1"),
    ];
    let asked = post(&web, PAGE, &form).expect(200).text();
    for shown in [
        "This overwrites a disk",
        "debian",
        "Fast Disk",
        "64.0 GiB",
        "<code>S1</code>",
        "at its next network boot",
    ] {
        assert!(asked.contains(shown), "{shown} in {asked}");
    }
    assert_eq!(bound(&web), "bty-inventory", "nothing is saved yet");
    // a confirmation is valid only for the values that were shown
    let confirmed = field(&asked, "confirmed").to_owned();
    let other = [form[0], form[1], ("target_disk_serial", "S2"), ("confirmed", confirmed.as_str())];
    assert!(post(&web, PAGE, &other).expect(200).text().contains("This overwrites a disk"));
    assert_eq!(bound(&web), "bty-inventory", "another disk was confirmed");
    let fields = confirmation(&asked);
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let page = done(&web, PAGE, &fields);
    assert!(
        page.contains("is saved with the plan bty-flash-once")
            && page.contains("Waiting for boot: flash"),
        "{page}"
    );
    assert_eq!(bound(&web), "bty-flash-once");
}

#[test]
fn a_plan_that_may_write_later_is_confirmed_too() {
    let (web, image) = stage();
    // the window is closed at the simulated boots, which are an hour apart
    let hour = web.get("/version").header("date").unwrap().split(' ').nth(4).unwrap()[..2]
        .parse::<u32>()
        .unwrap();
    let (from, to) = (((hour + 9) % 24).to_string(), ((hour + 10) % 24).to_string());
    let form = [
        ("boot_mode", "bty-window"),
        ("bty_image_ref", image.as_str()),
        ("target_disk_serial", "S1"),
        ("param.from_hour", from.as_str()),
        ("param.to_hour", to.as_str()),
    ];
    let asked = post(&web, PAGE, &form).expect(200).text();
    assert!(
        asked.contains("This can overwrite a disk") && asked.contains("when the plan decides so"),
        "{asked}"
    );
    assert!(asked.contains("<code>S1</code>") && asked.contains("Fast Disk"));
    assert_eq!(bound(&web), "bty-inventory", "nothing is saved yet");

    let source = "fn boot(m) { boot_disk() }";
    web.send("PUT", "/plans/own", &json!({ "source": source })).expect(200);
    assert!(
        post(&web, PAGE, &[("boot_mode", "own")])
            .expect(200)
            .text()
            .contains("This can overwrite a disk")
    );
    let harmless = done(&web, PAGE, &[("boot_mode", "ipxe-exit")]);
    assert!(harmless.contains("is saved"));
}

#[test]
fn saving_a_plan_in_use_shows_its_effects_first() {
    let (web, _) = stage();
    let first = "fn boot(m) { boot_disk() }";
    web.send("PUT", "/plans/own", &json!({ "source": first })).expect(200);
    web.send("PUT", &format!("/machines/{MAC}"), &json!({ "boot_mode": "own" })).expect(200);
    let second = "fn boot(m) { boot_live() }";
    let save = |source: &str, confirmed: &str| {
        post(
            &web,
            "/ui/plans",
            &[
                ("name", "own"),
                ("source", source),
                ("base_revision", "1"),
                ("confirmed", confirmed),
            ],
        )
    };
    let asked = save(second, "").expect(200).text();
    assert!(asked.contains("Save for its machines: 1") && asked.contains("changed: 1"), "{asked}");
    assert_eq!(web.get("/plans/own").json()["revision"], 1, "nothing is saved yet");
    let confirmed = asked
        .split("name=\"confirmed\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    save("fn boot(m) { boot_live() } // other", &confirmed).expect(200);
    assert_eq!(web.get("/plans/own").json()["revision"], 1, "another script was confirmed");
    save(second, &confirmed).expect(303);
    assert_eq!(web.get("/plans/own").json()["revision"], 2);
}

#[test]
fn unknown_machines_get_a_plan_that_may_write_only_with_a_tick() {
    let web = Web::start();
    let default = || {
        let settings = web.get("/settings").json();
        settings.as_array().unwrap().iter().find(|s| s["key"] == "plans.default").unwrap()["value"]
            .clone()
    };
    let form = ("setting.plans.default", "bty-flash-by-hardware");
    assert!(done(&web, "/ui/settings", &[form]).contains("nobody has reviewed; tick"));
    assert_eq!(default(), "bty-inventory");
    done(&web, "/ui/settings", &[("setting.plans.default", "bty-tui")]);
    assert_eq!(default(), "bty-tui");
    done(&web, "/ui/settings", &[form, ("may_write", "on")]);
    assert_eq!(default(), "bty-flash-by-hardware");
}

#[test]
fn a_form_with_an_invalid_assignment_is_shown_again_with_all_reasons() {
    let (web, _) = stage();
    let form = [("boot_mode", "bty-flash-once"), ("labels", "lab, -x"), ("sanboot_drive", "C:")];
    let page = post(&web, PAGE, &form).expect(422).text();
    for shown in
        ["the plan needs an image", "the plan needs a disk", "sanboot_drive", "value=\"lab, -x\""]
    {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert_eq!(bound(&web), "bty-inventory");
}

#[test]
fn a_save_is_undone_until_the_machine_has_booted_since() {
    let (web, _) = stage();
    let saved = done(&web, PAGE, &[("boot_mode", "ipxe-exit"), ("labels", "lab")]);
    let before = web.get(&format!("/machines/{MAC}")).json();
    assert!(undo(&web, &saved).contains("The change is undone."));
    let after = web.get(&format!("/machines/{MAC}")).json();
    assert_eq!(
        (&after["boot_mode"], &after["labels"]),
        (&json!("bty-inventory"), &json!([])),
        "was {before}"
    );
    assert!(undo(&web, &saved).contains("can no longer be undone"), "an undo is done once");

    let saved = done(&web, PAGE, &[("boot_mode", "bty-tui")]);
    web.get(&format!("/pxe/{MAC}?boot=2")).expect(200);
    assert!(undo(&web, &saved).contains("has changed since"));
    assert_eq!(bound(&web), "bty-tui");
}

#[test]
fn a_deleted_machine_comes_back_with_its_inventory() {
    let (web, _) = stage();
    web.send("PATCH", &format!("/machines/{MAC}"), &json!({ "labels": ["lab"] })).expect(200);
    let page = done(&web, &format!("{PAGE}/delete"), &[]);
    web.get(&format!("/machines/{MAC}")).expect(404);
    assert!(undo(&web, &page).contains("The change is undone."));
    let machine = web.get(&format!("/machines/{MAC}")).expect(200).json();
    assert_eq!(
        (&machine["labels"], &machine["known_disks"][0]["serial"]),
        (&json!(["lab"]), &json!("S1"))
    );
    web.get(&format!("/machines/{MAC}/lshw.json")).expect(200);
    assert!(web.get(PAGE).text().contains("ACME"));
}

#[test]
fn images_settings_plans_and_acknowledgements_are_undone() {
    let (web, _) = stage();
    let src = web.get("/images").json()[0]["url"].as_str().unwrap().to_owned();
    let page = done(&web, "/ui/images", &[("act", "delete"), ("key", &src)]);
    assert_eq!(web.get("/images").json(), json!([]));
    undo(&web, &page);
    assert_eq!(web.get("/images").json()[0]["url"], src.as_str());

    let page = done(&web, "/ui/settings", &[("setting.display.timezone", "Europe/Berlin")]);
    assert!(
        page.contains(" CET</time>")
            || page.contains(" CEST</time>")
            || !page.contains(" UTC</time>"),
        "{page}"
    );
    undo(&web, &page);
    let settings = web.get("/settings").json();
    let zone = settings
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["key"] == "display.timezone")
        .unwrap()
        .clone();
    assert_eq!(zone["value"], "UTC");

    let script = |title: &str| format!("//! {title}\r\nfn boot(m) {{ boot_disk() }}\r\n");
    let save = |title: &str, base: &str| {
        done(
            &web,
            "/ui/plans",
            &[
                ("name", "night"),
                ("source", &script(title)),
                ("base_revision", base),
                ("note", title),
            ],
        )
    };
    save("first", "0");
    let page = save("second", "1");
    assert!(
        !web.get("/plans/night").json()["source"].as_str().unwrap().contains('\r'),
        "line ends are those of the script"
    );
    undo(&web, &page);
    assert!(web.get("/plans/night").json()["source"].as_str().unwrap().contains("first"));
    let page = done(&web, "/ui/plans/night/delete", &[]);
    web.get("/plans/night").expect(404);
    undo(&web, &page);
    web.get("/plans/night").expect(200);

    post(&web, "/ui/images", &[("act", "import"), ("source", "/nowhere/at/all.toml")]).expect(303);
    let failures = || web.get("/events?failed=true").json()["unacknowledged_failures"].clone();
    assert_eq!(failures(), 1);
    let page = done(&web, "/ui/events", &[("act", "all")]);
    assert_eq!(failures(), 0);
    undo(&web, &page);
    assert_eq!(failures(), 1);
}

#[test]
fn errors_of_a_script_are_shown_at_their_lines_and_nothing_is_saved() {
    let web = Web::start();
    let source = "//! Broken\nfn boot(m) {\n    boot_disk(\n}\n";
    let page = post(&web, "/ui/plans", &[("name", "night"), ("source", source), ("is_new", "1")])
        .expect(422)
        .text();
    assert!(page.contains("data-line=\"4\"") || page.contains("data-line=\"3\""), "{page}");
    assert!(page.contains("//! Broken"), "what was typed is kept");
    web.get("/plans/night").expect(404);
    let conflict = [("name", "bty-tui"), ("source", "fn boot(m) { boot_disk() }"), ("is_new", "1")];
    assert!(post(&web, "/ui/plans", &conflict).expect(409).text().contains("is bundled"));
}

#[test]
fn the_search_of_events_finds_fields_and_words() {
    let (web, _) = stage();
    let found = |q: &str| {
        web.get(&format!("/ui/events?q={}", q.replace(' ', "+")))
            .expect(200)
            .text()
            .matches("id=\"e-")
            .count()
    };
    let all = web.events(MAC).len();
    assert_eq!(found(MAC), all);
    assert_eq!(found("52-54-00-12-34-56 machine.inventory"), 1);
    assert_eq!(found("actor:pxe-client"), all);
    assert_eq!(found("NEW machine discovered"), 1);
    assert_eq!(found("failed"), 0);
    assert_eq!(found("192.0.2.1"), 0);
    assert!(found("127.0.0.1") >= all);
}

#[test]
fn errors_of_forms_and_missing_pages_are_pages() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let answer = web.request("POST", "/ui/login", &[form], b"password=s3cret").expect(303);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let with = |method: &str, path: &str, body: &str| {
        web.request(method, path, &[("Cookie", cookie.as_str()), form], body.as_bytes())
    };
    for path in [
        "/ui/settings",
        "/ui/undo",
        "/ui/machines/525400123456",
        "/ui/plans",
        "/ui/account",
        "/ui/logout",
    ] {
        let refused = with("POST", path, "csrf=wrong&act=end-all&boot_mode=ipxe-exit").expect(403);
        assert!(refused.text().contains("reload the page"), "{path}");
    }
    let missing = with("GET", "/ui/plans/nowhere", "").expect(404);
    assert!(missing.header("content-type").unwrap().starts_with("text/html"));
    assert!(
        missing.text().contains("<nav") && missing.text().contains("the plan nowhere"),
        "{}",
        missing.text()
    );
    assert_eq!(
        with("GET", "/machines/525400123456", "").expect(404).header("content-type"),
        Some("application/json")
    );
}

#[test]
fn a_token_is_shown_once_and_a_new_password_as_its_hash() {
    let web = Web::start();
    let page = done(&web, "/ui/account", &[("act", "token"), ("name", "ci"), ("scope", "read")]);
    let secret = page.split("id=\"secret\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert_eq!(secret.len(), 64, "{secret}");
    assert!(!web.get("/ui/account").text().contains(&secret));
    let form = [("act", "hash"), ("new", "correct horse"), ("again", "correct horse")];
    assert!(done(&web, "/ui/account", &form).contains("$argon2id$"));
    let differ = [("act", "hash"), ("new", "correct horse"), ("again", "correct house")];
    assert!(done(&web, "/ui/account", &differ).contains("do not match"));
}

#[test]
fn a_backup_is_made_fetched_and_deleted() {
    let web = Web::start();
    done(&web, "/ui/backups", &[("act", "create")]);
    let id = eventually(LIMIT, "the backup is made", || {
        web.get("/workers/backups").json()["on_disk"][0]["id"].as_str().map(str::to_owned)
    });
    assert_eq!(web.get(&format!("/ui/backups/{id}")).expect(200).json()["bty_export_version"], 4);
    web.get("/ui/backups/..%2Fstate.db").expect(404);
    let page = done(&web, "/ui/backups", &[("act", "delete"), ("key", &id)]);
    assert!(page.contains("is deleted"), "{page}");
    assert!(
        done(&web, "/ui/backups", &[("act", "delete"), ("key", "../..")])
            .contains("role=\"alert\"")
    );
}

#[test]
fn a_value_of_the_configuration_is_changed_for_the_next_start() {
    let mut web = Web::start();
    let form = |key: &'static str, value: &'static str| [("key", key), ("value", value)];
    let path = "/ui/settings/configuration";
    let page = done(&web, path, &form("server.public_url", "https://bty.example"));
    assert!(page.contains("after the next start: https://bty.example"), "{page}");
    assert!(done(&web, path, &form("server.port", "9")).contains("is set by BTY_SERVER_PORT"));
    assert!(done(&web, path, &form("server.public_url", "nonsense")).contains("role=\"alert\""));
    web.restart();
    let page = web.get("/ui/settings").text();
    assert!(
        page.contains("<span class=\"address\">https://bty.example</span>")
            && !page.contains("after the next start")
    );
    assert!(
        web.get("/ui/events?q=settings.configuration.updated")
            .text()
            .contains("https://bty.example")
    );
}
