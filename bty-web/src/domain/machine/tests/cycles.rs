//! Contacts, boot cycles, and who may end them.

use super::*;

#[test]
fn a_crash_never_counts_as_a_completion() {
    for plan in ["bty-flash-once", "bty-flash-always"] {
        let mut world = World::bound(plan);
        for round in 0..3 {
            for crash in 0..3 {
                let token = live(&world.boot(&format!("{round}-{crash}")));
                world.order(Some(&token));
            }
            let offered = &world.events;
            assert!(!offered.is_empty());
            let token = live(&world.boot(&format!("{round}-last")));
            assert_eq!(world.events[0].details["retry_after_armed_no_done"], true, "{plan}");
            assert_eq!(world.events[0].details["image_name"], "debian", "{plan}");
            world.order(Some(&token));
            world.report(Some(&token), "done");
            assert!(is_disk(&world.boot(&format!("{round}-disk"))), "{plan}");
            if plan == "bty-flash-once" {
                world.save(&assignment(plan));
            }
        }
    }
}

#[test]
fn flash_always_and_inventory_alternate() {
    let mut world = World::bound("bty-flash-always");
    for round in 0..3 {
        world.flash(&format!("{round}a"));
        assert!(is_disk(&world.boot(&format!("{round}b"))));
    }
    let mut world = World::new("bty-inventory");
    for round in 0..3 {
        let token = live(&world.boot(&format!("{round}a")));
        world.inventory(Some(&token));
        assert_eq!(world.order(Some(&token)).mode, Mode::Inventory);
        assert_eq!(
            world.order(Some(&token)).mode,
            Mode::Inventory,
            "asked again, it is told again"
        );
        assert!(is_disk(&world.boot(&format!("{round}b"))));
    }
}

#[test]
fn a_repeated_contact_gets_the_same_answer_and_changes_nothing() {
    let mut world = World::bound("bty-flash-always");
    world.flash("1");
    let first = world.boot("2");
    let before = world.machine.clone();
    assert_eq!(world.boot("2"), first);
    assert_eq!(world.machine, before);
    assert_eq!(world.kinds(), Vec::<&str>::new());
    // a late contact of an earlier boot, too
    let token = live(&world.boot("3"));
    assert_eq!(world.boot("2"), first);
    assert_eq!(world.machine.open_cycle().unwrap().token, token);
}

#[test]
fn a_constant_nonce_does_not_block_a_machine() {
    let mut world = World::bound("bty-flash-always");
    world.flash("fixed");
    world.client.now = world.client.now.plus_ms(10 * 60 * 1000);
    assert!(is_disk(&world.boot("fixed")));
}

#[test]
fn contacts_without_a_nonce_repeat_within_a_short_window() {
    let mut world = World::bound("bty-flash-always");
    let direct = |world: &mut World, after_ms: i64, ip: &str| {
        world.client.now =
            world.machine.answers.last().map_or(world.client.now, |last| last.at.plus_ms(after_ms));
        world.client.ip = Some(ip.into());
        world.with(|m, context, client| decide_boot(m, context, client, &Contact::default()))
    };
    let first = direct(&mut world, 0, "10.0.0.9");
    assert_eq!(direct(&mut world, 2999, "10.0.0.9"), first);
    assert_ne!(direct(&mut world, 3000, "10.0.0.9"), first);
    let last = direct(&mut world, 5000, "10.0.0.9");
    assert_ne!(
        direct(&mut world, 1, "10.0.0.10"),
        last,
        "another machine, or another interface of it"
    );
}

#[test]
fn a_completion_counts_once_and_only_for_its_cycle() {
    let mut world = World::bound("bty-flash-once");
    let old = live(&world.boot("1"));
    world.order(Some(&old));
    let new = live(&world.boot("2"));
    assert!(matches!(world.report(Some(&old), "done"), Receipt::Refused(_)));
    assert_eq!(world.kinds(), ["pxe.client.refused"]);
    assert!(matches!(world.report(Some("made up"), "done"), Receipt::Refused(_)));
    assert!(
        matches!(world.report(None, "done"), Receipt::Refused(_)),
        "its live environment knows the token"
    );
    assert_eq!(world.machine.state, json!({}));
    world.order(Some(&new));
    assert_eq!(world.report(Some(&new), "done"), Receipt::Accepted);
    assert_eq!(world.report(Some(&new), "done"), Receipt::Repeated);
    assert_eq!(world.kinds(), Vec::<&str>::new(), "told once");
    assert!(matches!(world.report(Some(&new), "failed"), Receipt::Refused(_)), "it has been done");
}

