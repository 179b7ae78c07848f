//! The wizard on a real terminal: keys, messages, screens, and the state of the terminal
//! afterwards.

use std::fs;
use std::sync::Arc;

use bty_tests::command::bty_path;
use bty_tests::eventually;
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::{LoopDisk, Mount};
use bty_tests::server::{Gate, Reply, Server};
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
    insta::assert_snapshot!("wizard_plan", screen);
    assert!(disk.content().iter().all(|&byte| byte == 0), "something was written before the word");
    terminal.send("yes\r");
    terminal.wait_for("> Reboot now?");
    for phase in ["write  [", "verify ["] {
        assert!(terminal.transcript().contains(phase), "no line says {phase}");
    }
    assert!(terminal.screen().contains("Flash completed."), "{}", terminal.screen());
    terminal.send("\r");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
    assert!(terminal.transcript().contains("reboot skipped because of --no-reboot"));
    assert!(terminal.is_restored());
    assert!(disk.content()[..8 * MIB] == shelf.content, "the disk does not hold the image");
}

#[test]
fn a_machine_that_a_stick_has_started_is_flashed_with_what_the_stick_knows() {
    let (Some(disk), Some(stick)) = (LoopDisk::new(32 << 20, 512), LoopDisk::new(16 << 20, 512))
    else {
        return;
    };
    let shelf = Shelf::new();
    fs::create_dir_all(shelf.path("media/sdb1")).unwrap();
    write(shelf.dir.path(), "media/sdb1/extra.img", &shelf.content);
    // as bty-live starts it, with no keyboard layout
    let mut terminal = shelf
        .wizard(&[])
        .env("BTY_LIVE", "1")
        .env("BTY_MEDIA", &shelf.path("media"))
        .env("BTY_MEDIUM", stick.path())
        .start();
    terminal.wait_for("> Pick an image:");
    assert!(terminal.screen().contains("extra.img"), "{}", terminal.screen());
    terminal.send("2\r");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let medium = format!("{} is the medium that this machine was started from", stick.path());
    let screen = terminal.screen();
    assert!(screen.contains(&medium), "{screen}");
    assert_eq!(screen.matches(stick.path()).count(), 1, "{screen}");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.wait_for("so its backup GPT will not be at the");
    terminal.answer("> Type yes to erase and write:", "g");
    // the keys of yes, on a German keyboard
    terminal.answer("> Type yes to erase and write:", "zes");
    terminal.wait_for("> Reboot now?");
    let screen = terminal.screen();
    assert!(screen.contains("Take the stick out before you press Enter"), "{screen}");
    terminal.send("p\r");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
    assert!(terminal.transcript().contains("power off skipped because of --no-reboot"));
    let backup = (32 << 20) - 512;
    assert_eq!(&disk.content()[backup..backup + 8], b"EFI PART", "the GPT was not fixed");
}

#[test]
fn with_a_keyboard_layout_zes_is_not_yes() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    for variables in [&[("BTY_LIVE", "1"), ("BTY_KEYBOARD", "de")][..], &[]] {
        let start = shelf.wizard(&[]);
        let start = variables.iter().fold(start, |start, (name, value)| start.env(name, value));
        let mut terminal = start.start();
        terminal.answer("> Pick an image:", "1");
        terminal.wait_for_prompt("> Pick the disk to write to:");
        let number = number_of(&terminal, disk.path());
        terminal.send(&format!("{number}\r"));
        terminal.answer("> Type yes to erase and write:", "zes");
        terminal.wait_for("nothing was written");
    }
    assert!(disk.content().iter().all(|&byte| byte == 0), "something was written");
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
        screen.contains(&format!("Nothing was written: {} is unchanged.", disk.path()))
            && !screen.contains("part of the image"),
        "{screen}"
    );
}

