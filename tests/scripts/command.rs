//! Scripts as people use them: `bty run`, `check`, `test`, `eject`, `docs`, on simulated machines
//! and on real disks.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bty_tests::command::{Outcome, bty, bty_command, tool};
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::LoopDisk;
use bty_tests::{LIMIT, eventually};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// The directory of the examples.
fn examples() -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scripts").canonicalize().unwrap();
    path.to_str().unwrap().to_owned()
}

/// A directory with scripts.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = write(self.0.path(), name, text.as_bytes());
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn redact(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

const WORLD: &str = r#"
    [[disks]]
    path = "/dev/sda"
    size = "8G"
    model = "Small"
    serial = "S1"
    [[images]]
    src = "/images/a.img"
    disk_size = "4G"
"#;

#[test]
fn bad_scripts_end_with_their_place_and_do_nothing() {
    let desk = Desk::new();
    let world = desk.file("world.toml", WORLD);
    let mut shown = String::new();
    for (what, text) in [
        ("a syntax error", "let d = disks(;\nflash(\"/images/a.img\", \"serial:S1\");"),
        ("an unknown function", "let d = disks::by_serail(\"S1\");\nflash(\"/images/a.img\", d);"),
        ("an unknown variable", "flash(\"/images/a.img\", dsk);"),
        (
            "an unknown field",
            "let d = disks::by_serial(\"S1\");\nprint(d.serail);\nflash(\"/images/a.img\", d);",
        ),
        ("a wrong type", "disks::by_serial(7);\nflash(\"/images/a.img\", \"serial:S1\");"),
        ("another wrong type", "flash(7, \"serial:S1\");"),
        ("an endless loop", "loop {}\nflash(\"/images/a.img\", \"serial:S1\");"),
        (
            "a memory bomb",
            "let m = #{};\nlet i = 0;\n\
             loop { let s = \"\"; s.pad(1000000, 'x'); m[`${i}`] = s; i += 1; }",
        ),
        ("a deep recursion", "fn f(n) {\n    f(n + 1)\n}\nf(0);"),
        (
            "its own throw",
            "fn check(d) {\n    if d.model != \"Large\" { throw `${d.model} will not do`; }\n}\n\
             check(disks()[0]);",
        ),
        ("a refusal", "flash(\"/images/a.img\", \"serial:S2\");"),
    ] {
        let script = desk.file("script.rhai", text);
        // only the endless loop has to wait for it
        let seconds = if what == "an endless loop" { "2" } else { "300" };
        let run = bty(&["run", &script, "--dry-run", "--world", &world, "--timeout", seconds]);
        assert!(matches!(run.code, 2 | 3 | 7), "{what}: {} {}", run.code, run.stderr);
        assert_eq!(run.stdout, "", "{what} had an effect");
        let mut text = desk.redact(&run.stderr);
        if let "an endless loop" | "a memory bomb" = what {
            // the exact place in the loop depends on timing
            let (before, place) =
                text.split_once("script.rhai:").unwrap_or_else(|| panic!("{what}: {text}"));
            assert!(place.contains("loop {"), "{what}: {text}");
            text = format!("{before}script.rhai:SOMEWHERE\n");
        }
        shown.push_str(&format!("{what}: exit code {}\n{text}\n", run.code));
    }
    insta::assert_snapshot!("bad_scripts", shown);
}

#[test]
fn check_finds_what_a_run_would_only_find_on_the_way() {
    let desk = Desk::new();
    let script = desk.file(
        "script.rhai",
        "import \"helper\" as helper;\n\n\
         if false {\n    helper::pick(1);\n    slep(1);\n    flash(\"a.img\");\n}\n",
    );
    desk.file("helper.rhai", "fn pick(a, b) {\n    disks::by_serail(a)\n}\n");
    let found = bty(&["check", &script]).expect(7);
    insta::assert_snapshot!("check", desk.redact(&found.stdout));
    let json = bty(&["check", &script, "--json"]).expect(7);
    assert_eq!(json.json().len(), 4, "{}", json.stdout);
    let module = desk.file("module.rhai", "disk::list();");
    assert!(bty(&["check", &module]).expect(7).stdout.ends_with("next: did you mean disks?\n"));
    let good = desk.file("good.rhai", "print(disks());");
    let fine = bty(&["check", &good]).expect(0);
    assert_eq!(fine.stderr, "1 script checked, no mistakes found\n");
    assert_eq!(bty(&["check", "/no/such.rhai"]).code, 4);
}

#[test]
fn a_dry_run_lists_every_effect_and_has_none() {
    let desk = Desk::new();
    let world = desk.file("world.toml", WORLD);
    let script = desk.file(
        "script.rhai",
        "let file = disks::create_file(\"/backup/copy.img\", \"4G\");\n\
         flash(\"/images/a.img\", [\"serial:S1\", file]);\nsleep(1.5);\nlog(\"half way\");\n\
         http::post_json(\"http://h/x\", #{ n: 1 });\nreboot();",
    );
    let world_with_answer = desk.file(
        "answers.toml",
        &format!("{WORLD}\n[[http]]\nurl = \"http://h/x\"\nmethod = \"POST\"\n"),
    );
    let run = bty(&["run", &script, "--dry-run", "--world", &world_with_answer]).expect(0);
    insta::assert_snapshot!("dry_run", run.stdout);
    let json =
        bty(&["run", &script, "--dry-run", "--world", &world_with_answer, "--json"]).expect(0);
    let effects: Vec<String> =
        json.json().iter().map(|e| e["effect"].as_str().unwrap().to_owned()).collect();
    assert_eq!(effects, ["create", "flash", "sleep", "log", "post", "power"]);
    // on a simulated machine, nothing exists but what its description lists
    let run = bty(&["run", &script, "--dry-run", "--world", &world]).expect(4);
    assert!(
        run.stderr.contains("the simulated machine has no answer to POST http://h/x"),
        "{}",
        run.stderr
    );
    let bad =
        desk.file("bad.toml", "[[disks]]\npath = \"/dev/sda\"\nsize = \"8G\"\nserail = \"S1\"\n");
    let run = bty(&["run", &script, "--dry-run", "--world", &bad]).expect(2);
    assert!(run.stderr.contains("serail"), "{}", run.stderr);
}

#[test]
fn a_dry_run_on_this_machine_reads_and_writes_nothing() {
    let desk = Desk::new();
    let image = write(desk.0.path(), "a.img", &gpt_image(8 * MIB, 512));
    let target = write(desk.0.path(), "disk", &vec![0xa5; 16 * MIB]);
    let script = desk.file(
        "script.rhai",
        "let report = flash(ARGS[0], ARGS[1]);\nprint(report);\nsleep(3600);\npower_off();",
    );
    let (image, target) = (image.to_str().unwrap(), target.to_str().unwrap());
    let run = bty(&["run", &script, image, target, "--dry-run"]).expect(0);
    let effects: Vec<&str> =
        run.stdout.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(effects, ["flash", "wait", "power"], "{}", run.stdout);
    assert!(fs::read(target).unwrap().iter().all(|&byte| byte == 0xa5), "the disk was written to");
}

#[test]
fn the_examples_pass_their_tests() {
    let run = bty(&["test", &examples()]).expect(0);
    assert!(run.stderr.ends_with("16 passed, 0 failed\n"), "{}", run.stderr);
    let plans = format!("{}/../plans", examples());
    let run = bty(&["test", &plans]).expect(0);
    assert!(run.stderr.ends_with("19 passed, 0 failed\n"), "{}", run.stderr);
    for file in fs::read_dir(&plans).unwrap() {
        let file = file.unwrap().path();
        let checked = bty(&["check", file.to_str().unwrap()]).expect(0);
        assert!(checked.stderr.contains("no mistakes found"), "{}", checked.stderr);
    }
}

#[test]
fn a_failed_test_shows_what_differs_and_where() {
    let desk = Desk::new();
    desk.file("good.rhai", "print(1 + 1);");
    desk.file(
        "a_test.rhai",
        "fn test_sum() {\n    let run = test::run(\"good.rhai\", #{});\n    \
         assert_eq(run.printed, [\"3\"]);\n}\n\
         fn test_fine() { print(`disk ${()}`); print([1]); }\nfn helper(x) {}\n",
    );
    desk.file("b_test.rhai", "fn nothing_here() {}\n");
    desk.file("c_test.rhai", "fn test_x( {\n");
    let run = bty(&["test", desk.0.path().to_str().unwrap()]).expect(7);
    insta::assert_snapshot!("failed_tests", desk.redact(&format!("{}{}", run.stdout, run.stderr)));
    assert_eq!(bty(&["test", desk.path("nowhere").to_str().unwrap()]).code, 2);
}

#[test]
fn a_test_sees_the_exit_code_and_the_flashed_image() {
    let desk = Desk::new();
    desk.file("ok.rhai", "flash(\"/a.img\", \"serial:S1\"); exit(4)");
    desk.file("refused.rhai", "flash(\"/a.img\", \"serial:S2\")");
    desk.file(
        "a_test.rhai",
        r#"
        fn world() {
            #{ disks: [#{ path: "/dev/sda", size: "8G", serial: "S1" }],
               images: [#{ src: "/a.img", disk_size: "1G" }] }
        }
        fn test_success() {
            let run = test::run("ok.rhai", world());
            assert_eq(run.exit_code, 4);
            assert_eq(run.flashed, [#{ path: "/dev/sda", serial: "S1", image: "/a.img" }]);
            assert_eq(parse_json(to_json(run)).exit_code, 4);
        }
        fn test_failure() {
            let run = test::run("refused.rhai", world());
            assert_eq(run.exit_code, 3);
            assert_eq(run.flashed, []);
        }"#,
    );
    let run = bty(&["test", desk.0.path().to_str().unwrap()]).expect(0);
    assert_eq!(run.stderr, "2 passed, 0 failed\n");
}

#[test]
fn scripts_use_files_only_below_the_directory_that_was_opened() {
    let desk = Desk::new();
    let dir = desk.path("files");
    fs::create_dir(&dir).unwrap();
    let script = desk.file(
        "s.rhai",
        "system::write_text(ARGS[0], \"text\"); print(system::read_text(ARGS[0]));",
    );
    let dir = dir.to_str().unwrap();
    let dry = bty(&["run", &script, "--files", dir, "--dry-run", "a.txt"]).expect(0);
    assert_eq!(dry.stdout, "text\n  write a.txt with 4 B\n");
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    assert_eq!(bty(&["run", &script, "--files", dir, "a.txt"]).expect(0).stdout, "text\n");
    assert_eq!(fs::read_to_string(format!("{dir}/a.txt")).unwrap(), "text");
    let outside = bty(&["run", &script, "--files", dir, "../b.txt"]).expect(2);
    assert!(outside.stderr.contains("not below the directory of files"), "{}", outside.stderr);
    let without = bty(&["run", &script, "a.txt"]).expect(3);
    assert!(without.stderr.contains("bty run --files DIR"), "{}", without.stderr);
}

#[test]
fn scripts_end_with_the_code_that_they_give() {
    let desk = Desk::new();
    for (text, code) in [
        ("exit(42);", 42),
        ("fn f() { exit(3) } f();", 3),
        ("exit();", 0),
        ("1 + 1", 0),
        ("exit(256);", 2),
        ("throw \"no\"", 7),
        ("disks::probe(\"/no/such\")", 3),
        ("images::open(\"/no/such.img\")", 4),
        ("ui::ask(\"who? \")", 2),
    ] {
        let script = desk.file("script.rhai", text);
        let run = bty(&["run", &script]);
        assert_eq!(run.code, code, "{text}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn for_programs_everything_on_stdout_is_json() {
    let desk = Desk::new();
    let script = desk.file("script.rhai", "print(\"one\\ntwo\");\nprint(1);\nthrow \"no\";");
    let run = bty(&["run", &script, "--json"]).expect(7);
    let events = run.json();
    assert_eq!(events[0], serde_json::json!({ "event": "print", "text": "one\ntwo" }));
    assert_eq!(
        (&events[2]["event"], &events[2]["kind"], &events[2]["place"]["line"]),
        (&"error".into(), &"throw".into(), &3.into())
    );
}

#[test]
fn three_times_ctrl_c_ends_what_nothing_else_ends() {
    let desk = Desk::new();
    let pipe = desk.path("pipe");
    tool(&["mkfifo", pipe.to_str().unwrap()]);
    // opening an image does not wait for a writer of the pipe
    let script = desk.file("script.rhai", "images::open(ARGS[0])");
    assert!(
        bty(&["run", &script, pipe.to_str().unwrap()]).expect(4).stderr.contains("has no writer")
    );
    // reading a script does
    let mut child = bty_command(&["run", pipe.to_str().unwrap()]).spawn().unwrap();
    // a non-blocking open for writing succeeds only if there is a reader
    let mut options = std::fs::File::options();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let _writer = eventually(LIMIT, "the script is read", || options.open(&pipe).ok());
    let status = eventually(LIMIT, "it ends", || {
        let status = child.try_wait().unwrap();
        if status.is_none() {
            tool(&["kill", "-INT", &child.id().to_string()]);
        }
        status
    });
    assert_eq!(status.code(), Some(130));
}

#[test]
fn ctrl_c_ends_a_script_that_would_go_on() {
    let desk = Desk::new();
    let script =
        desk.file("script.rhai", "print(\"ready\");\nloop { try { sleep(3600); } catch {} }");
    let mut child = bty_command(&["run", &script]).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let begun = Instant::now();
    tool(&["kill", "-INT", &child.id().to_string()]);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    // a limit for hangs, not for speed
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_ejected_wizard_is_whole_and_own_copies_are_not_overwritten() {
    let desk = Desk::new();
    let dir = desk.path("mine");
    let dir = dir.to_str().unwrap();
    let written = bty(&["eject", "wizard", dir]).expect(0);
    assert_eq!(written.stdout.lines().count(), 7, "{}", written.stdout);
    for file in written.stdout.lines() {
        assert_eq!(bty(&["check", file]).expect(0).stdout, "");
    }
    fs::write(format!("{dir}/confirm.rhai"), "// mine").unwrap();
    let again = bty(&["eject", "wizard", dir]).expect(3);
    assert!(again.stderr.contains("it already exists"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(format!("{dir}/confirm.rhai")).unwrap(), "// mine");
    assert!(bty(&["eject", "wizzard", dir]).expect(2).stderr.contains("wizard, "));
}

#[test]
fn the_reference_in_the_docs_is_that_of_the_engine() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/functions.md");
    let fresh = bty(&["docs", "--markdown"]).expect(0).stdout;
    let kept = fs::read_to_string(docs).unwrap();
    assert!(fresh == kept, "run: target/debug/bty docs --markdown > docs/reference/functions.md");
    // every function and field is documented
    let blocks: Vec<&str> = fresh.split("\n\n").filter(|block| block.starts_with('`')).collect();
    let silent: Vec<&&str> =
        blocks.iter().filter(|block| block.lines().nth(1).is_none_or(str::is_empty)).collect();
    assert!(silent.is_empty(), "{silent:?}");
    assert!(blocks.len() > 100, "{}", blocks.len());
}

#[test]
fn editors_get_definitions_with_the_names_of_scripts() {
    let desk = Desk::new();
    let dir = desk.path("defs");
    let _ = bty(&["docs", "--definitions", dir.to_str().unwrap()]).expect(0);
    let disks = fs::read_to_string(dir.join("disks.d.rhai")).unwrap();
    assert!(
        disks.contains(
            "\n/// The disk with exactly this serial number.\n\
                        fn by_serial(serial: string) -> Disk;\n"
        ),
        "{disks}"
    );
    for file in ["disks", "flash", "images", "catalog", "ui", "system", "http", "oci", "test"] {
        let text = fs::read_to_string(dir.join(format!("{file}.d.rhai"))).unwrap();
        assert!(
            !text.contains(" >;")
                && !text.contains("CallResult<")
                && !text.contains("NativeCallContext"),
            "{text}"
        );
    }
}

#[test]
fn docs_explain_one_thing_and_know_what_was_meant() {
    let text = bty(&["docs", "disks::only"]).expect(0).stdout;
    assert!(text.starts_with("disks::only(filter: fn) -> Disk\n    The only disk"), "{text}");
    assert!(bty(&["docs", "Disk"]).expect(0).stdout.contains("Disk.serial -> String | ()"));
    assert!(bty(&["docs", "slep"]).expect(2).stderr.contains("did you mean sleep?"));
}

#[test]
fn man_pages_are_written_for_every_verb() {
    let desk = Desk::new();
    let dir = desk.path("man/man1");
    assert_eq!(bty(&["man", dir.to_str().unwrap()]).expect(0).stdout, "");
    for page in ["bty.1", "bty-flash.1", "bty-run.1", "bty-repl.1"] {
        let text = fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
}

/// Runs an example on real disks.
fn example(name: &str, arguments: &[&str]) -> Outcome {
    let script = format!("{}/{name}.rhai", examples());
    let mut all = vec!["run", script.as_str()];
    all.extend(arguments);
    bty(&all)
}

#[test]
fn a_real_disk_is_flashed_verified_and_backed_up_by_scripts() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let desk = Desk::new();
    let content = gpt_image(8 * MIB, 512);
    let image = write(desk.0.path(), "a.img", &content);
    let image = image.to_str().unwrap();
    let differs = example("verify_rack", &[image, disk.path()]).expect(5);
    assert!(differs.stdout.contains("0 of 1 disks hold a.img"), "{}", differs.stdout);

    let flash = "let events = [];\nlet report = flash(ARGS[0], ARGS[1], #{ fix_gpt: true }, |e| \
                 events.push(e.event));\nassert(report.is_success);\n\
                 assert(events.contains(\"phase\") && \
                 events.contains(\"progress\"));\nprint(report);";
    let script = desk.file("flash.rhai", flash);
    let _ = bty(&["run", &script, image, disk.path()]).expect(0);
    assert_eq!(disk.content()[MIB..8 * MIB - 33 * 512], content[MIB..8 * MIB - 33 * 512]);

    let copy = desk.path("copy.img");
    let copy = copy.to_str().unwrap();
    let backup = example("backup_disk", &[disk.path(), copy]).expect(0);
    assert!(backup.stdout.contains("read back and equal"), "{}", backup.stdout);
    assert!(fs::read(copy).unwrap() == disk.content(), "the copy differs");
    let again = example("backup_disk", &[disk.path(), copy]).expect(3);
    assert!(again.stderr.contains("already exists"), "{}", again.stderr);
    let equal = example("verify_rack", &[copy, disk.path()]).expect(0);
    assert!(equal.stdout.contains("1 of 1 disks hold copy.img"), "{}", equal.stdout);
}

#[test]
fn a_progress_function_that_throws_stops_the_flash_and_the_disk_does_not_boot() {
    let Some(disk) = LoopDisk::new(64 << 20, 512) else { return };
    let desk = Desk::new();
    let mut content = gpt_image(48 * MIB, 512);
    // no zeros, so that writing takes a while
    content.iter_mut().skip(MIB).for_each(|byte| *byte |= 1);
    let image = write(desk.0.path(), "a.img", &content);
    let script = desk.file(
        "flash.rhai",
        "flash(ARGS[0], ARGS[1], #{}, |e| if e.event == \"phase\" && e.phase == \"write\" \
         { throw \"enough\" });",
    );
    let run = bty(&["run", &script, image.to_str().unwrap(), disk.path()]).expect(7);
    assert!(run.stderr.contains("error: enough"), "{}", run.stderr);
    assert!(disk.content()[..MIB].iter().all(|&byte| byte == 0), "the first MiB is not zero");
}

#[test]
fn a_script_talks_to_the_server_that_it_names_and_to_no_other() {
    use bty_tests::server::{Reply, Server};
    let elsewhere = Server::start(|_| Reply::whole(b"\"secret\""));
    let other = elsewhere.url("/");
    let server = Server::start(move |request| match request.target.as_str() {
        "/order" => Reply::whole(b"{\"n\": 1}"),
        "/echo" => Reply::whole(&request.body),
        "/empty" => Reply::status(204),
        "/moved" => Reply::status(302).header("Location", &other),
        "/text" => Reply::whole(b"hello"),
        _ => Reply::status(500).body(b"no luck\nat all"),
    });
    let desk = Desk::new();
    let script = desk.file(
        "script.rhai",
        "let base = ARGS[0];\nprint(http::get_json(`${base}/order`).n);\n\
         print(http::post_json(`${base}/echo`, #{ a: [1, \"x\"] }).a);\n\
         print(http::post_json(`${base}/empty`, 1) == ());\n\
         print(http::get(`${base}/moved`).status);\n\
         for path in [\"moved\", \"text\", \"gone\"] \
         {\n    try { http::get_json(`${base}/${path}`) } catch (e) { \
         print(`${e.kind} ${e.message.contains(path)}`); }\n}\n",
    );
    let run = bty(&["run", &script, server.url("").trim_end_matches('/')]).expect(0);
    assert_eq!(run.stdout, "1\n[1, \"x\"]\ntrue\n302\nsource true\nsource true\nsource true\n");
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
}
