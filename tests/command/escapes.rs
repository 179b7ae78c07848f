//! Foreign text with escape sequences, output that cannot be written, and names that are not UTF-8.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bty_tests::command::{Outcome, bty_command, bty_path};
use bty_tests::images::{gpt_image, write};
use bty_tests::plan_server::{Plan, PlanServer};
use bty_tests::terminal::Start;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// Escape sequences that clear a line, set the window title and ring the bell, also as 8-bit
/// controls, and characters that reverse the direction of text.
const HOSTILE: &str = "a\u{1b}[2K\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}z";

/// A directory of files with hostile names: a catalog, an image, a script, a test, a simulated
/// machine.
struct Shelf(TempDir);

impl Shelf {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &format!("{HOSTILE}.img"), &gpt_image(8 * MIB, 512));
        write(
            dir.path(),
            &format!("{HOSTILE}.rhai"),
            b"fn f() { nowhere(1) }\nthrow \"x\x1b[2Jy\";",
        );
        write(dir.path(), &format!("{HOSTILE}_test.rhai"), b"fn test_x() { throw \"x\x1b[2Jy\"; }");
        let quoted: String = HOSTILE.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect();
        let catalog = format!(
            "version = 1\n[[images]]\nname = \"{quoted}\"\nsrc = \"http://127.0.0.1:1/d.img\"\n\
             description = \"{quoted}\"\narch = \"{quoted}\"\n"
        );
        write(dir.path(), "c.toml", catalog.as_bytes());
        let world = format!(
            "[[disks]]\npath = \"/dev/sda\"\nsize = \"8G\"\nmodel = \"{quoted}\"\n\
             serial = \"{quoted}\"\n"
        );
        write(dir.path(), "world.toml", world.as_bytes());
        let shown = "print(disks()[0]); print(ARGS); ui::say(disks()[0].model); \
                     ui::table(disks()); ui::panel(disks()[0].model, [disks()[0]]);\n\
                     log(disks()[0].model); ui::ask(disks()[0].model); \
                     disks::by_serial(disks()[0].model + \"x\");";
        write(dir.path(), "show.rhai", shown.as_bytes());
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, args: &[&str]) -> Outcome {
        bty_command(args).current_dir(self.0.path()).output().unwrap().into()
    }
}

/// Finds characters that control a terminal, except line ends and tabs.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}'
}

fn assert_harmless(what: &str, text: &str) {
    assert!(!text.contains(acts), "{what}:\n{text:?}");
}

#[test]
fn no_name_from_elsewhere_drives_a_terminal() {
    let shelf = Shelf::new();
    let (image, script) = (format!("{HOSTILE}.img"), format!("{HOSTILE}.rhai"));
    let disk = shelf.path("disk");
    fs::write(&disk, vec![1; 8 * MIB]).unwrap();
    let cases: &[(&[&str], i32)] = &[
        (&["catalog", "show", "c.toml"], 0),
        (&["catalog", "show", "--json", "c.toml"], 0),
        (&["catalog", "check", "c.toml"], 4),
        (&["catalog", "check", "--json", "c.toml"], 4),
        (&["images", "."], 0),
        (&["images", "--json", "."], 0),
        (&["image", &image], 0),
        (&["image", "--json", "--full", &image], 0),
        (&["image", HOSTILE], 4),
        (&["image", "--json", HOSTILE], 4),
        (&["flash", &image, "o.img", "--create", "--dry-run"], 0),
        (&["flash", &image, HOSTILE, "--create", "--yes"], 0),
        (&["flash", &image, HOSTILE, "--create", "--yes"], 3),
        (&["flash", &image, HOSTILE], 2),
        (&["flash", HOSTILE, "o.img", "--catalog", "c.toml", "--create", "--yes"], 4),
        (&["verify", &image, &disk], 5),
        (&["verify", "--json", &image, &disk], 5),
        (&["check", &script], 7),
        (&["check", "--json", &script], 7),
        (&["run", &script], 7),
        (&["run", "--json", &script], 7),
        (&["run", "show.rhai", "--dry-run", "--world", "world.toml", HOSTILE], 3),
        (&["run", "show.rhai", "--json", "--dry-run", "--world", "world.toml", HOSTILE], 3),
        (&["test", "."], 7),
        (&["docs", HOSTILE], 2),
        (&["eject", HOSTILE], 2),
        (&["image", "--sha256", HOSTILE], 2),
        (&["flash", "a", "b", "--sha256", HOSTILE], 2),
    ];
    for (args, code) in cases {
        let run = shelf.run(args).expect(*code);
        assert_harmless(&format!("{args:?}: stdout"), &run.stdout);
        assert_harmless(&format!("{args:?}: stderr"), &run.stderr);
    }
    // and the name is shown, not omitted
    assert!(
        shelf
            .run(&["catalog", "show", "c.toml"])
            .stdout
            .contains(r"a\u{1b}[2K\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}z")
    );
    let json = shelf.run(&["catalog", "show", "--json", "c.toml"]).last();
    assert_eq!(json["name"], HOSTILE, "programs get it as it is");
}

