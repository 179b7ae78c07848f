//! `bty --server` with the reference server as its peer: `make test-reference`.

use bty_tests::command::{Outcome, bty_command, bty_path, tool};
use bty_tests::reference::Reference;
use bty_tests::terminal::Start;
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};

const MAC: &str = "52:54:00:12:34:56";

fn machine(server: &Reference) -> Outcome {
    let command = bty_command(&["--server", &server.host(), "--mac", MAC, "--no-reboot"]).output();
    command.expect("it was built").into()
}

/// Assigns a plan to the machine, after a first contact that makes it known.
fn bind(server: &Reference, fields: &Value) {
    let _ = server.get(&format!("/pxe/{MAC}/plan"));
    let bound = server.send("PUT", &format!("/machines/{MAC}"), fields);
    assert_eq!(bound["mac"], MAC, "{bound}");
}

#[test]
fn a_new_machine_posts_its_inventory() {
    let Some(server) = Reference::start() else { return };
    let run = machine(&server).expect(0);
    assert!(run.stderr.contains("Plan: inventory + reboot"), "{}", run.stderr);
    assert!(
        server.events(MAC).contains(&"machine.inventory".to_owned()),
        "{:?}",
        server.events(MAC)
    );
    let hardware = server.get(&format!("/machines/{MAC}/lshw.json"));
    assert_eq!(hardware["class"], "system");
    let known = &server.get(&format!("/machines/{MAC}"))["known_disks"];
    assert!(known.is_array(), "{known}");
}

#[test]
fn a_machine_with_nothing_to_do_does_nothing() {
    let Some(server) = Reference::start() else { return };
    bind(&server, &json!({ "boot_mode": "ipxe-exit" }));
    let run = machine(&server).expect(0);
    assert!(run.stderr.contains("Plan: nothing to do"), "{}", run.stderr);
}

#[test]
fn an_interactive_machine_gets_the_servers_catalog() {
    let Some(server) = Reference::start() else { return };
    bind(&server, &json!({ "boot_mode": "bty-tui" }));
    let arguments = ["--server", &server.host(), "--mac", MAC, "--no-reboot"];
    let mut terminal =
        Start::new(&bty_path(), &arguments).env("BTY_IMAGE_ROOT", "/no/images").start();
    terminal.wait_for_prompt("> Pick an image:");
    let screen = terminal.screen();
    assert!(
        screen.contains(&format!("catalog: http://{}/catalog.toml", server.host())),
        "{screen}"
    );
    assert!(!screen.contains("loading the catalog failed"), "{screen}");
    terminal.answer("> Pick an image:", "q");
    assert_eq!(terminal.wait_exit(), 0);
}

#[test]
fn a_flash_that_fails_is_an_event_of_the_server() {
    let Some(server) = Reference::start() else { return };
    let entry = server.send(
        "POST",
        "/catalog/entries",
        &json!({ "image_url": "http://127.0.0.1:9/a.img" }),
    );
    let fields = json!({
        "boot_mode": "bty-flash-always", "bty_image_ref": entry["bty_image_ref"],
        "target_disk_serial": "NO-SUCH-DISK",
    });
    bind(&server, &fields);
    let mut child = bty_command(&["--server", &server.host(), "--mac", MAC, "--no-reboot"])
        .spawn()
        .expect("it was built");
    let has_inventory =
        || server.events(MAC).contains(&"machine.inventory".to_owned()).then_some(());
    eventually(LIMIT, "the inventory arrives", has_inventory);
    // end its wait for the disk, which could still be plugged in
    tool(&["kill", "-INT", &child.id().to_string()]);
    assert_eq!(child.wait().expect("it was started").code(), Some(130));
    assert!(
        server.events(MAC).contains(&"machine.flash_failed".to_owned()),
        "{:?}",
        server.events(MAC)
    );
}