#[test]
fn only_the_whole_word_starts_a_flash() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let shelf = Shelf::new();
    let mut terminal = shelf.wizard(&[]).start();
    terminal.answer("> Pick an image:", "1");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    for (count, answer) in ["y", "YES", ""].into_iter().enumerate() {
        terminal.answer("> Type yes to erase and write:", answer);
        let explained = "type the whole word yes to write";
        eventually(bty_tests::LIMIT, "it asks again", || {
            (terminal.screen().matches(explained).count() == count + 1).then_some(())
        });
    }
    terminal.answer("> Type yes to erase and write:", "b");
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
    let line = terminal.screen();
    let line = line.lines().find(|l| l.split_whitespace().nth(1) == Some(disk.path())).unwrap();
    assert!(line.trim_end().ends_with("in use"), "{line}");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.wait_for(&format!("{number} cannot be picked:"));
    assert!(terminal.screen().contains("is mounted on"), "{}", terminal.screen());
    // Ctrl-U clears what was typed; the end of the input acts like q
    terminal.send("\x15");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    terminal.send("\x04");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
}

#[test]
fn wrong_keys_are_explained_and_addresses_keep_their_case() {
    let shelf = Shelf::new();
    fs::remove_dir_all(shelf.path("images")).unwrap();
    let mut terminal = shelf.wizard(&[]).size(0, 0).start();
    terminal.wait_for("> Pick an image source:");
    insta::assert_snapshot!("wizard_catalog", shelf.redact(&terminal.screen()));
    terminal.send("x\r");
    terminal.wait_for("press d, c, l or q");
    terminal.answer("(press Enter to continue)", "");
    terminal.answer("> Pick an image source:", "c");
    terminal.answer("> Catalog (q cancels):", &shelf.path("Catalog.toml"));
    terminal.wait_for("far away (x86_64)");
    for (answer, complaint) in [
        ("7", "there is no number 7: pick 1 to 1"),
        ("seven", "\"seven\" matches no row, number or key"),
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
fn progress_is_one_line_on_consoles_of_all_sizes_and_keeps_what_is_above_it() {
    let Some(disk) = LoopDisk::new(80 << 20, 512) else { return };
    let shelf = Shelf::new();
    let image = gpt_image(64 * MIB, 512);
    let gate = Arc::new(Gate::default());
    let until = Arc::clone(&gate);
    let server = Server::start(move |request| {
        Reply::file(request, &image, "\"v1\"").pause_after(image.len() / 2, Arc::clone(&until))
    });
    let catalog = format!(
        "version = 1\n[[images]]\nname = \"slow\"\nsrc = \"{}\"\n",
        server.url("/slow.img")
    );
    write(shelf.dir.path(), "Catalog.toml", catalog.as_bytes());
    let start = shelf.wizard(&["--catalog", &shelf.path("Catalog.toml")]).env("BTY_LIVE", "1");
    // the terminal of the live environment, and its consoles
    let start = start.size(80, 24).mirror(80, 25).mirror(100, 37).mirror(160, 50);
    let mut terminal = start.start();
    terminal.answer("> Pick an image:", "2");
    terminal.wait_for_prompt("> Pick the disk to write to:");
    let number = number_of(&terminal, disk.path());
    terminal.send(&format!("{number}\r"));
    terminal.answer("> Type yes to erase and write:", "yes");
    // the first MiB is written last
    terminal.wait_for("31.0 of 64.0 MiB");
    for screen in terminal.mirrors() {
        let lines: Vec<&str> = screen.lines().collect();
        let progress = lines.iter().filter(|line| line.contains(" of 64.0 MiB"));
        assert_eq!(progress.count(), 1, "{screen}");
        assert!(lines.last().is_some_and(|line| line.starts_with("write  [")), "{screen}");
        let target = format!("Target  {}", disk.path());
        for kept in [&*target, "ERASES ALL DATA ON THIS DISK", "erase and write: yes"] {
            assert!(screen.contains(kept), "{kept} is gone:\n{screen}");
        }
    }
    gate.open();
    terminal.wait_for("> Reboot now?");
    for screen in terminal.mirrors() {
        assert!(!screen.contains("left") && screen.contains("Flash completed."), "{screen}");
    }
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
    terminal.wait_for_ever_shown("write  [");
    terminal.send("\x03");
    terminal.wait_for("> What now?");
    assert!(terminal.screen().contains("Flash cancelled."), "{}", terminal.screen());
    assert!(terminal.screen().contains("It does not boot"), "{}", terminal.screen());
    assert!(terminal.screen().contains("  now: "), "{}", terminal.screen());
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
    insta::assert_snapshot!("wizard_serial", shelf.redact(&terminal.screen()));
    terminal.send("q\r");
    assert_eq!(terminal.wait_exit(), 0);
    assert!(!terminal.transcript().contains("\x1b[J"), "a serial line gets no redrawn list");
}

/// A shelf with 41 images.
fn long_shelf() -> Shelf {
    let shelf = Shelf::new();
    for number in 0..40 {
        write(shelf.dir.path(), &format!("images/image-{number:02}.img"), &[1; 512]);
    }
    shelf
}

#[test]
fn lists_are_filtered_by_typing_and_rows_picked_with_arrow_keys() {
    let shelf = long_shelf();
    for has_color in [true, false] {
        let no_color = if has_color { "" } else { "1" };
        let mut terminal = shelf.wizard(&[]).env("NO_COLOR", no_color).start();
        terminal.wait_for("1..10 of 41");
        terminal.send("IMAGE-3");
        terminal.wait_for("10 of 41 match");
        terminal.send("\x1b[B\x1b[B\x1b[A\x1b[B");
        terminal.wait_for("> 34  image-32.img");
        if has_color {
            insta::assert_snapshot!("wizard_filter", shelf.redact(&terminal.screen()));
        }
        let snapshot = terminal.snapshot();
        let bold = |row: u16| snapshot.cell(row, 0).is_some_and(vt100::Cell::bold);
        let selected: Vec<u16> = (0..25)
            .filter(|&row| snapshot.cell(row, 0).is_some_and(|cell| cell.contents() == ">"))
            .collect();
        assert_eq!(bold(selected[0]), has_color, "the selected row is bold with colors only");
        // the whole list again, page by page
        terminal.send("\x1b");
        terminal.wait_for("1..10 of 41");
        terminal.send("\x1b[6~");
        terminal.wait_for("2..11 of 41");
        terminal.send("\x1b[F");
        terminal.wait_for("32..41 of 41");
        terminal.send("\r");
        terminal.wait_for("image: image-39.img");
        assert!(terminal.screen().contains("> Pick an image: image-39.img"), "what was picked");
        terminal.answer("> Pick the disk to write to:", "q");
        assert_eq!(terminal.wait_exit(), 0);
        assert!(terminal.is_restored());
    }
}

#[test]
fn a_list_is_whole_on_every_size_of_terminal() {
    let shelf = long_shelf();
    for (columns, rows) in [(80, 25), (100, 37), (160, 50), (60, 20)] {
        let mut terminal = shelf.wizard(&[]).size(columns, rows).start();
        terminal.wait_for_prompt("> Pick an image:");
        // what scrolls off the screen above may do so
        let below = |screen: &str| screen[screen.find("Steps:").unwrap()..].to_owned();
        let before = below(&terminal.screen());
        // moving the cursor and filtering leave nothing behind, and erase nothing above
        terminal.send("\x1b[B\x1b[6~\x1b[Hx");
        terminal.wait_for("> Pick an image: x");
        terminal.send("\x15");
        terminal.wait_for_prompt("> Pick an image:");
        assert_eq!(below(&terminal.screen()), before, "{columns} by {rows}");
        terminal.send("q\r");
        assert_eq!(terminal.wait_exit(), 0);
    }
}

#[test]
fn long_lists_on_a_serial_line_are_shown_by_pages() {
    let shelf = long_shelf();
    let mut terminal = shelf.wizard(&[]).size(0, 0).start();
    terminal.wait_for("1..10 of 41");
    assert!(
        terminal.screen().starts_with("bty: ") || terminal.screen().contains("1.Catalog"),
        "{}",
        terminal.screen()
    );
    terminal.answer("> Pick an image:", "n");
    terminal.wait_for("11..20 of 41");
    terminal.answer("> Pick an image:", "p");
    terminal.wait_for("1..10 of 41");
    terminal.answer("> Pick an image:", "image-3");
    terminal.wait_for("1..10 of 10 with \"image-3\"; Enter shows all");
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
