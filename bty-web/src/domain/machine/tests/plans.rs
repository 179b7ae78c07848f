//! The bundled plans that choose by digest, time, share and hardware.

use super::*;

#[test]
fn a_moved_tag_is_flashed_from_its_resolved_address() {
    let mut world = World::bound("bty-flash-once");
    world.resolved.insert(image_ref(SRC), "https://images.example/pinned.img".into());
    let token = live(&world.boot("1"));
    assert_eq!(
        world.order(Some(&token)).value["image"]["src"],
        "https://images.example/pinned.img"
    );
}

#[test]
fn only_a_changed_digest_is_flashed() {
    let mut world = World::bound("bty-flash-changed");
    world.flash("1");
    assert!(is_disk(&world.boot("2")));
    world.catalog = world.catalog.replace(&"ab".repeat(32), &"cd".repeat(32));
    world.flash("3");
    assert!(is_disk(&world.boot("4")));
}

#[test]
fn a_window_is_open_over_midnight_and_on_its_days() {
    let at = |time: &str, params: Value| {
        let mut world = World::bound("bty-window");
        world.machine.params = params.as_object().cloned().unwrap_or_default();
        world.client.now = Time::parse(time).unwrap();
        !is_disk(&world.boot("1"))
    };
    // November 24 is a Tuesday
    assert!(at("2026-11-24T23:00:00Z", json!({})));
    assert!(at("2026-11-25T05:59:00Z", json!({})));
    assert!(!at("2026-11-25T06:00:00Z", json!({})));
    assert!(at("2026-11-25T05:00:00Z", json!({ "weekdays": "2" })), "it began on Tuesday");
    assert!(!at("2026-11-24T05:00:00Z", json!({ "weekdays": "2" })), "that one began on Monday");
    assert!(at("2026-11-24T12:00:00Z", json!({ "from_hour": 9, "to_hour": 17 })));
    assert!(!at("2026-11-24T17:00:00Z", json!({ "from_hour": 9, "to_hour": 17 })));
}

#[test]
fn a_window_that_ends_at_the_hour_it_begins_lasts_a_day() {
    let at = |time: &str, params: Value| {
        let mut world = World::bound("bty-window");
        world.machine.params = params.as_object().cloned().unwrap_or_default();
        world.client.now = Time::parse(time).unwrap();
        !is_disk(&world.boot("1"))
    };
    for hour in 0..24 {
        let time = format!("2026-11-24T{hour:02}:30:00Z");
        assert!(at(&time, json!({ "from_hour": 0, "to_hour": 0 })), "{time}");
    }
    // November 24 is a Tuesday
    let tuesday = json!({ "from_hour": 9, "to_hour": 9, "weekdays": "2" });
    assert!(!at("2026-11-24T08:00:00Z", tuesday.clone()), "the window of Monday");
    assert!(at("2026-11-24T09:00:00Z", tuesday.clone()));
    assert!(at("2026-11-25T08:00:00Z", tuesday.clone()));
    assert!(!at("2026-11-25T09:00:00Z", tuesday));
}

/// Returns what a rehearsal finds in a plan.
fn rehearsed(source: &str) -> Vec<String> {
    let mut world = World::scripted(source);
    world.catalog = crate::domain::plan::rehearse::catalog(&world.catalog).unwrap();
    let mut found = Vec::new();
    world.with(|machine, context, client| {
        found = crate::domain::plan::rehearse::rehearse(context, client);
        Outcome { machine: machine.clone(), events: Vec::new(), answer: () }
    });
    found
}

