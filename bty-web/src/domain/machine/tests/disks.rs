//! Assigned disks: serial numbers that several disks share, and other selectors.

use super::*;

impl World {
    fn with_disks(plan: &str, target: &str, disks: Value) -> Self {
        let mut world = Self::bound(plan);
        world.save(&Assignment { target_disk_serial: Some(target.into()), ..assignment(plan) });
        world.machine.disks = Some(disks);
        world
    }

    fn report_flash(&mut self, token: &str, path: &str) -> Receipt {
        let flashed = FlashedDisk { path: path.into(), serial: None, ..disk("") };
        let report = Report::done(vec![flashed]);
        self.with(|m, context, client| apply_report(m, context, client, Some(token), &report))
    }
}

fn namespaces() -> Value {
    json!([
        { "path": "/dev/nvme0n1", "serial": "S64", "wwn": "eui.01", "size_bytes": 1_u64 << 40 },
        { "path": "/dev/nvme0n2", "serial": "S64", "wwn": "eui.02", "size_bytes": 1_u64 << 40 },
    ])
}

#[test]
fn a_serial_number_that_two_disks_have_is_never_ordered() {
    for plan in ["bty-flash-once", "bty-flash-always", "bty-flash-changed", "bty-window"] {
        let mut world = World::with_disks(plan, "S64", namespaces());
        match world.boot("1") {
            Boot::Firmware { reason } => assert_eq!(reason, "ambiguous_disk", "{plan}"),
            Boot::Disk { reason: Some(_) } if plan == "bty-window" => {}
            other => panic!("{plan}: {other:?}"),
        }
    }
    let source = "fn boot(m) { boot_live() }\n\
                  fn plan(m) { #{ image: m.image(), disk: m.target_disk() } }\nfn run(p) { }";
    let mut world = World::scripted(source);
    world.machine.image_ref = Some(image_ref(SRC));
    world.machine.target_serial = Some("S64".into());
    world.machine.disks = Some(namespaces());
    let token = live(&world.boot("1"));
    let order = world.order(Some(&token));
    assert_eq!(order.mode, Mode::Interactive, "the machine would refuse it");
    assert!(order.reason.unwrap().starts_with("2 disks of this machine match S64"));
}

#[test]
fn a_selector_orders_the_disk_that_it_names_and_proves_it_by_the_inventory() {
    for (path, is_right) in [("/dev/nvme0n2", true), ("/dev/nvme0n1", false)] {
        let mut world = World::with_disks("bty-flash-once", "wwn:eui.02", namespaces());
        let token = live(&world.boot("1"));
        let order = world.order(Some(&token));
        assert_eq!(order.mode, Mode::Flash);
        assert_eq!(order.value["disk"], json!({ "selector": "wwn:eui.02" }));
        let posted = PostedInventory { disks: namespaces(), ..PostedInventory::default() };
        world.with(|m, c, client| apply_inventory(m, c, client, Some(&token), &posted));
        assert_eq!(world.report_flash(&token, path), Receipt::Accepted);
        let is_flashed = world.machine.flashed.is_some();
        assert_eq!((is_flashed, is_disk(&world.boot("2"))), (is_right, is_right), "{path}");
    }
}

#[test]
fn a_flash_by_a_selector_is_not_repeated_for_the_same_image() {
    let mut world = World::with_disks("bty-flash-changed", "wwn:eui.02", namespaces());
    let token = live(&world.boot("1"));
    world.order(Some(&token));
    world.report_flash(&token, "/dev/nvme0n2");
    assert!(is_disk(&world.boot("2")));
    let other = Assignment {
        target_disk_serial: Some("wwn:eui.01".into()),
        ..assignment("bty-flash-changed")
    };
    world.save(&other);
    live(&world.boot("3"));
}