#[test]
fn the_reference_client_is_identified_by_the_address_that_opened_the_cycle() {
    let mut world = World::bound("bty-flash-once");
    live(&world.boot_reference("1"));
    let order = world.order(None);
    assert_eq!(order.mode, Mode::Flash);
    world.client.ip = Some("10.0.0.66".into());
    assert!(matches!(world.report(None, "done"), Receipt::Refused(_)));
    assert_eq!(world.order(None).token, "", "the token is not for others");
    world.client.ip = Some("10.0.0.9".into());
    let events = Report { status: "done".into(), ..Report::default() };
    assert_eq!(
        world.with(|m, context, client| apply_report(m, context, client, None, &events)),
        Receipt::Accepted
    );
    assert_eq!(world.kinds(), ["machine.flashed"]);
}

#[test]
fn another_client_that_fetches_the_plan_cannot_end_the_cycle() {
    let mut world = World::bound("bty-flash-once");
    world.client.ip = Some("10.0.0.66".into());
    let order = world.order(None);
    let bare = Report { status: "done".into(), ..Report::default() };
    let done = |world: &mut World, token: Option<&str>| {
        world.with(|m, context, client| apply_report(m, context, client, token, &bare))
    };
    assert!(
        matches!(done(&mut world, None), Receipt::Refused(_)),
        "no contact has offered an environment without tokens"
    );
    assert!(matches!(world.report(None, "done"), Receipt::Refused(_)));
    assert_eq!(done(&mut world, Some(&order.token)), Receipt::Accepted);
    assert_eq!(world.kinds(), ["machine.flash_failed"], "nothing says which disk was written");
    assert_eq!(world.machine.flashed, None);
    live(&world.boot("1"));
}

#[test]
fn an_inventory_of_another_client_changes_nothing_while_a_cycle_is_open() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.inventory(Some(&token));
    let disks = world.machine.disks.clone();
    let foreign = PostedInventory {
        disks: json!([{ "path": "/dev/sda", "serial": "EVIL", "size_bytes": 1 }]),
        ..PostedInventory::default()
    };
    for (ip, token) in
        [("10.0.0.66", None), ("10.0.0.66", Some("made up")), ("10.0.0.9", Some("made up"))]
    {
        world.client.ip = Some(ip.into());
        world.with(|m, context, client| apply_inventory(m, context, client, token, &foreign));
        assert_eq!(world.machine.disks, disks, "{ip} {token:?}");
        assert_eq!(world.kinds(), ["machine.inventory"], "it is on record");
        assert_eq!(world.events[0].details["counts"], false);
    }
}

#[test]
fn an_earlier_boot_gets_no_orders() {
    let mut world = World::bound("bty-flash-once");
    let done = live(&world.boot("1"));
    world.order(Some(&done));
    world.report(Some(&done), "done");
    assert_eq!(world.order(Some(&done)).mode, Mode::Exit);
    world.save(&assignment("bty-flash-once"));
    let failed = live(&world.boot("2"));
    world.order(Some(&failed));
    world.report(Some(&failed), "failed");
    assert_eq!(world.kinds(), ["machine.flash_failed"]);
    assert_eq!(world.order(Some(&failed)).mode, Mode::Interactive);
    live(&world.boot("3"));
    assert_eq!(world.order(Some(&failed)).mode, Mode::Interactive, "of the boot before");
}

#[test]
fn the_wrong_disk_or_image_is_not_a_completion() {
    for (serial, sha256) in [("S2", None), ("S1", Some("cd".repeat(32)))] {
        let mut world = World::bound("bty-flash-once");
        let token = live(&world.boot("1"));
        world.order(Some(&token));
        let proof = FlashedDisk { sha256: sha256.map(|sha| sha.parse().unwrap()), ..disk(serial) };
        let events = Report { status: "done".into(), disks: vec![proof], ..Report::default() };
        world.with(|m, context, client| apply_report(m, context, client, Some(&token), &events));
        assert_eq!(world.kinds(), ["machine.flash_failed"], "{serial}");
        live(&world.boot("2"));
    }
}

#[test]
fn a_live_environment_started_by_hand_gets_the_order_of_its_plan() {
    let mut world = World::bound("bty-flash-once");
    let order = world.order(None);
    assert_eq!(order.mode, Mode::Flash);
    assert_eq!(world.report(Some(&order.token), "done"), Receipt::Accepted);
    assert_eq!(world.order(None).mode, Mode::Exit);
    let mut world = World::bound("ipxe-exit");
    assert_eq!(world.order(None).mode, Mode::Exit);
    assert_eq!(world.order(Some("made up")).mode, Mode::Interactive, "a token that nobody gave");
}
