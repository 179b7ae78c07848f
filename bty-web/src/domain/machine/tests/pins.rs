//! Images that are published anew at their address, and machines that follow them or keep the
//! assigned version.

use super::*;
use crate::domain::machine::pin::Pin;

const TAG: &str = "oras://registry.example/lab/debian:13";

/// Publishes the image of the machine anew, with another digest.
fn publish_anew(world: &mut World, src: &str) {
    world.catalog = world.catalog.replace(&"ab".repeat(32), &"cd".repeat(32));
    let image = CatalogImage { moved_at: Some(Time(0)), ..catalog_image(src, "cd") };
    world.images.insert(image_ref(src), image);
}

/// A machine that keeps the version of the image at `src` that is assigned to it.
fn pinned(plan: &str, src: &str) -> World {
    let mut world = World::new(plan);
    world.pins_images = true;
    world.catalog = world.catalog.replace(SRC, src);
    world.images.insert(image_ref(src), catalog_image(src, "ab"));
    world.save(&Assignment { bty_image_ref: Some(image_ref(src)), ..assignment(plan) });
    world
}

fn sha256(order: &Order) -> &str {
    order.value["image"]["sha256"].as_str().unwrap_or_default()
}

#[test]
fn a_machine_that_follows_writes_the_newest_version() {
    let mut world = World::bound("bty-flash-once");
    publish_anew(&mut world, SRC);
    let token = live(&world.boot("1"));
    assert_eq!(sha256(&world.order(Some(&token))), "cd".repeat(32));
}

#[test]
fn a_pinned_machine_whose_version_is_gone_boots_its_disk_on_hold() {
    let mut world = pinned("bty-flash-once", SRC);
    publish_anew(&mut world, SRC);
    let Boot::Failed { reason } = world.boot("1") else { panic!("it boots something else") };
    assert!(reason.contains("published anew") && reason.contains(&"ab".repeat(32)), "{reason}");
    assert_eq!(world.kinds(), ["machine.boot_failed", "netboot.pxe.offered"]);
    assert!(world.machine.boot_state().starts_with("on hold: debian"));
    world.boot("2");
    assert_eq!(world.kinds(), ["netboot.pxe.offered"], "the failure is recorded once");
}

#[test]
fn saving_a_pinned_machine_assigns_the_newest_version() {
    let mut world = pinned("bty-flash-once", SRC);
    publish_anew(&mut world, SRC);
    world.boot("1");
    world.save(&assignment("bty-flash-once"));
    let token = live(&world.boot("2"));
    assert_eq!(sha256(&world.order(Some(&token))), "cd".repeat(32));
}

#[test]
fn a_pinned_machine_that_is_flashed_already_is_not_put_on_hold() {
    let mut world = pinned("bty-flash-once", SRC);
    world.flash("1");
    publish_anew(&mut world, SRC);
    assert!(is_disk(&world.boot("2")));
    assert_eq!(world.machine.hold, None);
}

#[test]
fn an_order_for_a_version_that_went_away_after_the_contact_writes_nothing() {
    let mut world = pinned("bty-flash-once", SRC);
    let token = live(&world.boot("1"));
    publish_anew(&mut world, SRC);
    let order = world.order(Some(&token));
    assert_eq!((order.mode, &order.value), (Mode::Exit, &json!({})));
    assert!(order.reason.unwrap().contains("published anew"));
    assert!(matches!(world.boot("2"), Boot::Failed { .. }));
}

#[test]
fn a_machine_that_is_put_on_hold_before_its_order_gets_none() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    world.machine.put_on_hold("its image debian was deleted from the catalog");
    assert_eq!(world.order(Some(&token)).mode, Mode::Exit);
    assert!(matches!(world.boot("2"), Boot::Failed { .. }));
}

#[test]
fn a_machine_that_is_put_on_hold_while_it_is_flashed_reports_its_result() {
    let mut world = World::bound("bty-flash-once");
    let token = live(&world.boot("1"));
    assert_eq!(world.order(Some(&token)).mode, Mode::Flash);
    world.machine.put_on_hold("its image debian was deleted from the catalog");
    assert_eq!(world.report(Some(&token), "done"), Receipt::Accepted);
}

#[test]
fn a_registry_still_has_the_pinned_version() {
    let mut world = pinned("bty-flash-once", TAG);
    publish_anew(&mut world, TAG);
    world.resolved.insert(image_ref(TAG), "oras://registry.example/lab/debian@sha256:cd".into());
    let token = live(&world.boot("1"));
    let order = world.order(Some(&token));
    assert_eq!(sha256(&order), "ab".repeat(32));
    let src = format!("oras://registry.example/lab/debian@sha256:{}", "ab".repeat(32));
    assert_eq!(order.value["image"]["src"], src);
}

#[test]
fn a_pinned_version_counts_as_current() {
    let mut world = pinned("bty-flash-changed", TAG);
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    let flashed = FlashedDisk { sha256: "ab".repeat(32).parse().ok(), ..disk("S1") };
    let report = Report { disks: vec![flashed], ..Report::done(Vec::new()) };
    world.with(|m, context, client| apply_report(m, context, client, Some(&token), &report));
    publish_anew(&mut world, TAG);
    assert!(is_disk(&world.boot("2")), "only the catalog has another digest");
}

#[test]
fn the_parameter_of_a_plan_goes_before_the_setting() {
    let pin_of = |rolling: &str, pins_images: bool| -> Option<Pin> {
        let mut world = pinned("bty-flash-once", SRC);
        publish_anew(&mut world, SRC);
        world.pins_images = pins_images;
        world.machine.params = json!({ "rolling": rolling }).as_object().cloned().unwrap();
        let mut found = None;
        world.with(|machine, context, _| {
            found = context.pin(machine);
            Outcome { machine: machine.clone(), events: Vec::new(), answer: () }
        });
        found
    };
    assert!(pin_of("follow", true).is_none());
    assert!(pin_of("pin", false).is_some());
    assert!(pin_of("setting", true).is_some());
    assert!(pin_of("setting", false).is_none());
}