#[test]
fn the_prompt_shows_values_without_acting_on_them() {
    use std::io::Write as _;
    let mut repl = bty_command(&["repl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = "print(\"x\\x1b[2Jy\"); \"x\\x1b[2Jy\"\nlet v = \"\\x1b]0;t\\x07\";\n[#{ a: v }]\n\
                 :vars\nthrow v\n";
    repl.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let run: Outcome = repl.wait_with_output().unwrap().into();
    assert_harmless("stdout", &run.stdout);
    assert_harmless("stderr", &run.stderr);
    assert!(
        run.stdout.contains(r"x\u{1b}[2Jy") && run.stderr.contains(r"\u{1b}]0;t\u{7}"),
        "{run:?}"
    );
}

/// On a terminal, bty prints escape sequences of its own, but none from a name.
fn assert_without_names(transcript: &str) {
    for sequence in ["\u{1b}[2K\u{1b}]0;", "owned\u{7}", "\u{9b}2J", "\u{202e}", "x\u{1b}[2Jy"] {
        assert!(!transcript.contains(sequence), "{sequence:?} in\n{transcript:?}");
    }
}

#[test]
fn the_wizard_shows_names_without_acting_on_them() {
    let shelf = Shelf::new();
    let start = Start::new(&bty_path(), &["--no-reboot", "--catalog", &shelf.path("c.toml")]);
    let mut terminal = start.env("BTY_IMAGE_ROOT", &shelf.path("")).start();
    terminal.wait_for("> Pick an image:");
    assert!(terminal.screen().contains("a\\u{1b}[2K"), "{}", terminal.screen());
    terminal.send("1\r");
    terminal.wait_for("> Pick the disk to write to:");
    terminal.send("q\r");
    terminal.wait_exit();
    assert_without_names(&terminal.transcript());
}

#[test]
fn a_target_shows_what_its_server_says_without_acting_on_it() {
    let server = PlanServer::start(
        |_: &str| {
            let head = "//! bty plan script 1\n//! machine: 52:54:00:12:34:56\n\
                        //! plan: test-plan\n//! revision: 3\n//! cycle: token-1\n";
            Plan::Script(format!(
                "{head}const PLAN = #{{}};\n\
                 fn run(p) {{\n    print(\"x\\x1b[2Jy\");\n    throw \"x\\x1b[2Jy\";\n}}\n"
            ))
        },
        vec![],
    );
    let host = server.host();
    let run: Outcome =
        bty_command(&["--server", &host, "--mac", "52:54:00:12:34:56", "--no-reboot"])
            .output()
            .unwrap()
            .into();
    let run = run.expect(7);
    assert_harmless("stdout", &run.stdout);
    assert_harmless("stderr", &run.stderr);
    assert!(run.stdout.contains(r"x\u{1b}[2Jy") && run.stderr.contains(r"x\u{1b}[2Jy"), "{run:?}");
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let shelf = Shelf::new();
    write(shelf.0.path(), "a.img", &gpt_image(8 * MIB, 512));
    let full = |args: &[&str]| {
        let device = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = bty_command(args).current_dir(shelf.0.path()).stdout(device).output().unwrap();
        Outcome::from(run)
    };
    let cases: &[&[&str]] = &[
        &["image", "--json", "a.img"],
        &["image", "a.img"],
        &["images"],
        &["catalog", "show", "c.toml"],
        &["flash", "a.img", "o.img", "--create", "--yes", "--json"],
        &["docs"],
        &["completions", "bash"],
        &["run", "--dry-run", "say.rhai"],
        &["--help"],
        &["--version"],
    ];
    write(shelf.0.path(), "say.rhai", b"print(1);");
    for args in cases {
        let run = full(args).expect(1);
        assert!(
            run.stderr.contains("writing results to stdout: No space left on device"),
            "{args:?}: {}",
            run.stderr
        );
        assert!(!run.stderr.contains("panicked"), "{args:?}: {}", run.stderr);
    }
    // the flash itself succeeded
    assert_eq!(fs::metadata(shelf.0.path().join("o.img")).unwrap().len(), 8 << 20);
    // another failure keeps its exit code
    assert_eq!(full(&["image", "--json", "none.img"]).code, 4);
    // a reader that closes the pipe early is not a failure
    let closed =
        bty_command(&["docs"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut closed = closed;
    drop(closed.stdout.take());
    assert!(closed.wait_with_output().unwrap().status.success());
}

/// Runs bty with arguments that may not be UTF-8.
fn bty_of(dir: &Path, args: &[&OsStr]) -> Outcome {
    bty_command(&[]).args(args).current_dir(dir).output().unwrap().into()
}

#[test]
fn a_file_whose_name_is_not_utf8_is_listed_flashed_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let content = gpt_image(8 * MIB, 512);
    let name = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let (image, disk) = (name(b"im\xff\xe9 1.img"), name(b"disk\xfe"));
    fs::write(dir.path().join(&image), &content).unwrap();
    let word = OsStr::new;

    let listed = bty_of(dir.path(), &[word("images")]).expect(0);
    assert!(listed.stdout.contains(r"im\xff\xe9 1.img"), "{}", listed.stdout);
    let json = bty_of(dir.path(), &[word("images"), word("--json")]).expect(0).last();
    let path = json["path"].as_str().unwrap();
    assert!(path.starts_with("file://./") && path.ends_with("im%FF%E9%201.img"), "{path}");
    let _ = bty_of(dir.path(), &[word("image"), word(path)]).expect(0);
    let shown = bty_of(dir.path(), &[word("image"), &image, word("--json")]).expect(0).last();
    assert_eq!(shown["name"], r"im\xff\xe9 1.img");
    // bty accepts every name that it prints
    let source = shown["source"].as_str().unwrap();
    assert!(source.starts_with("file://") && source.ends_with("im%FF%E9%201.img"), "{source}");
    let _ = bty_of(dir.path(), &[word("image"), word(source)]).expect(0);

    let flash = [word("flash"), &image, &disk, word("--create"), word("--yes"), word("--json")];
    let report = bty_of(dir.path(), &flash).expect(0).last();
    assert!(
        fs::read(dir.path().join(&disk)).unwrap() == content,
        "the file does not hold the image"
    );
    let path = report["targets"][0]["disk"]["path"].as_str().unwrap();
    assert!(path.starts_with("file:///") && path.ends_with("disk%FE"), "{path}");
    let _ = bty_of(dir.path(), &[word("verify"), &image, &disk]).expect(0);
    let _ = bty_of(dir.path(), &[word("verify"), word(source), word(path)]).expect(0);

    // the digest file beside the image is found, and the error names a missing image
    let sidecar = PathBuf::from(name(b"im\xff\xe9 1.img.sha256"));
    fs::write(dir.path().join(sidecar), format!("{}\n", "0".repeat(64))).unwrap();
    let refused = bty_of(dir.path(), &[word("flash"), &image, &disk, word("--yes")]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    let missing = bty_of(dir.path(), &[word("image"), OsStr::from_bytes(b"none\xff")]).expect(4);
    assert!(missing.stderr.contains("none"), "{}", missing.stderr);
}
