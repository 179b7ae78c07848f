//! Plans that fail, and live environments that do not start.

use super::*;

#[test]
fn a_failing_plan_boots_the_disk_with_a_message() {
    let failing = [
        "fn boot(m) { throw \"not today\" }",
        "fn boot(m) { 7 }",
        "fn boot(m) { #{ boot: \"everything\" } }",
        "fn boot(m) { loop {} }",
        "fn boot(m) { boot_chain(\"file:///etc/passwd\") }",
        "fn boot(m) { boot_live(\"x\\ninitrd http://evil\") }",
        "fn boot(m) { boot_live(\"bty.server=http://evil\") }",
        "fn boot(m) { m.state.x = 1; throw \"half done\" }",
        "fn other() { }",
    ];
    for source in failing {
        let mut world = World::scripted(source);
        assert!(matches!(world.boot("1"), Boot::Failed { .. }), "{source}");
        assert_eq!(world.kinds(), ["plan.failed", "netboot.pxe.offered"], "{source}");
        assert_eq!(world.machine.state, json!({}), "{source}");
    }
}

#[test]
fn a_plan_can_leave_its_failures_to_a_person_and_then_writes_nothing() {
    let source = "fn declare() { #{ on_failure: \"person\" } }\n\
                  fn boot(m) { throw \"not today\" }\n\
                  fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }\n\
                  fn run(p) { flash(p.image, p.disk) }";
    let mut world = World::scripted(source);
    world.machine.image_ref = Some(image_ref(SRC));
    world.machine.target_serial = Some("S1".into());
    let Boot::Live { token, fallback: Some(_), .. } = world.boot("1") else {
        panic!("a person was to be asked")
    };
    let order = world.order(Some(&token));
    assert_eq!((order.mode, order.reason.as_deref()), (Mode::Interactive, Some("not today")));
}

#[test]
fn a_plan_that_fails_after_the_flash_is_on_hold_and_flashes_no_more() {
    let source = "fn boot(m) { if m.state.flashed == true { boot_disk() } else { boot_live() } }\n\
                  fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }\n\
                  fn on(m, event) { if event.kind == \"machine.flashed\" { m.state.flashd(); } }\nfn run(p) { }";
    let mut world = World::scripted(source);
    world.machine.image_ref = Some(image_ref(SRC));
    world.machine.target_serial = Some("S1".into());
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    assert_eq!(world.report(Some(&token), "done"), Receipt::Accepted, "the flash is a fact");
    assert_eq!(world.kinds(), ["machine.flashed", "plan.failed"]);
    for nonce in ["2", "3"] {
        assert!(matches!(world.boot(nonce), Boot::Failed { .. }), "{nonce}");
    }
    assert_eq!(world.order(None).mode, Mode::Exit, "not even when it is asked directly");
}

#[test]
fn a_machine_stalls_after_three_boots_without_a_live_environment() {
    for plan in ["bty-flash-once", "bty-inventory"] {
        let mut world = World::bound(plan);
        for nonce in ["1", "2", "3"] {
            live(&world.boot(nonce));
        }
        let before = world.machine.state.clone();
        assert!(matches!(world.boot("4"), Boot::Failed { .. }), "{plan}");
        assert_eq!(world.kinds(), ["machine.boot_failed", "netboot.pxe.offered"]);
        assert_eq!(
            (world.machine.boot_state().split(':').next(), &world.machine.state),
            (Some("stalled"), &before)
        );
        assert!(matches!(world.boot("5"), Boot::Failed { .. }), "{plan}");
        assert_eq!(world.kinds(), ["netboot.pxe.offered"], "it is told once");
        let other = Assignment { netboot_version: "1.2.3".into(), ..assignment(plan) };
        world.save(&other);
        live(&world.boot("6"));
    }
}

#[test]
fn interruptions_of_a_started_live_environment_never_stall_a_machine() {
    let mut world = World::bound("bty-flash-once");
    for nonce in ["1", "2", "3", "4", "5", "6"] {
        let token = live(&world.boot(nonce));
        match nonce {
            "1" | "2" => {}
            "4" => world.inventory(Some(&token)),
            _ => assert_eq!(world.order(Some(&token)).mode, Mode::Flash),
        }
    }
    // in a boot for an inventory, posting the inventory shows that the live environment started
    let mut world = World::bound("bty-inventory");
    for nonce in ["1", "2", "3"] {
        let token = live(&world.boot(nonce));
        assert_eq!(world.order(Some(&token)).mode, Mode::Inventory);
    }
    assert!(matches!(world.boot("4"), Boot::Failed { .. }));
}

#[test]
fn without_a_limit_a_machine_never_stalls() {
    let mut world = World::bound("bty-flash-once");
    world.silent_boots_max = 0;
    for nonce in 0..20 {
        live(&world.boot(&nonce.to_string()));
    }
}

#[test]
fn an_invalid_order_asks_a_person() {
    let orders = [
        "throw \"no\"",
        "7",
        "#{}",
        "#{ mode: \"burn\" }",
        "#{ image: #{ src: \"\" }, disk: #{ serial: \"S1\" } }",
        "#{ image: #{ src: \"https://h/a\" }, disk: #{ serial: \"  \" } }",
        "#{ image: m.image(), disk: m.target_disk() }",
    ];
    for order in orders {
        let mut world =
            World::scripted(&format!("fn boot(m) {{ boot_live() }}\nfn plan(m) {{ {order} }}"));
        let token = live(&world.boot("1"));
        let got = world.order(Some(&token));
        assert_eq!(got.mode, Mode::Interactive, "{order}");
        assert!(
            got.reason.is_some() && got.value["catalog"] == "http://srv:8080/catalog.toml",
            "{order}"
        );
        assert!(world.kinds().contains(&"plan.failed"), "{order}");
    }
}
