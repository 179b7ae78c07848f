//! The REPL on a real terminal, and from a pipe.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use bty_tests::command::{Outcome, bty, bty_command, bty_path};
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::LoopDisk;
use bty_tests::terminal::{Start, Terminal};

const MIB: usize = 1 << 20;

fn repl() -> Start {
    Start::new(&bty_path(), &["repl"]).env("TERM", "xterm-256color")
}

/// Waits for the prompt and types a line; presses Enter when the line is on the screen, so that the
/// next prompt is a new one.
fn say(terminal: &mut Terminal, line: &str) {
    terminal.wait_for_prompt("bty>");
    terminal.send(line);
    terminal.wait_for(line);
    terminal.send("\r");
}

/// Runs the REPL with `lines` from a pipe, and returns its output.
fn piped(lines: &str) -> Outcome {
    let mut child = bty_command(&["repl"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_session_flashes_is_saved_and_the_script_does_the_same() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let mut terminal = repl().start();
    let content = gpt_image(8 * MIB, 512);
    write(terminal.home(), "a.img", &content);
    say(&mut terminal, "disks()");
    terminal.wait_for(disk.path());
    say(&mut terminal, &format!("let disk = disks::probe(\"{}\")", disk.path()));
    say(&mut terminal, "flash(\"a.img\", disk)");
    terminal.wait_for("ALL DATA ON IT WILL BE LOST");
    terminal.answer(&format!("Type yes to write to {}:", disk.path()), "y");
    terminal.wait_for("nothing was written");
    assert!(disk.content()[..8 * MIB] == vec![0; 8 * MIB], "a line that was not confirmed wrote");
    say(&mut terminal, "flash(\"a.img\", disk, #{})");
    terminal.answer(&format!("Type yes to write to {}:", disk.path()), "yes");
    terminal.wait_for("8.0 MiB written to 1 of 1 disk");
    assert!(disk.content()[..8 * MIB] == content, "the disk does not hold the image");
    say(&mut terminal, "nonsense()");
    terminal.wait_for("there is no function nonsense");
    say(&mut terminal, ":save mine.rhai");
    terminal.wait_for("bty run mine.rhai --dry-run");
    say(&mut terminal, ":save mine.rhai");
    terminal.wait_for(":save! mine.rhai to overwrite it");
    say(&mut terminal, ":quit");
    assert_eq!(terminal.wait_exit(), 0);
    assert!(terminal.is_restored());

    let saved = terminal.home().join("mine.rhai");
    let text = fs::read_to_string(&saved).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    let dry = bty_command(&["run", "mine.rhai", "--dry-run"])
        .current_dir(terminal.home())
        .output()
        .unwrap();
    let dry = Outcome::from(dry).expect(0);
    assert!(dry.stdout.contains(&format!("  flash a.img to {}", disk.path())), "{}", dry.stdout);
}

#[test]
fn ctrl_c_stops_what_runs_and_keeps_the_session() {
    let mut terminal = repl().start();
    say(&mut terminal, "let x = 41;");
    say(&mut terminal, "print(6 * 7 + 1); loop {}");
    terminal.wait_for("\n43");
    terminal.send("\x03");
    terminal.wait_for("error: cancelled");
    say(&mut terminal, "x + 1");
    terminal.wait_for("\n42\n");
    // while a line is edited, Ctrl-C only clears the line
    terminal.wait_for_prompt("bty>");
    terminal.send("half a li");
    terminal.wait_for("half a li");
    terminal.send("\x03");
    say(&mut terminal, "exit(3)");
    assert_eq!(terminal.wait_exit(), 3);
    assert!(terminal.is_restored());
}

#[test]
fn tab_completes_and_the_bracket_shows_what_is_wanted() {
    let mut terminal = repl().start();
    terminal.wait_for_prompt("bty>");
    terminal.send("disks::by_s\t");
    terminal.wait_for("bty> disks::by_serial(");
    terminal.wait_for("serial: String)");
    terminal.send("\x15:ti\t");
    terminal.wait_for("bty> :time");
    terminal.send(" 1 + 1\r");
    terminal.wait_for(" s\n");
    say(&mut terminal, ":doc disks::only");
    terminal.wait_for("The only disk for which `filter` returns true.");
    say(&mut terminal, ":nonsense");
    terminal.wait_for("there is no command :nonsense");
    terminal.wait_for_prompt("bty>");
    terminal.send("\x04");
    assert_eq!(terminal.wait_exit(), 0);
}

#[test]
fn several_lines_are_one_when_a_bracket_is_open() {
    let mut terminal = repl().start();
    say(&mut terminal, "fn twice(x) {");
    terminal.wait_for_prompt("...>");
    terminal.send("    x * 2\r");
    terminal.wait_for_prompt("...>");
    terminal.send("}\r");
    say(&mut terminal, "twice(21)");
    terminal.wait_for("\n42\n");
    // Ctrl-C gives up all lines of it
    say(&mut terminal, "[1,");
    terminal.wait_for_prompt("...>");
    terminal.send("\x03");
    say(&mut terminal, "6 * 8");
    terminal.wait_for("\n48\n");
}

#[test]
fn words_that_are_no_script_are_answered() {
    let help = piped("help\n").expect(0);
    assert!(help.stdout.contains(":save FILE"), "{}", help.stdout);
    let documented = piped("flash\ndisks::by_serial\nDisk\n").expect(0);
    for expected in ["flash(", "disks::by_serial(", "size_bytes"] {
        assert!(documented.stdout.contains(expected), "{expected}: {}", documented.stdout);
    }
    for word in ["quit", "exit"] {
        assert_eq!(piped(&format!("{word}\nnonsense()\n")).expect(0).stdout, "");
    }
    assert_eq!(piped("let exit = 3\nexit\n").expect(0).stdout, "3\n", "a variable is shown");
    assert!(piped("nonsense\n").code == 7);
}

#[test]
fn history_is_in_the_state_directory_and_for_its_owner_alone() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_str().unwrap();
    let mut terminal = repl().env("XDG_STATE_HOME", path).start();
    say(&mut terminal, "\"remember me\"");
    say(&mut terminal, ":quit");
    assert_eq!(terminal.wait_exit(), 0);
    let dir = state.path().join("bty");
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(fs::read_to_string(dir.join("history")).unwrap().contains("remember me"));
    assert!(!terminal.home().join("history").exists());

    // a session that is killed keeps its lines too
    let mut killed = repl().env("XDG_STATE_HOME", path).start();
    say(&mut killed, "\"and me\"");
    killed.wait_for("\n\"and me\"\n");
    killed.kill("KILL");
    killed.wait_exit();
    assert!(fs::read_to_string(dir.join("history")).unwrap().contains("and me"));

    let mut again = repl().env("XDG_STATE_HOME", path).start();
    again.wait_for_prompt("bty>");
    // the arrow goes back past "and me" and :quit
    again.send("\x1b[A\x1b[A\x1b[A\r");
    again.wait_for("\n\"remember me\"\n");
}

#[test]
fn a_terminal_is_left_usable_by_every_end() {
    for signal in ["TERM", "HUP"] {
        let mut terminal = repl().start();
        terminal.wait_for_prompt("bty>");
        terminal.kill(signal);
        terminal.wait_exit();
        assert!(terminal.is_restored(), "after SIG{signal}");
        let (on, off) = ("\x1b[?2004h", "\x1b[?2004l");
        assert_eq!(
            terminal.transcript().matches(on).count(),
            terminal.transcript().matches(off).count(),
            "SIG{signal}"
        );
    }
}

#[test]
fn taking_the_machine_down_wants_the_word() {
    let mut terminal = repl().start();
    say(&mut terminal, "reboot()");
    terminal.answer("Type yes to reboot or power off this machine:", "no");
    terminal.wait_for("cancelled");
    say(&mut terminal, "power_off()");
    terminal.wait_for_prompt("Type yes to reboot or power off this machine:");
    terminal.send("\x03");
    say(&mut terminal, "\"still here\"");
    terminal.wait_for("\n\"still here\"\n");
    say(&mut terminal, ":quit");
    assert_eq!(terminal.wait_exit(), 0);
}

#[test]
fn a_pipe_is_read_to_the_first_error() {
    let good = piped("let x = [\n  1,\n  2\n];\nx\n\"text\"\n()\nprint(x.len());\n").expect(0);
    assert_eq!(good.stdout, "[1, 2]\n\"text\"\n2\n");
    let bad = piped("1 + 1\ndisks::by_serial(\"none\")\nprint(\"never\");\n").expect(3);
    assert_eq!(bad.stdout, "2\n");
    assert!(bad.stderr.contains("--> repl:2:8"), "{}", bad.stderr);
    assert_eq!(piped("exit(9)\n1\n").code, 9);
    let wrong = piped(":hepl\n1\n").expect(2);
    assert!(
        wrong.stderr.contains("did you mean :help?") && wrong.stdout.is_empty(),
        "{}",
        wrong.stderr
    );
    assert_eq!(piped("").expect(0).stdout, "");
    assert_eq!(bty(&["repl"]).code, 0);
}

#[test]
fn results_in_a_file_are_results_only() {
    let line = format!("{} repl > out", bty_path().display());
    let mut terminal =
        Start::new("/bin/sh".as_ref(), &["-c", &line]).env("TERM", "xterm-256color").start();
    terminal.send("1 + 1\r\"two\"\r\x04");
    assert_eq!(terminal.wait_exit(), 0, "{}", terminal.screen());
    assert_eq!(fs::read_to_string(terminal.home().join("out")).unwrap(), "2\n\"two\"\n");
}
