//! A machine that the server's power hook switches on.

use std::path::Path;

use bty_tests::command::write_program;
use bty_tests::qemu::{Bus, Firmware};
use bty_tests::rack::MAC;
use serde_json::json;

use super::lab::{Lab, SERIAL};

/// A hook for a machine of QEMU, which is controlled by the monitor at the socket `monitor`.
fn hook(monitor: &Path) -> String {
    format!(
        r#"#!/usr/bin/python3
import json, socket, sys

action = json.load(sys.stdin)["action"]
if action not in ("netboot", "cycle"):
    sys.exit(f"this hook cannot {{action}}")
if action == "cycle":
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect("{}")
        monitor.sendall(b"system_reset\ncont\ninfo status\n")
        said = b""
        while b"VM status: running" not in said:
            said += monitor.recv(4096) or sys.exit("the monitor has hung up")
    print("the machine has been reset")
"#,
        monitor.display()
    )
}

#[test]
#[ignore = "starts machines: make test-chain"]
fn flash_now_resets_a_machine_by_a_hook_and_ends_with_the_flashed_system() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("hook");
    let lab = Lab::with_hook(&program);
    let disk = lab.disk();
    let hardware = lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL);
    let machine = lab.power_on(hardware.off());
    write_program(&program, &hook(&machine.monitor_path()));
    lab.bind("bty-flash-once", SERIAL);
    let report = lab.rack.ns.run(|| {
        let path = format!("/machines/{MAC}/power");
        lab.rack.web.send("POST", &path, &json!({ "action": "flash" })).expect(200).json()
    });
    assert_eq!(report["output"], "the machine has been reset", "{report}");
    lab.ends(machine, &disk);
}
