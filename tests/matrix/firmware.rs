//! Firmware up to the first contact with the server, using only files that the server itself
//! serves. `chain::network` tests the complete paths.

use std::time::Duration;

use bty_tests::qemu::{Firmware, Machine};
use bty_tests::rack::{MAC, Rack};

/// Switches a machine on, and waits until it requests its script.
fn boots(rack: &Rack, firmware: Firmware) {
    rack.ns.run(|| {
        let mut machine = Machine::start(firmware, "tap0", MAC);
        let took = machine.wait(Duration::from_secs(180), "a contact", |_| {
            rack.web.get("/machines").json().as_array().is_some_and(|machines| !machines.is_empty())
        });
        println!("{firmware:?}: {took:.1?} from power-on to the contact");
        let machines = rack.web.get("/machines").json();
        assert_eq!(machines[0]["mac"], MAC, "{machines}");
        assert!(rack.web.events(MAC).contains(&"machine.discovered".to_owned()));
    });
}

#[test]
#[ignore = "long: make test-all"]
fn uefi_boots_over_tftp_with_one_line_of_dhcp() {
    let rack = Rack::new("one line", &[], &[]);
    boots(&rack, Firmware::Uefi);
    let kinds = rack.ns.run(|| rack.web.events(MAC));
    assert!(kinds.contains(&"tftp.client.first".to_owned()), "{kinds:?}");
}

#[test]
#[ignore = "long: make test-all"]
fn bios_boots_with_the_lines_for_it() {
    boots(&Rack::new("BIOS, UEFI", &[], &[]), Firmware::Bios);
}

#[test]
#[ignore = "long: make test-all"]
fn uefi_boots_over_http_without_tftp() {
    let rack = Rack::new("HTTP Boot", &[], &[]);
    boots(&rack, Firmware::UefiHttp);
    let kinds = rack.ns.run(|| rack.web.events(MAC));
    assert!(!kinds.contains(&"tftp.client.first".to_owned()), "{kinds:?}");
}
