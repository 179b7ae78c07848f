//! The full environment, which takes four minutes to build.

use std::path::Path;
use std::time::Instant;

use bty_tests::command::tool;
use bty_tests::qemu::{Bus, Firmware, Machine};

use crate::chain::lab::{Lab, PATIENCE, SERIAL, open_shell};

/// Switches from a shell to the full environment, and waits until its boot has finished.
fn go_on_with_full(machine: &mut Machine) {
    machine.type_in("bty-live full\r");
    let begun = Instant::now();
    machine.wait(PATIENCE, "the full environment", |said| said.contains("root@"));
    println!("the full environment after {:.1?}", begun.elapsed());
    // the prompt appears before all services have started
    machine.type_in("timeout 200 systemctl is-system-running --wait; echo booting is $((1 + 1))\r");
    machine.wait(PATIENCE, "the end of booting", |said| said.contains("booting is 2"));
}

#[test]
#[ignore = "long: make test-all"]
fn a_person_gets_the_full_environment_when_it_is_asked_for() {
    let lab = Lab::with_full();
    let (_disk, mut machine) = lab.start("bty-tui");
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image:"));
    open_shell(&mut machine);
    go_on_with_full(&mut machine);
    machine.type_in(
        "systemctl is-active bty-on-tty1 ssh; nvme list; bty --version; echo listening: $(ss -Hltn \
         'sport = 22' | wc -l); echo all is $((1 + 1))\r",
    );
    machine.wait(PATIENCE, "tools", |said| said.contains("all is 2"));
    let said = machine.said();
    assert!(said.contains("active\ninactive") && said.contains("/dev/nvme0n1"), "{said}");
    assert!(said.contains("listening: 0"), "nobody named a key: {said}");
    // at the console, a person can authorize a key; a password is never accepted
    machine.type_in(
        "ssh-keygen -q -t ed25519 -N '' -f /tmp/key && bty-ssh-key < /tmp/key.pub; echo \
                  key is $((1 + 1))\r",
    );
    machine.wait(PATIENCE, "the key", |said| said.contains("key is 2"));
    machine.type_in(
        "ssh='ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'; \
         $ssh -i /tmp/key localhost echo in by $((3 + 4)); \
         rm /root/.ssh/id_* 2>/dev/null; $ssh -o IdentitiesOnly=yes localhost true 2>&1 | grep -o \
         'Permission denied (.*'; echo ssh is $((1 + 1))\r",
    );
    machine.wait(PATIENCE, "ssh", |said| said.contains("ssh is 2"));
    let said = machine.said();
    assert!(said.contains("\nin by 7"), "{said}");
    assert!(said.contains("Permission denied (publickey)"), "passwords are not asked for: {said}");
}
/// Prints a count in a form that the echoed command itself does not contain.
const COUNT: &str = "echo assembled here: $(ls /sys/block | grep -cE '^(md|dm-)')\r";

#[test]
#[ignore = "long: make test-all"]
fn volumes_of_an_old_system_are_not_assembled_and_are_flashed_over() {
    let lab = Lab::with_full();
    let disk = lab.disk();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/volumes.py");
    tool(&["python3", script.to_str().unwrap(), disk.to_str().unwrap()]);
    let hardware = || lab.hardware(Firmware::Bios).disk(Bus::Nvme, &disk, SERIAL);

    lab.bind("bty-tui", SERIAL);
    let mut machine = lab.power_on(hardware());
    machine.wait(PATIENCE, "the wizard", |said| said.contains("Pick an image:"));
    open_shell(&mut machine);
    machine.type_in(COUNT);
    machine.wait(PATIENCE, "a look", |said| said.contains("assembled here: 0"));
    go_on_with_full(&mut machine);
    // the tools recognize the volumes, so they could be assembled
    machine
        .type_in("mdadm --examine /dev/nvme0n1p1; lvs --noheadings old; echo all is $((1 + 1))\r");
    machine.wait(PATIENCE, "tools", |said| said.contains("all is 2"));
    assert!(
        machine.said().contains("Raid Level : raid1") && machine.said().contains("root old"),
        "{}",
        machine.said()
    );
    machine.type_in(COUNT);
    machine.wait(PATIENCE, "another look", |said| said.matches("assembled here: 0").count() == 2);
    drop(machine);

    lab.bind("bty-flash-once", SERIAL);
    lab.ends(lab.power_on(hardware()), &disk);
}
