//! The examples for programmers of Rust do what they say.

use std::fs;
use std::path::Path;
use std::process::Command;

use bty_tests::command::{bty_path, tool};
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::LoopDisk;

const MIB: usize = 1 << 20;

/// Runs an example, and returns what it prints.
fn example(name: &str, arguments: &[&str]) -> String {
    let program = bty_path().with_file_name("examples").join(name);
    assert!(program.exists(), "{} is missing: run `make build` first", program.display());
    tool(&[&[program.to_str().unwrap()], arguments].concat())
}

#[test]
fn an_own_source_is_flashed_to_a_disk_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let image = gpt_image(24 * MIB, 512);
    let parts: Vec<String> = image
        .chunks(10 * MIB)
        .enumerate()
        .map(|(n, part)| write(dir.path(), &format!("part.{n}"), part))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    let printed = example("own_source", &parts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(printed, "flashed and verified: true\npartition 1 at 1048576\n");
}

#[test]
fn an_embedded_server_decides_for_a_machine_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let printed = example("embedded_server", &[state]);
    assert!(printed.starts_with("#!ipxe"), "{printed}");
    assert!(printed.contains("/bty\n") && printed.ends_with("\nstopped\n"), "{printed}");
    assert!(!dir.path().join("state.db-wal").exists(), "its state is closed");
    // a worker that became a server would start workers in turn
    let program = bty_path().with_file_name("examples").join("embedded_server");
    let refused = Command::new(program).arg(state).env("BTY_SCRIPT_WORKER", "1").output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("bty_web::worker::serve"), "{said}");
}

#[test]
fn scripts_call_functions_of_a_program_and_their_tests_do_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = folder.join("examples/script-functions");
    let tested = example("script_functions", &["--test", folder.to_str().unwrap()]);
    assert!(
        tested.lines().count() == 3 && tested.lines().all(|line| line.ends_with(": ok")),
        "{tested}"
    );
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.img", &gpt_image(8 * MIB, 512));
    let disk = write(dir.path(), "disk", &vec![0; 8 * MIB]);
    let (image, disk) = (image.to_str().unwrap(), disk.to_str().unwrap());
    let script = folder.join("station.rhai");
    let printed = example("script_functions", &[script.to_str().unwrap(), image, disk, "3"]);
    assert_eq!(printed, format!("{disk} is flashed\n"));
    assert!(fs::read(disk).unwrap() == fs::read(image).unwrap());
}

#[test]
fn disks_are_listed() {
    let disk = LoopDisk::new(8 * MIB as u64, 512);
    let printed = example("list_disks", &[]);
    if let Some(disk) = disk {
        assert!(printed.contains(disk.path()), "{printed}");
    }
}

#[test]
fn an_image_is_written_to_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.img", &gpt_image(8 * MIB, 512));
    let disk = dir.path().join("disk");
    let printed = example("flash_file", &[image.to_str().unwrap(), disk.to_str().unwrap()]);
    assert_eq!(printed, "flashed and verified: true\n");
    assert!(fs::read(&disk).unwrap() == fs::read(&image).unwrap());
}
