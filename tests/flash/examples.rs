//! The examples for programmers of Rust do what they say.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use bty_tests::command::{bty_path, tool};
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::LoopDisk;

const MIB: usize = 1 << 20;

/// The program of an example. `tests/examples.sh` sets the variable to where it has built those
/// that are crates of their own, the way a stranger builds them.
fn program(name: &str) -> PathBuf {
    let strangers = std::env::var_os("BTY_TEST_EXAMPLES").map(PathBuf::from);
    let stranger = strangers.map(|dir| dir.join(name.replace('_', "-")));
    let program = stranger
        .filter(|program| program.exists())
        .unwrap_or_else(|| bty_path().with_file_name("examples").join(name));
    assert!(program.exists(), "{} is missing: run `make build` first", program.display());
    program
}

/// Runs an example, and returns what it prints.
fn example(name: &str, arguments: &[&str]) -> String {
    tool(&[&[program(name).to_str().unwrap()], arguments].concat())
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
    assert_eq!(printed, "flashed and verified: true; GPT, 1: unknown, 4.0 MiB\n");
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
    let program = program("embedded_server");
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

#[test]
fn disks_are_flashed_as_tasks_of_tokio() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.img", &gpt_image(8 * MIB, 512));
    let disks = ["one", "two"].map(|name| write(dir.path(), name, &vec![0; 9 * MIB]));
    let paths = [&image, &disks[0], &disks[1]].map(|path| path.to_str().unwrap());
    let printed = example("tokio_flash", &paths);
    assert_eq!(printed.matches("flashed and verified: true\n").count(), 2, "{printed}");
    for (disk, path) in disks.iter().zip(&paths[1..]) {
        for phase in ["wipe", "write", "verify"] {
            assert!(printed.contains(&format!("{path}: {phase}\n")), "{printed}");
        }
        assert!(fs::read(disk).unwrap().starts_with(&fs::read(&image).unwrap()));
    }
}

#[test]
fn disks_of_an_own_host_are_flashed() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.img", &gpt_image(8 * MIB, 512));
    let disks = ["a.disk", "b.disk"].map(|name| write(dir.path(), name, &vec![1; 9 * MIB]));
    let printed = example("own_host", &[image.to_str().unwrap(), dir.path().to_str().unwrap()]);
    let expected = disks.each_ref().map(|disk| format!("{}: verified\n", disk.display()));
    assert_eq!(printed, expected.concat());
    for disk in &disks {
        assert!(fs::read(disk).unwrap().starts_with(&fs::read(&image).unwrap()));
    }
}

#[test]
fn ctrl_c_cancels_a_flash_and_leaves_a_disk_that_does_not_boot() {
    let dir = tempfile::tempdir().unwrap();
    let image = gpt_image(24 * MIB, 512);
    let disk = write(dir.path(), "disk", &vec![0; 32 * MIB]);
    let mut flash = Command::new(program("progress"))
        .args(["-".as_ref(), disk.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = flash.stdin.take().unwrap();
    // the rest of the image never arrives
    let feeding = thread::spawn(move || {
        input.write_all(&image[..8 * MIB]).unwrap();
        input
    });
    let (mut shown, mut progress) = (String::new(), flash.stderr.take().unwrap());
    while !shown.contains("write [") {
        let mut bytes = [0; 256];
        let n = progress.read(&mut bytes).unwrap();
        assert!(n > 0, "it has ended: {shown}");
        shown += &String::from_utf8_lossy(&bytes[..n]);
    }
    let _input = feeding.join().unwrap();
    let id = rustix::process::Pid::from_child(&flash);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    // so that it can print the rest
    let _rest = thread::spawn(move || progress.read_to_string(&mut String::new()));
    let ended = flash.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(said, format!("cancelled: {} does not boot\n", disk.display()));
    assert_eq!(ended.status.code(), Some(130));
    assert!(fs::read(&disk).unwrap()[..MIB].iter().all(|byte| *byte == 0));
}

#[test]
fn a_progress_bar_ends_full() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.img", &gpt_image(8 * MIB, 512));
    let disk = write(dir.path(), "disk", &vec![0; 9 * MIB]);
    let flashed = Command::new(program("progress")).args([image, disk]).output().unwrap();
    assert_eq!(flashed.stdout, b"flashed and verified: true\n");
    let shown = String::from_utf8(flashed.stderr).unwrap();
    let last = shown.trim_end().rsplit('\r').next().unwrap();
    assert!(last.contains(&format!(" verify [{}] ", "#".repeat(40))), "{shown:?}");
}
