//! The wizard on a real terminal: keys, messages, screens, and the state of the terminal
//! afterwards.

use std::fs;

use bty_tests::command::bty_path;
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::{LoopDisk, Mount};
use bty_tests::terminal::{Start, Terminal};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A directory with images, and a catalog.
struct Shelf {
    dir: TempDir,
    content: Vec<u8>,
}

impl Shelf {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = gpt_image(8 * MIB, 512);
        fs::create_dir(dir.path().join("images")).unwrap();
        write(dir.path(), "images/debian-13-amd64.img", &content);
        let catalog = "version = 1\n[[images]]\nname = \"far away (x86_64)\"\n\
                       src = \"http://127.0.0.1:9/Far.img.zst\"\nsize_bytes = 1048576\n";
        write(dir.path(), "Catalog.toml", catalog.as_bytes());
        Self { dir, content }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn wizard(&self, arguments: &[&str]) -> Start {
        let mut all = vec!["--no-reboot"];
        all.extend(arguments);
        Start::new(&bty_path(), &all).env("BTY_IMAGE_ROOT", &self.path("images"))
    }

    /// Replaces text that differs between runs.
    fn redact(&self, screen: &str) -> String {
        screen.replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

/// The number of the disk at `path` in the wizard's list.
fn number_of(terminal: &Terminal, path: &str) -> String {
    let screen = terminal.screen();
    let line = screen.lines().rfind(|line| line.split_whitespace().nth(1) == Some(path));
    line.and_then(|line| line.split_whitespace().next())
        .unwrap_or_else(|| panic!("{path} is not offered:\n{screen}"))
        .to_owned()
}

#[test]
fn an_image_is_flashed_through_the_wizard_on_a_console() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    // as the live environment starts it
    let start = shelf.wizard(&["--catalog", &shelf.path("Catalog.toml")]).env("BTY_LIVE", "1");
    let mut terminal = start.start();
    terminal.wait_for("> Pick an image:");
    insta::assert_snapshot!("wizard_image", shelf.redact(&terminal.screen()));
    terminal.send("1\r");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.wait_for("> Type yes to erase and write:");
    let screen = shelf.redact(&terminal.screen()).replace(disk.path(), "/dev/DISK");
    insta::assert_snapshot!(
        "wizard_plan",
        screen.replace(&format!("write to: {number}"), "write to: NUMBER")
    );
    assert!(disk.content().iter().all(|&byte| byte == 0), "something was written before the word");
    terminal.send("yes\r");
    terminal.wait_for("> Reboot now?");
    for shown in ["decode", "write", "verify"] {
        assert!(terminal.transcript().contains(shown), "no bar says {shown}");
    }
    assert!(terminal.screen().contains("Flash completed."), "{}", terminal.screen());
    terminal.send("\r");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
    assert!(terminal.transcript().contains("reboot skipped because of --no-reboot"));
    assert!(terminal.is_restored());
    assert!(disk.content()[..8 * MIB] == shelf.content, "the disk does not hold the image");
}

#[test]
fn a_computer_that_somebody_works_at_restarts_only_by_the_word() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    for (answers, restarts) in [(&["", ""][..], false), (&["r", "reboot"], true)] {
        let mut terminal = shelf.wizard(&[]).start();
        terminal.answer("> Pick an image:", "1");
        terminal.wait_for_prompt("> Pick the disk to write to:");
        let number = number_of(&terminal, disk.path());
        terminal.send(&format!("{number}\r"));
        terminal.answer("> Type yes to erase and write:", "yes");
        terminal.wait_for("> What now?");
        assert!(terminal.screen().contains("Flash completed."), "{}", terminal.screen());
        assert!(
            terminal.screen().contains("[reboot] RESTART THIS COMPUTER"),
            "{}",
            terminal.screen()
        );
        terminal.answer("> What now?", answers[0]);
        if restarts {
            terminal.wait_for("type the word reboot");
            terminal.answer("(press Enter to continue)", "");
            terminal.answer("> What now?", answers[1]);
        }
        assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
        assert_eq!(
            terminal.transcript().contains("reboot skipped because of --no-reboot"),
            restarts
        );
    }
}

#[test]
fn a_refusal_before_the_first_write_leaves_the_disk_as_it_was_and_says_so() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    let mut terminal = shelf.wizard(&[]).start();
    terminal.answer("> Pick an image:", "1");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.wait_for("> Type yes to erase and write:");
    // the disk comes into use between the plan and the confirmation
    bty_tests::command::tool(&["mkfs.ext4", "-q", disk.path()]);
    let _mount = Mount::device(disk.path());
    terminal.send("yes\r");
    terminal.wait_for("> What now?");
    let screen = terminal.screen();
    assert!(screen.contains("Flash FAILED.") && screen.contains("is mounted on"), "{screen}");
    assert!(
        screen.contains("Nothing was written") && !screen.contains("part of the image"),
        "{screen}"
    );
}

