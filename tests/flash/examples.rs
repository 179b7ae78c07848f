//! The examples for programmers of Rust do what they say.

use std::fs;

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
