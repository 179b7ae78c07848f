//! A machine erases its disk by the disk's own command.

use bty_tests::qemu::{Bus, Firmware};
use serde_json::json;

use super::lab::{Lab, PATIENCE, SERIAL};

#[test]
#[ignore = "starts machines: make test-chain"]
fn an_nvme_disk_erases_itself_and_attests_it() {
    let lab = Lab::new("BIOS, UEFI");
    let disk = lab.disk();
    let plan = include_str!("../../examples/plans/erase_with_proof.rhai");
    lab.rack.ns.run(|| {
        lab.rack.web.send("PUT", "/plans/erase-with-proof", &json!({ "source": plan })).expect(200);
    });
    lab.bind_with("erase-with-proof", SERIAL, &json!({ "way": "nvme_format" }));
    let hardware = lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL);
    let mut machine = lab.boot_kernel(hardware);
    machine.wait(PATIENCE, "the proof", |said| said.contains("attested by the disk"));
    lab.wait_for(&mut machine, "machine.completed", 1);
    machine.wait_off(PATIENCE);
    drop(machine);
    assert!(std::fs::read(&disk).unwrap().iter().all(|&byte| byte == 0));
    assert_eq!(lab.count("machine.flashed"), 0, "{:?}", lab.events());
}