#[test]
fn only_the_whole_word_starts_a_flash() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    let mut terminal = shelf.wizard(&[]).start();
    terminal.answer("> Pick an image:", "1");
    for (answer, is_explained) in [("y", true), ("YES", true), ("b", false), ("", false)] {
        terminal.wait_for_prompt("> Pick the disk to write to:");
        let number = number_of(&terminal, disk.path());
        terminal.send(&format!("{number}\r"));
        terminal.answer("> Type yes to erase and write:", answer);
        if is_explained {
            terminal.wait_for("to start, type the word yes");
            terminal.answer("(press Enter to continue)", "");
        }
    }
    terminal.answer("> Pick the disk to write to:", "q");
    assert_eq!(terminal.wait_exit(), 0);
    assert!(disk.content().iter().all(|&byte| byte == 0), "something was written");
    assert!(terminal.is_restored());
}

#[test]
fn a_disk_in_use_is_refused_with_the_reason_and_a_read_only_one_is_not_offered() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let backing = tempfile::NamedTempFile::new().unwrap();
    backing.as_file().set_len(16 << 20).unwrap();
    let read_only = LoopDisk::attach(backing.path(), &["--read-only"]);
    bty_tests::command::tool(&["mkfs.ext4", "-q", disk.path()]);
    let _mount = Mount::device(disk.path());
    let shelf = Shelf::new();
    let mut terminal = shelf.wizard(&[]).start();
    terminal.answer("> Pick an image:", "1");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    assert!(
        !terminal.screen().lines().any(|l| l.split_whitespace().nth(1) == Some(read_only.path())),
        "{}",
        terminal.screen()
    );
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.wait_for("(press Enter to choose another disk)");
    assert!(terminal.screen().contains("is mounted on"), "{}", terminal.screen());
    terminal.send("\r");
    terminal.wait_for("[3.Disk]");
    // the end of the input acts like q
    terminal.wait_for_prompt("> Pick the disk to write to:");
    terminal.send("\x04");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
}

#[test]
fn wrong_keys_are_explained_and_addresses_keep_their_case() {
    let shelf = Shelf::new();
    fs::remove_dir_all(shelf.path("images")).unwrap();
    let mut terminal = shelf.wizard(&[]).start();
    terminal.wait_for("> Pick an image source:");
    insta::assert_snapshot!("wizard_catalog", shelf.redact(&terminal.screen()));
    terminal.send("x\r");
    terminal.wait_for("press d, c, l or q");
    terminal.answer("(press Enter to continue)", "");
    terminal.answer("> Pick an image source:", "c");
    terminal.answer("> Catalog (q cancels):", &shelf.path("Catalog.toml"));
    terminal.wait_for("far away (x86_64)");
    for (answer, complaint) in [
        ("7", "there is no image 7: pick 1 to 1"),
        ("0", "there is no image 0: pick 1 to 1"),
        ("seven", "\"seven\" is neither a key nor a number"),
    ] {
        terminal.answer("> Pick an image:", answer);
        terminal.wait_for(complaint);
        terminal.answer("(press Enter to continue)", "");
    }
    // Ctrl-C at a prompt acts like q
    terminal.wait_for_prompt("> Pick an image:");
    terminal.send("\x03");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
    assert!(terminal.is_restored());
}

#[test]
fn a_catalog_that_cannot_be_read_says_so_and_offers_the_way_out() {
    let shelf = Shelf::new();
    fs::remove_file(shelf.path("images/debian-13-amd64.img")).unwrap();
    let mut terminal = shelf.wizard(&["--catalog", "/no/Such.toml"]).start();
    terminal.wait_for("> Pick an image:");
    insta::assert_snapshot!("wizard_empty", shelf.redact(&terminal.screen()));
    terminal.send("b\r");
    terminal.answer("> Pick an image source:", "l");
    terminal.wait_for("local only");
    terminal.answer("> Pick an image:", "Q");
    assert_eq!(terminal.wait_exit(), 0);
}

#[test]
fn an_image_that_is_not_there_leads_back_to_the_images() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    let mut terminal = shelf.wizard(&["--catalog", &shelf.path("Catalog.toml")]).start();
    terminal.answer("> Pick an image:", "2");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.wait_for("(press Enter to continue)");
    assert!(terminal.screen().contains("127.0.0.1:9"), "{}", terminal.screen());
    terminal.send("\r");
    terminal.wait_for("[2.Image]");
}