#[test]
fn a_rehearsal_finds_an_image_without_a_disk() {
    const NO_DISK: &str = "plan(m) returned no disk with a serial or a selector";
    let live = "fn boot(m) { boot_live() }";
    for (source, found) in [
        (format!("{live} fn plan(m) {{ #{{ image: m.image() }} }}"), vec![NO_DISK]),
        (format!("{live} fn plan(m) {{ #{{ image: m.image(\"debian\") }} }}"), vec![NO_DISK]),
        ("fn boot(m) { boot_disk() } fn plan(m) { #{ image: m.image() } }".into(), vec![NO_DISK]),
        (
            format!(
                "{live} fn plan(m) {{ if m.clock.hour >= 2 && m.clock.hour < 10 {{ \
                 #{{ image: m.image() }} }} else {{ #{{ mode: \"exit\" }} }} }}"
            ),
            vec![NO_DISK],
        ),
        (
            format!("{live} fn plan(m) {{ #{{ disk: m.target_disk() }} }}"),
            vec!["plan(m) returned no image with a src"],
        ),
        (
            "fn boot(m) { #{ boot: \"now\" } }".into(),
            vec![
                "boot(m) must return boot_disk(), boot_live(), boot_firmware(why) or \
                 boot_chain(address)",
            ],
        ),
    ] {
        assert_eq!(rehearsed(&source), found, "{source}");
    }
}

#[test]
fn a_rehearsal_judges_no_plan_that_refuses_the_described_machine() {
    for source in [
        "fn boot(m) { throw \"only racks\" }",
        "fn boot(m) { boot_live() } fn plan(m) { #{ image: m.image(\"unknown\") } }",
        "fn boot(m) { boot_disk() } fn plan(m) { #{} }",
        "fn boot(m) { boot_live() } fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }",
        "fn boot(m) { boot_live() } fn plan(m) { #{ text: m.params.text } } fn run(p) { } \
         fn declare() { #{ parameters: #{ text: #{ type: \"string\" } } } }",
    ] {
        assert_eq!(rehearsed(source), [""; 0], "{source}");
    }
}

#[test]
fn a_rehearsal_finds_nothing_in_bundled_plans() {
    for plan in bundled::all() {
        assert_eq!(rehearsed(&plan.source), [""; 0], "{}", plan.name);
    }
}

#[test]
fn a_rollout_takes_its_share_and_the_same_machines_each_time() {
    let takes_part = |mac: u32, percent: i64| {
        let mut world = World::bound("bty-rollout");
        world.machine.mac = format!("5254{mac:08x}").parse().unwrap();
        world.machine.labels = vec!["web".into()];
        world.machine.params =
            json!({ "label": "web", "percent": percent }).as_object().cloned().unwrap();
        !is_disk(&world.boot("1"))
    };
    let of = |percent| (0..100).filter(|&mac| takes_part(mac, percent)).count();
    assert_eq!((of(0), of(100)), (0, 100));
    let some = of(30);
    assert!((15..45).contains(&some), "{some} of 100");
    assert!(
        (0..100).all(|mac| !takes_part(mac, 30) || takes_part(mac, 60)),
        "a larger share has the smaller one"
    );
}

#[test]
fn hardware_chooses_the_image_and_the_disk() {
    let mut world = World::new("bty-flash-by-hardware");
    world.machine.params =
        json!({ "image": "debian", "small_image": "other", "small_disk": "100G", "product": "Rack" })
            .as_object()
            .cloned()
            .unwrap();
    let token = live(&world.boot("1"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Inventory, "nothing is known yet");
    let post = |world: &mut World, token: &str, bytes: u64| {
        let usb = json!({ "path": "/dev/sdb", "serial": "USB", "size_bytes": 1 << 30, "removable": true });
        let disks = json!([{ "path": "/dev/sda", "serial": "S9", "size_bytes": bytes }, usb]);
        let lshw = Some(json!({ "product": "Rack 9", "vendor": "ACME" }));
        let posted = PostedInventory { disks, lshw, ..PostedInventory::default() };
        world.with(|m, context, client| apply_inventory(m, context, client, Some(token), &posted));
    };
    post(&mut world, &token, 50 << 30);
    let token = live(&world.boot("2"));
    let order = world.order(Some(&token));
    assert_eq!(
        (&order.value["image"]["name"], &order.value["disk"]["serial"]),
        (&json!("other"), &json!("S9")),
        "{:?}",
        order.reason
    );
    post(&mut world, &token, 500 << 30);
    assert_eq!(world.order(Some(&token)).value["image"]["name"], "debian");
    world.machine.hardware = json!({ "product": "Laptop" });
    assert!(is_disk(&world.boot("3")));
}
