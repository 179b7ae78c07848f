//! The recordings of terminals in the documentation: each is what the commands show now.
//!
//! `make recordings` makes them anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty_tests::command::tool;
use bty_tests::desk::Desk;
use bty_tests::images::{filter, write};
use bty_tests::recording::Recording;
use bty_tests::server::{Gate, Reply, Server};
use bty_tests::terminal::Terminal;

const MIB: usize = 1 << 20;
const COLUMNS: u16 = 96;
const ROWS: u16 = 25;
/// Seconds that a screen stays.
const SHORT: f64 = 2.5;
const LONG: f64 = 5.0;
const IMAGE: &str = "debian-13.img";

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images")
}

/// Compares a recording with the one in the documentation, or replaces that.
fn compare(name: &str, recording: &Recording) {
    let (path, fresh) = (images().join(format!("terminal-{name}.svg")), recording.svg());
    if std::env::var_os("BTY_RECORD").is_some() {
        return fs::write(path, fresh).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(fresh.lines()).find(|(kept, fresh)| kept != fresh);
    assert!(
        kept == fresh,
        "{} shows something else, run make recordings: {differs:?}",
        path.display()
    );
}

/// Types a command at the prompt.
fn begin(shell: &mut Terminal, command: &str) {
    shell.wait_for_prompt("$");
    shell.send(command);
    shell.wait_for_prompt(&format!("$ {command}"));
    shell.send("\r");
}

/// Types a command at the prompt, and waits for the next prompt.
fn run(shell: &mut Terminal, command: &str) {
    begin(shell, command);
    shell.wait_for_prompt("$");
}

/// Creates a disk image with a file system, and the file with its digest, in the working directory.
/// Returns its bytes and its digest.
fn put_image(desk: &Desk) -> (Vec<u8>, String) {
    let path = write(&desk.work(), IMAGE, &vec![0; 64 * MIB]);
    let path = path.to_str().unwrap();
    let _ = filter(
        &["sfdisk", "--quiet", path],
        b"label: gpt\nstart=1MiB, size=62MiB, type=linux, name=root\n",
    );
    let content = desk.work().join("content");
    fs::create_dir(&content).unwrap();
    write(&content, "data", &bty_tests::pattern(12 * MIB));
    let from = content.to_str().unwrap();
    tool(&["mkfs.ext4", "-q", "-F", "-L", "root", "-E", "offset=1048576", "-d", from, path, "62M"]);
    fs::remove_dir_all(&content).unwrap();
    let digest = tool(&["sha256sum", path]).split_whitespace().next().unwrap().to_owned();
    let list = format!("{digest}  {IMAGE}\n");
    write(&desk.work(), &format!("{IMAGE}.sha256"), list.as_bytes());
    (fs::read(path).unwrap(), digest)
}

#[test]
fn disks_and_an_image_are_listed() {
    let Some(desk) = Desk::new() else { return };
    let _ = put_image(&desk);
    let mut shell = desk.shell(COLUMNS, ROWS, &[]);
    run(&mut shell, "bty disks");
    run(&mut shell, &format!("bty image {IMAGE}"));
    let mut recording = Recording::new("bty disks and bty image on a terminal", COLUMNS);
    recording.add(&shell.snapshot(), SHORT);
    compare("disks", &recording);
}

#[test]
fn an_image_is_flashed_with_progress() {
    let Some(desk) = Desk::new() else { return };
    let (image, digest) = put_image(&desk);
    let gate = Arc::new(Gate::default());
    let until = Arc::clone(&gate);
    let server = Server::start(move |request| {
        let reply = Reply::file(request, &image, "\"v1\"");
        reply.pause_after(image.len() / 2, Arc::clone(&until))
    });
    let catalog = format!(
        "version = 1\n[[images]]\nname = \"debian 13\"\nsrc = \"http://images.lan/{IMAGE}\"\n\
         sha256 = \"{digest}\"\n"
    );
    write(&desk.work(), "lab.toml", catalog.as_bytes());
    let mut shell = desk.shell(COLUMNS, ROWS, &[("http_proxy", &server.url(""))]);
    let mut recording = Recording::new("bty flash on a terminal, with its progress", COLUMNS);
    begin(&mut shell, "bty flash 'debian 13' serial:4C530001230412115574 --catalog lab.toml");

    shell.wait_for_prompt("Type yes to write to /dev/sda:");
    recording.add(&shell.snapshot(), LONG);
    shell.send("yes\r");
    // the first MiB is written last
    shell.wait_for("write   31.0 MiB/64.0 MiB");
    recording.add(&shell.snapshot(), SHORT);
    gate.open();
    shell.wait_for_prompt("$");
    recording.add(&shell.snapshot(), SHORT);
    compare("flash", &recording);
}

#[test]
fn the_wizard_flashes_an_image() {
    let Some(desk) = Desk::new() else { return };
    let _ = put_image(&desk);
    let mut shell = desk.shell(COLUMNS, ROWS, &[("BTY_IMAGE_ROOT", "/mnt")]);
    let mut recording = Recording::new("the wizard of bty on a terminal", COLUMNS);
    begin(&mut shell, "bty");
    for (prompt, answer) in [
        ("> Pick an image:", "1"),
        ("> Pick the disk to write to:", "2"),
        ("> Type yes to erase and write:", "yes"),
        ("> What now?", ""),
    ] {
        shell.wait_for_prompt(prompt);
        recording.add(&shell.snapshot(), LONG);
        shell.send(&format!("{answer}\r"));
    }
    shell.wait_for_prompt("$");
    compare("wizard", &recording);
}

#[test]
fn a_script_is_checked_and_tried() {
    let Some(desk) = Desk::new() else { return };
    let _ = put_image(&desk);
    let script = format!(
        "// Writes the image to the only disk that is connected by USB.\n\
         let disk = disks::onyl(|d| d.transport == \"usb\");\n\
         flash(\"{IMAGE}\", disk);\n"
    );
    write(&desk.work(), "stick.rhai", script.as_bytes());
    let mut shell = desk.shell(COLUMNS, ROWS, &[]);
    let mut recording = Recording::new("bty check and bty run on a terminal", COLUMNS);
    run(&mut shell, "cat stick.rhai");
    run(&mut shell, "bty check stick.rhai");
    recording.add(&shell.snapshot(), LONG);
    run(&mut shell, "sed -i s/onyl/only/ stick.rhai");
    run(&mut shell, "bty check stick.rhai");
    run(&mut shell, "bty run stick.rhai --dry-run");
    recording.add(&shell.snapshot(), SHORT);
    compare("check", &recording);
}

#[test]
fn every_recording_is_made_here() {
    if std::env::var_os("BTY_RECORD").is_some() {
        return;
    }
    let names = fs::read_dir(images()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.starts_with("terminal-"))
        .collect();
    names.sort();
    let made = ["check", "disks", "flash", "wizard"].map(|name| format!("terminal-{name}.svg"));
    assert_eq!(names, made);
}