#[test]
fn ctrl_c_during_a_flash_cancels_it_and_keeps_the_wizard() {
    let Some(disk) = LoopDisk::new(600 << 20, 512) else { return };
    let shelf = Shelf::new();
    let mut content = gpt_image(512 * MIB, 512);
    content.iter_mut().skip(MIB).step_by(512).for_each(|byte| *byte |= 1);
    write(shelf.dir.path(), "images/large.img", &content);
    drop(content);
    let mut terminal = shelf.wizard(&[]).start();
    terminal.answer("> Pick an image:", "2");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.answer("> Type yes to erase and write:", "yes");
    terminal.wait_for_ever_shown("decode");
    terminal.send("\x03");
    terminal.wait_for("> What now?");
    assert!(terminal.screen().contains("Flash cancelled."), "{}", terminal.screen());
    assert!(terminal.screen().contains("It does not boot"), "{}", terminal.screen());
    assert!(disk.content()[..MIB].iter().all(|&byte| byte == 0), "the first MiB is not zero");
    terminal.send("\r");
    terminal.wait_for("[3.Disk]");
    terminal.answer("> Pick the disk to write to:", "q");
    assert_eq!(terminal.wait_exit(), 0);
    assert!(terminal.is_restored());
}

#[test]
fn without_a_terminal_there_is_no_wizard() {
    let run = bty_tests::command::bty(&[]).expect(2);
    assert!(
        run.stderr.contains("cannot run the wizard") && run.stderr.contains("bty --help"),
        "{}",
        run.stderr
    );
    // an option for the wizard before a verb is a mistake, and not ignored
    assert_eq!(bty_tests::command::bty(&["--catalog", "x.toml", "disks"]).code, 2);
}

#[test]
fn a_killed_wizard_leaves_a_usable_terminal() {
    let shelf = Shelf::new();
    for signal in ["TERM", "HUP"] {
        let mut terminal = shelf.wizard(&[]).start();
        terminal.wait_for("> Pick an image:");
        terminal.kill(signal);
        terminal.wait_exit();
        assert!(terminal.is_restored(), "after SIG{signal}:\n{}", terminal.screen());
    }
}

#[test]
fn a_serial_line_gets_the_same_wizard() {
    let shelf = Shelf::new();
    let mut terminal = shelf.wizard(&[]).size(0, 0).env("TERM", "vt220").start();
    terminal.wait_for("> Pick an image:");
    assert!(
        terminal.screen().lines().all(|line| line.chars().count() <= 80),
        "{}",
        terminal.screen()
    );
    terminal.send("q\r");
    assert_eq!(terminal.wait_exit(), 0);
}

#[test]
fn long_lists_are_shown_by_pages() {
    let shelf = Shelf::new();
    for number in 0..40 {
        write(shelf.dir.path(), &format!("images/image-{number:02}.img"), &[1; 512]);
    }
    let mut terminal = shelf.wizard(&[]).start();
    terminal.wait_for("1..11 of 41");
    assert!(
        terminal.screen().starts_with("bty: ") || terminal.screen().contains("1.Catalog"),
        "{}",
        terminal.screen()
    );
    terminal.answer("> Pick an image:", "n");
    terminal.wait_for("12..22 of 41");
    terminal.answer("> Pick an image:", "p");
    terminal.wait_for("1..11 of 41");
    // a number from another page is accepted too
    terminal.answer("> Pick an image:", "41");
    terminal.wait_for("image: image-39.img");
}

#[test]
fn an_own_copy_of_the_wizard_runs() {
    let shelf = Shelf::new();
    let dir = shelf.path("mine");
    let _ = bty_tests::command::bty(&["eject", "wizard", &dir]).expect(0);
    let screen = format!("{dir}/pick_image.rhai");
    let changed =
        fs::read_to_string(&screen).unwrap().replace("\"Pick an image\"", "\"Which one, dear\"");
    fs::write(&screen, changed).unwrap();
    // a missing step is replaced by the bundled one
    fs::remove_file(format!("{dir}/confirm.rhai")).unwrap();
    let arguments = ["run", &format!("{dir}/wizard.rhai")];
    let mut terminal =
        Start::new(&bty_path(), &arguments).env("BTY_IMAGE_ROOT", &shelf.path("images")).start();
    terminal.answer("> Which one, dear:", "q");
    assert_eq!(terminal.wait_exit(), 0);
}
