//! Saves of operators, and what they order.

use super::*;

#[test]
fn flash_once_flashes_once_and_again_after_a_save_that_changes_nothing() {
    let mut world = World::bound("bty-flash-once");
    world.flash("1");
    for nonce in ["2", "3", "4"] {
        assert!(is_disk(&world.boot(nonce)), "{nonce}");
    }
    world.save(&assignment("bty-flash-once"));
    world.flash("5");
    assert!(is_disk(&world.boot("6")));
}

#[test]
fn after_a_new_order_the_state_is_pending_again() {
    let mut world = World::bound("bty-flash-once");
    world.flash("a");
    assert_eq!(
        (world.machine.boot_state().as_str(), world.machine.status().phase()),
        ("flashed; booting disk", Phase::Done)
    );
    world.save(&assignment("bty-flash-once"));
    assert_eq!(
        (world.machine.boot_state().as_str(), world.machine.status().phase()),
        ("pending flash", Phase::Pending)
    );
    // the server recognizes the repeated report
    let token = world.machine.cycle.as_ref().map(|cycle| cycle.token.clone());
    assert_eq!(world.report(token.as_deref(), "done"), Receipt::Repeated);
    let with_labels = Assignment { labels: vec!["lab".into()], ..assignment("bty-flash-once") };
    world.flash("b");
    world.save(&with_labels);
    assert_eq!(world.machine.boot_state(), "flashed; booting disk", "labels order nothing");
}

#[test]
fn a_change_of_labels_is_not_a_new_order() {
    let mut world = World::bound("bty-flash-once");
    world.flash("1");
    world.save(&Assignment { labels: vec!["lab".into()], ..assignment("bty-flash-once") });
    assert!(is_disk(&world.boot("2")));
    world.save(&Assignment {
        bty_image_ref: Some(image_ref(OTHER)),
        labels: vec!["lab".into()],
        ..assignment("bty-flash-once")
    });
    live(&world.boot("3"));
}

#[test]
fn spaces_around_the_serial_number_are_not_a_new_order() {
    let mut world = World::bound("bty-flash-once");
    world.flash("1");
    let bound = assignment("bty-flash-once");
    let serial = bound.target_disk_serial.as_ref().map(|serial| format!(" {serial} "));
    assert!(serial.is_some());
    world.save(&Assignment { labels: vec!["lab".into()], target_disk_serial: serial, ..bound });
    assert!(is_disk(&world.boot("2")));
}

#[test]
fn a_save_during_a_flash_is_not_completed_by_that_flash() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    world.save(&Assignment {
        bty_image_ref: Some(image_ref(OTHER)),
        ..assignment("bty-flash-once")
    });
    assert_eq!(
        world.report(Some(&token), "done"),
        Receipt::Accepted,
        "the machine must not report it for ever"
    );
    assert_eq!(world.events[0].details["is_overtaken"], true);
    assert_eq!(world.machine.flashed.as_ref().unwrap().image, Some(image_ref(SRC)));
    let token = live(&world.boot("2"));
    assert_eq!(world.order(Some(&token)).value["image"]["src"], OTHER);
}

#[test]
fn a_save_before_the_plan_is_fetched_takes_effect() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.save(&assignment("ipxe-exit"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Exit, "nothing is written any more");
}

#[test]
fn an_incomplete_assignment_is_not_flashed_and_gives_the_reason() {
    let unbound = |change: fn(&mut Assignment)| {
        let mut assignment = assignment("bty-flash-once");
        change(&mut assignment);
        let mut world = World::new("bty-flash-once");
        world.save(&assignment);
        let boot = world.boot("1");
        (boot, world.events[0].details["offer_kind"].clone())
    };
    let firmware = |reason: &str| Boot::Firmware { reason: reason.into() };
    assert_eq!(unbound(|b| b.bty_image_ref = None), (firmware("no_image"), json!("unknown")));
    assert_eq!(
        unbound(|b| b.target_disk_serial = None),
        (firmware("no_target_disk"), json!("exit-fallback"))
    );
    assert_eq!(
        unbound(|b| b.bty_image_ref = Some("ab".repeat(32))),
        (firmware("orphan_ref"), json!("exit-fallback"))
    );
}

#[test]
fn kernel_arguments_choose_the_environment_and_name_keys_and_not_the_server() {
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIGn+Zr1o0TnXUu9pKcAlMOYUEqZ0qYzq6xY6t8fHk1aB";
    let check = crate::domain::machine::contact::check_arguments;
    for right in [
        "quiet",
        "bty.environment=full",
        &format!("pci=realloc bty.environment=full bty.ssh_key={key}"),
    ] {
        assert_eq!(check(right), Ok(()), "{right}");
    }
    for wrong in [
        "bty.server=http://192.0.2.9",
        "bty.cycle=1",
        "bty.ssh_key",
        "quiet bty.mac=525400123456",
        "a -- b",
    ] {
        assert!(check(wrong).unwrap_err().contains("only the server sets"), "{wrong}");
    }
}
