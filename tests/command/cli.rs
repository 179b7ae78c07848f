//! The `bty` command: help, exit codes, JSON, prompts, messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bty::Digest;
use bty::digest::Sha512;
use bty_tests::command::{Outcome, bty, bty_command, bty_on_terminal, bty_path, tool};
use bty_tests::images::{disk_image, filter, gpt_image, write};
use bty_tests::loops::{LoopDisk, Mount, has_root};
use bty_tests::nginx::Nginx;
use serde_json::{Value, json};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A directory with an image, and a file of 16 MiB full of old data as a target.
struct Bench {
    dir: TempDir,
    image: String,
    target: String,
    content: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = gpt_image(8 * MIB, 512);
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let image = text(write(
            dir.path(),
            "debian-13.img.zst",
            &filter(&["zstd", "-q3c", "--stream-size=8388608"], &content),
        ));
        let target = text(write(dir.path(), "disk", &vec![0xa5; 16 * MIB]));
        Self { dir, image, target, content }
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn digest(&self) -> String {
        Digest::of(&fs::read(&self.image).unwrap()).to_string()
    }

    /// Replaces text that differs between runs.
    fn redact(&self, text: &str) -> String {
        let text = text.replace(self.path(), "DIR").replace(&self.digest(), "DIGEST");
        let is_time = |word: &str| word.contains('.') && word.parse::<f64>().is_ok();
        let redact = |line: &str| match line
            .split_once(" read in ")
            .and_then(|(b, l)| Some((b, l.split_once(" s; ")?)))
        {
            Some((before, (time, after))) if is_time(time) => {
                format!("{before} read in TIME s; {after}")
            }
            _ => line.to_owned(),
        };
        // remove the list of disks of this machine
        let lines = text.lines().filter(|line| !line.starts_with("  /dev/"));
        lines.map(|line| redact(line).trim_end().to_owned() + "\n").collect()
    }

    fn is_untouched(&self) -> bool {
        fs::read(&self.target).unwrap() == vec![0xa5; 16 * MIB]
    }

    fn holds_image(&self) -> bool {
        fs::read(&self.target).unwrap().starts_with(&self.content)
    }
}

#[test]
fn help() {
    let verbs =
        ["", "disks", "image", "images", "catalog", "flash", "verify", "erase", "completions"];
    let of_scripts = ["run", "check", "test", "repl", "eject", "docs", "man"];
    for verb in verbs.into_iter().chain(of_scripts) {
        let arguments: Vec<&str> = [verb, "--help"].into_iter().filter(|a| !a.is_empty()).collect();
        let shown = bty(&arguments).expect(0);
        assert_eq!(shown.stderr, "");
        assert!(shown.stdout.is_ascii() || shown.stdout.contains('\u{2026}'), "{}", shown.stdout);
        let name = if verb.is_empty() { "help".to_owned() } else { format!("help_{verb}") };
        insta::assert_snapshot!(name, shown.stdout);
    }
    for action in ["show", "check", "add", "ref"] {
        insta::assert_snapshot!(
            format!("help_catalog_{action}"),
            bty(&["catalog", action, "--help"]).expect(0).stdout
        );
    }
    insta::assert_snapshot!(
        "help_image_create",
        bty(&["image", "create", "--help"]).expect(0).stdout
    );
    let version = bty(&["--version"]).expect(0).stdout;
    assert_eq!(version, concat!("bty ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn every_exit_code_means_what_the_help_says() {
    let bench = Bench::new();
    let (image, target) = (bench.image.as_str(), bench.target.as_str());
    let wrong = Digest::of(b"another").to_string();
    let text = write(bench.dir.path(), "readme.html", b"<html>hello</html>");
    let small = write(bench.dir.path(), "small", &vec![0; MIB]);
    let cut = write(bench.dir.path(), "cut.img.zst", &fs::read(image).unwrap()[..200_000]);
    let gone = format!("{}/gone.img", bench.path());
    for (code, arguments) in [
        (0, &["flash", image, target, "--yes"][..]),
        (0, &["verify", image, target]),
        (2, &["flash", image, target]),
        (2, &["flash", image]),
        (2, &["flash", image, target, "--sha256", "abc", "--yes"]),
        (2, &["flash", image, target, "--create=12Q", "--yes"]),
        (2, &["flash", image, "serial:", "--yes"]),
        (2, &["burn"]),
        (3, &["flash", image, small.to_str().unwrap(), "--yes"]),
        (3, &["flash", image, "/dev/null", "--yes"]),
        (3, &["flash", image, "serial:no-such-disk", "--yes"]),
        (3, &["flash", image, target, target, "--yes"]),
        (3, &["flash", image, "/dev/no-such-disk", "--yes"]),
        (4, &["flash", &gone, target, "--yes"]),
        (4, &["flash", "http://127.0.0.1:1/a.img", target, "--yes"]),
        (4, &["flash", text.to_str().unwrap(), target, "--yes"]),
        (4, &["flash", cut.to_str().unwrap(), target, "--yes"]),
        (4, &["image", &gone]),
        (4, &["catalog", "show", &gone]),
        (5, &["flash", image, target, "--yes", "--sha256", &wrong]),
        (5, &["verify", image, target]),
    ] {
        let outcome = bty(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}{}", outcome.stdout, outcome.stderr);
        assert!(!outcome.stderr.is_empty(), "{arguments:?} said nothing");
        if code > 2 {
            assert!(
                !outcome.stderr.contains("panicked") && !outcome.stderr.contains('\x1b'),
                "{}",
                outcome.stderr
            );
        }
    }
    // 130 and 6 have tests of their own
}

#[test]
fn a_failing_disk_has_an_exit_code_of_its_own_and_the_others_go_on() {
    if !has_root() {
        return;
    }
    let bench = Bench::new();
    let tiny = Mount::memory(2 << 20);
    let full = tiny.path().join("disk");
    fs::File::create(&full).unwrap().set_len(16 << 20).unwrap();
    let full = full.to_str().unwrap();
    let outcome = bty(&["flash", &bench.image, full, &bench.target, "--yes", "--json"]).expect(6);
    assert!(bench.holds_image());
    let report = outcome.last();
    assert_eq!(report["event"], "report");
    assert_eq!(report["targets"][0]["failure"]["kind"], "target");
    assert_eq!(report["targets"][1]["failure"], Value::Null);
    let told = outcome.json().iter().filter(|line| line["event"] == "target_failed").count();
    assert_eq!(told, 1, "{}", outcome.stdout);
    insta::assert_json_snapshot!("json_failure", shape(&report["targets"][0]["failure"]));
}

#[test]
fn errors_say_what_where_why_and_what_next() {
    let bench = Bench::new();
    let text = write(bench.dir.path(), "login.img", b"<!doctype html><p>Please log in");
    let small = write(bench.dir.path(), "small", &vec![0; MIB]);
    let gone = format!("{}/gone.img", bench.path());
    let wrong = "0".repeat(64);
    let mut all = String::new();
    for arguments in [
        &["flash", &gone, &bench.target, "--yes"][..],
        &["flash", text.to_str().unwrap(), &bench.target, "--yes"],
        &["flash", &bench.image, "/dev/no-such-disk", "--yes"],
        &["flash", &bench.image, "serial:S3Z9NX0M", "--yes"],
        &["flash", &bench.image, small.to_str().unwrap(), "--yes"],
        &["flash", &bench.image, &bench.target],
        &["flash", &bench.image, &bench.target, "--create", "--yes"],
        &["flash", &bench.image, &bench.target, "--yes", "--sha256", "abc"],
        &["verify", &bench.image, &bench.target],
        &["flash", &bench.image, &bench.target, "--yes", "--sha256", &wrong],
        &["catalog", "ref", "ftp://host/a.img"],
    ] {
        let outcome = bty(arguments);
        let shown = bench.redact(&outcome.stderr);
        let command = bench.redact(&arguments.join(" ").replace(&wrong, "WRONG"));
        all.push_str(&format!(
            "$ bty {command}{}[{}]\n\n",
            shown.replace(&wrong, "WRONG"),
            outcome.code
        ));
    }
    insta::assert_snapshot!("errors", all);
}

#[test]
fn texts_of_a_flash() {
    let bench = Bench::new();
    fs::write(
        format!("{}.sha256", bench.image),
        format!("{}  debian-13.img.zst\n", bench.digest()),
    )
    .unwrap();
    let mut all = String::new();
    for arguments in [
        &["image", &bench.image][..],
        &["image", &bench.image, "--full"],
        &["images", bench.path()],
        &["flash", &bench.image, &bench.target, "--dry-run"],
        &["flash", &bench.image, &bench.target, "--yes", "--fix-gpt"],
        &["verify", &bench.image, &bench.target, "--fix-gpt"],
        &["flash", &bench.image, &bench.target, "--yes", "--no-verify"],
    ] {
        let outcome = bty(arguments).expect(0);
        let command = bench.redact(&arguments.join(" "));
        all.push_str(&format!(
            "$ bty {command}{}{}\n",
            bench.redact(&outcome.stdout),
            bench.redact(&outcome.stderr)
        ));
    }
    insta::assert_snapshot!("texts", all);
    assert!(bench.holds_image());
}

/// The structure of `value`: field names and types, on which programs rely.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), shape(field))).collect()
        }
        Value::Array(items) => match items.iter().map(shape).reduce(|a, b| either(&a, &b)) {
            Some(item) => json!([item]),
            None => json!([]),
        },
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
    }
}

/// Merges two JSON values: fields that differ become alternatives.
fn either(a: &Value, b: &Value) -> Value {
    match (a, b) {
        _ if a == b => a.clone(),
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let field = |name: &String| {
                either(
                    a.get(name).unwrap_or(&json!("absent")),
                    b.get(name).unwrap_or(&json!("absent")),
                )
            };
            names.map(|name| (name.clone(), field(name))).collect()
        }
        (Value::Array(a), Value::Array(b)) => match (a.first(), b.first()) {
            (Some(a), Some(b)) => json!([either(a, b)]),
            (item, None) | (None, item) => item.map_or(json!([]), |item| json!([item])),
        },
        (Value::String(a), Value::String(b)) => {
            let mut words: Vec<&str> = a.split('|').chain(b.split('|')).collect();
            words.sort_unstable();
            words.dedup();
            words.join("|").into()
        }
        (Value::String(word), all) | (all, Value::String(word)) => {
            json!({ "either": all, "or": word })
        }
        _ => panic!("{a} and {b} have nothing in common"),
    }
}

/// The structures of all lines, by event.
fn shapes(outcome: &Outcome) -> BTreeMap<String, Value> {
    let mut shapes: BTreeMap<String, Value> = BTreeMap::new();
    for line in outcome.json() {
        let event = line["event"].as_str().unwrap_or("result").to_owned();
        let shape = shape(&line);
        let merged = shapes.get(&event).map_or(shape.clone(), |known| either(known, &shape));
        shapes.insert(event, merged);
    }
    shapes
}

#[test]
fn json_shapes() {
    let bench = Bench::new();
    let (image, target) = (bench.image.as_str(), bench.target.as_str());
    let plan = bty(&["flash", image, target, "--json", "--dry-run", "--fix-gpt"]).expect(0);
    insta::assert_json_snapshot!("json_dry_run", shapes(&plan));
    fs::write(format!("{image}.sha256"), format!("{}  debian-13.img.zst\n", bench.digest()))
        .unwrap();
    let flashed = bty(&["flash", image, target, "--json", "--yes", "--fix-gpt"]).expect(0);
    assert_eq!(flashed.last()["event"], "report");
    let phases =
        flashed.json().into_iter().filter(|l| l["event"] == "phase").map(|l| l["phase"].clone());
    assert_eq!(phases.collect::<Vec<_>>(), ["wipe", "write", "verify"]);
    insta::assert_json_snapshot!("json_flash", shapes(&flashed));
    insta::assert_json_snapshot!(
        "json_verify",
        shapes(&bty(&["verify", image, target, "--fix-gpt", "--json"]).expect(0))
    );
    let differs = bty(&["verify", image, target, "--json"]).expect(5);
    insta::assert_json_snapshot!("json_verify_differs", shape(&differs.last()["first_difference"]));
    insta::assert_json_snapshot!(
        "json_image",
        shapes(&bty(&["image", image, "--full", "--json"]).expect(0))
    );
    insta::assert_json_snapshot!(
        "json_images",
        shapes(&bty(&["images", bench.path(), "--json"]).expect(0))
    );
    let refused = bty(&["flash", image, target, target, "--json", "--yes"]).expect(3);
    insta::assert_json_snapshot!("json_refused", shape(&refused.last()["refusals"]));
    let wrong =
        bty(&["flash", image, target, "--json", "--yes", "--sha256", &"0".repeat(64)]).expect(5);
    insta::assert_json_snapshot!("json_error", shapes(&wrong));
}

#[test]
fn a_dry_run_shows_the_plan_and_every_refusal_and_writes_nothing() {
    let bench = Bench::new();
    let shown = bty(&["flash", &bench.image, &bench.target, "--dry-run"]).expect(0);
    assert!(
        shown.stderr.contains(&bench.target) && shown.stderr.contains("nothing was written"),
        "{}",
        shown.stderr
    );
    let both = bty(&["flash", &bench.image, &bench.target, &bench.target, "--dry-run", "--json"])
        .expect(3);
    assert_eq!(both.last()["event"], "plan");
    assert_eq!(both.last()["refusals"][0]["reason"], "twice");
    let new = bench.dir.path().join("new");
    let _ = bty(&["flash", &bench.image, new.to_str().unwrap(), "--create", "--dry-run"]).expect(0);
    assert!(!new.exists());
    assert!(bench.is_untouched());
}

#[test]
fn without_a_terminal_nobody_can_agree() {
    let bench = Bench::new();
    let _ = bty(&["flash", &bench.image, &bench.target]).expect(2);
    // the word is not accepted from a pipe
    let mut child =
        bty_command(&["flash", &bench.image, &bench.target]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"yes\n").unwrap();
    let outcome = Outcome::from(child.wait_with_output().unwrap()).expect(2);
    assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    assert!(bench.is_untouched());
}

#[test]
fn on_a_terminal_only_the_word_yes_agrees() {
    let bench = Bench::new();
    let arguments = ["flash", &bench.image, &bench.target];
    // ^D ends the input, ^C interrupts
    for typed in ["no\r", "y\r", "\r", "YES\r", "yes please\r", "\x04", "\x03"] {
        let outcome = bty_on_terminal(&arguments, typed, &[]).expect(130);
        assert!(outcome.stdout.contains("nothing was written"), "{typed:?}: {}", outcome.stdout);
        assert!(bench.is_untouched(), "{typed:?} agreed");
    }
    let outcome = bty_on_terminal(&arguments, "yes\r", &[]).expect(0);
    assert!(bench.holds_image());
    assert!(
        outcome.stdout.contains("\x1b[1;31mALL DATA ON IT WILL BE LOST\x1b[0m"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let bench = Bench::new();
    let is_coloured = |text: &str| text.contains("\x1b[1;3");
    let arguments = ["flash", &bench.image, &bench.target, "--yes"];
    assert!(is_coloured(&bty_on_terminal(&arguments, "", &[]).expect(0).stdout));
    assert!(!is_coloured(&bty_on_terminal(&arguments, "", &[("NO_COLOR", "1")]).expect(0).stdout));
    let piped = bty(&["flash", &bench.image, &bench.target, "--yes"]).expect(0);
    assert!(!piped.stderr.contains('\x1b') && !piped.stdout.contains('\x1b'), "{}", piped.stderr);
}

#[test]
fn disks_agree_with_lsblk() {
    for sector in [512, 4096] {
        let Some(disk) = LoopDisk::new(9 << 20, sector) else { return };
        let listed = bty(&["disks", "--json"]).expect(0).json();
        let ours = listed.iter().find(|d| d["path"] == disk.path()).expect("it is listed");
        let theirs: Value =
            serde_json::from_str(&tool(&["lsblk", "-J", "-b", "-O", disk.path()])).unwrap();
        let theirs = &theirs["blockdevices"][0];
        for (name, lsblk_name) in [
            ("path", "path"),
            ("size_bytes", "size"),
            ("logical_sector_bytes", "log-sec"),
            ("physical_sector_bytes", "phy-sec"),
            ("is_read_only", "ro"),
            ("is_removable", "rm"),
            ("is_rotational", "rota"),
            ("serial", "serial"),
            ("model", "model"),
        ] {
            assert_eq!(ours[name], theirs[lsblk_name], "{name}: {ours} {theirs}");
        }
        assert_eq!(ours["kind"], "loop");
    }
}

#[test]
fn an_image_read_in_full_has_exact_sizes_and_a_digest() {
    let bench = Bench::new();
    let gz = write(bench.dir.path(), "a.img.gz", &filter(&["gzip", "-c"], &bench.content));
    let shown = bty(&["image", gz.to_str().unwrap(), "--full", "--json"]).expect(0).last();
    assert_eq!(shown["disk_bytes"], Value::Null, "gzip does not tell");
    assert_eq!(shown["contents"]["disk_bytes"], 8 * MIB);
    assert_eq!(shown["contents"]["source_bytes"], fs::metadata(&gz).unwrap().len());
    assert_eq!(shown["contents"]["source_sha256"], Digest::of(&fs::read(&gz).unwrap()).to_string());
    fs::write(gz.with_added_extension("sha256"), format!("{}  a.img.gz\n", "0".repeat(64)))
        .unwrap();
    let _ = bty(&["image", gz.to_str().unwrap(), "--full"]).expect(5);
}

#[test]
fn images_lists_what_is_in_a_directory() {
    let bench = Bench::new();
    write(bench.dir.path(), "notes.txt", b"hello");
    write(bench.dir.path(), "b.qcow2", b"");
    let names = |outcome: Outcome| -> Vec<Value> {
        outcome.json().iter().map(|i| i["name"].clone()).collect()
    };
    assert_eq!(
        names(bty(&["images", bench.path(), "--json"]).expect(0)),
        ["b.qcow2", "debian-13.img.zst"]
    );
    let here = bty_command(&["images", "--json"]).current_dir(bench.path()).output().unwrap();
    assert_eq!(names(here.into()), ["b.qcow2", "debian-13.img.zst"]);
    let empty = tempfile::tempdir().unwrap();
    let none = bty(&["images", empty.path().to_str().unwrap()]).expect(0);
    assert!(none.stderr.contains("no images in"), "{}", none.stderr);
    let _ = bty(&["images", "/no/such/directory"]).expect(4);
}

#[test]
fn a_catalog_from_the_first_entry_to_the_flashed_disk() {
    let bench = Bench::new();
    let server = Nginx::start("");
    let url = server.put("debian-13.img.zst", &fs::read(&bench.image).unwrap());
    let sums =
        server.put("SHA256SUMS", format!("{}  debian-13.img.zst\n", bench.digest()).as_bytes());
    let other = server.put("other.img", &disk_image(MIB));
    let catalog = bench.dir.path().join("catalog.toml");
    let catalog = catalog.to_str().unwrap();
    let add = [
        "catalog",
        "add",
        catalog,
        &url,
        "--name",
        "Debian 13",
        "--sha-url",
        &sums,
        "--description",
        "stable",
    ];
    let _ = bty(&add).expect(0);
    let _ = bty(&["catalog", "add", catalog, &other]).expect(0);
    let entries = bty(&["catalog", "show", catalog, "--json"]).expect(0).json();
    assert_eq!(
        entries.iter().map(|e| e["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Debian 13", "other.img"]
    );
    assert_eq!(entries[0]["sha256"], bench.digest());
    assert_eq!(entries[0]["description"], "stable");
    insta::assert_json_snapshot!(
        "json_catalog",
        entries.iter().map(shape).reduce(|a, b| either(&a, &b))
    );
    let checked = bty(&["catalog", "check", catalog]).expect(0);
    assert_eq!(checked.stdout, "ok      Debian 13\nok      other.img\n");

    let report =
        bty(&["flash", "Debian 13", &bench.target, "--catalog", catalog, "--yes", "--json"])
            .expect(0)
            .last();
    assert!(bench.holds_image());
    assert_eq!(report["is_digest_checked"], true);
    let _ = bty(&["verify", "Debian 13", &bench.target, "--catalog", catalog]).expect(0);
    let unknown = bty(&["flash", "Debian 12", &bench.target, "--catalog", catalog, "--yes"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("Debian 12"), "{unknown:?}");
    let conflict = ["flash", "Debian 13", &bench.target, "--catalog", catalog, "--yes", "--sha256"];
    let _ = bty(&[&conflict[..], &[&"0".repeat(64)]].concat()).expect(5);

    let gone = url.replace("debian-13", "gone");
    let entry = format!("\n[[images]]\nname = \"gone\"\nsrc = \"{gone}\"\n");
    fs::write(catalog, fs::read_to_string(catalog).unwrap() + &entry).unwrap();
    let checked = bty(&["catalog", "check", catalog]).expect(4);
    assert!(checked.stdout.contains("failed  gone: "), "{}", checked.stdout);
    assert!(checked.stderr.contains("3 images checked, 1 with problems"), "{}", checked.stderr);
}

#[test]
fn a_flash_of_a_catalog_entry_reads_its_packed_form_unless_it_fails_or_delta_is_never() {
    let bench = Bench::new();
    let server = Nginx::start("");
    let url = server.put("debian-13.img.zst", &fs::read(&bench.image).unwrap());
    let file = bench.dir.path().join("packed.img.zst");
    let packed = bty(&["pack", &bench.image, "-o", file.to_str().unwrap(), "--json"]).expect(0);
    let index = packed.last()["index_sha256"].as_str().unwrap().to_owned();
    let packed = server.put("packed.img.zst", &fs::read(&file).unwrap());
    let catalog = |packed: &str| {
        let path = bench.dir.path().join("catalog.toml");
        let text = format!(
            "version = 1\n[[images]]\nname = \"debian\"\nsrc = \"{url}\"\nsha256 = \"{}\"\n\
             packed = \"{packed}\"\nindex_sha256 = \"{index}\"\n",
            bench.digest()
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let gone = packed.replace("packed.img", "gone.img");
    let (digest, image_digest) = (bench.digest(), Digest::of(&bench.content).to_string());
    for (address, options, source) in [
        (&packed, &[][..], &packed),
        (&packed, &["--delta", "never"][..], &url),
        (&packed, &["--sha256", &*digest][..], &packed),
        (&packed, &["--image-sha256", &*image_digest][..], &url),
        (&gone, &[][..], &url),
    ] {
        let catalog = catalog(address);
        let flash = ["flash", "debian", &bench.target, "--catalog", &catalog, "--yes", "--json"];
        let report = bty(&[&flash[..], options].concat()).expect(0).last();
        assert_eq!(report["image"]["source"], *source, "{options:?}");
        assert!(bench.holds_image());
    }
}

#[test]
fn lists_of_digests_in_every_usual_form_are_understood() {
    let bench = Bench::new();
    let server = Nginx::start("");
    let bytes = fs::read(&bench.image).unwrap();
    let url = server.put("a b+.img.zst", &bytes).replace("a b+", "a%20b%2B");
    let long = Sha512::of(&bytes).to_string();
    let bsd = format!(
        "# a b+.img.zst: {} bytes\nSHA256 (a b+.img.zst) = {}\n",
        bytes.len(),
        bench.digest()
    );
    let bsd = server.put("CHECKSUM", bsd.as_bytes());
    let sha512 = server.put("SHA512SUMS", format!("{long}  a b+.img.zst\n").as_bytes());
    let md5 = server.put("MD5SUMS", b"d41d8cd98f00b204e9800998ecf8427e  a b+.img.zst\n");
    let catalog = |name: &str| bench.dir.path().join(name).to_str().unwrap().to_owned();
    let add = |file: &str, list: &str| {
        bty(&["catalog", "add", file, &url, "--name", "a", "--sha-url", list])
    };

    let _ = add(&catalog("bsd.toml"), &bsd).expect(0);
    let listed = bty(&["catalog", "show", &catalog("bsd.toml"), "--json"]).expect(0).last();
    assert_eq!((&listed["sha256"], &listed["sha512"]), (&json!(bench.digest()), &Value::Null));
    let _ = add(&catalog("long.toml"), &sha512).expect(0);
    let listed = bty(&["catalog", "show", &catalog("long.toml"), "--json"]).expect(0).last();
    assert_eq!((&listed["sha256"], &listed["sha512"]), (&Value::Null, &json!(long)));
    let refused = add(&catalog("md5.toml"), &md5).expect(4);
    assert!(refused.stderr.contains("holds only MD5 for the image"), "{}", refused.stderr);
    assert!(!fs::exists(catalog("md5.toml")).unwrap());

    let flash =
        ["flash", "a", &bench.target, "--catalog", &catalog("long.toml"), "--yes", "--json"];
    assert_eq!(bty(&flash).expect(0).last()["is_digest_checked"], true);
    let zeros = "0".repeat(128);
    let other = [&flash[..], &["--sha512", &zeros]].concat();
    let _ = bty(&other).expect(5);
    let direct = [
        "flash",
        &url,
        &bench.target,
        "--yes",
        "--image-sha256",
        &Digest::of(&bench.content).to_string(),
    ];
    let done = bty(&direct).expect(0);
    assert!(done.stderr.contains("the digest matches:\n  image sha256 "), "{}", done.stderr);
}

#[test]
fn a_password_comes_from_a_file_and_is_shown_nowhere() {
    let bench = Bench::new();
    let server = Nginx::start("auth_basic lab; auth_basic_user_file users;");
    let url = server.put("a.img", &bench.content);
    let file = |name: &str, text: &str| {
        fs::write(bench.dir.path().join(name), text).unwrap();
        bench.dir.path().join(name).to_str().unwrap().to_owned()
    };
    server.set("users", b"user:{PLAIN}secret\n");
    let refused = bty(&["image", &url, "--no-login-files"]).expect(4);
    assert!(
        refused.stderr.contains("401") && refused.stderr.contains("--login"),
        "{}",
        refused.stderr
    );
    let host = url.split('/').nth(2).unwrap();
    let login = format!("{host}={}", file("login", "user:secret\n"));
    let _ = bty(&["image", &url, "--login", &login]).expect(0);
    let netrc = file("netrc", "machine 127.0.0.1 login user password secret\n");
    let _ = bty(&["image", &url, "--netrc", &netrc]).expect(0);
    let in_home = bty_command(&["image", &url]).env("HOME", bench.path()).output().unwrap();
    assert_eq!(in_home.status.code(), Some(4), "the netrc is not called .netrc there");
    let _ = file(".netrc", "machine 127.0.0.1 login user password secret\n");
    let in_home = bty_command(&["image", &url]).env("HOME", bench.path()).output().unwrap();
    assert_eq!(in_home.status.code(), Some(0), "{}", String::from_utf8_lossy(&in_home.stderr));
    let wrong =
        bty(&["image", &url, "--login", &format!("{host}={}", file("wrong", "user:SECRET"))])
            .expect(4);
    assert!(
        wrong.stderr.contains("password is wrong") && !wrong.stderr.contains("SECRET"),
        "{}",
        wrong.stderr
    );
    let _ = bty(&["image", &url, "--netrc", "/nonexistent"]).expect(1);
    let _ = bty(&["image", &url, "--login", "https://x/=f"]).expect(2);
}

#[test]
fn a_reference_is_the_digest_of_the_canonical_source() {
    let shown =
        bty(&["catalog", "ref", "HTTPS://Example.com:443/a.img", "--json"]).expect(0).last();
    let src = shown["src"].as_str().unwrap();
    assert_eq!(src, "https://example.com/a.img");
    assert_eq!(shown["ref"], Digest::of(src.as_bytes()).to_string());
}

#[test]
fn completions_are_valid() {
    let script = bty(&["completions", "bash"]).expect(0).stdout;
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "bty.bash", script.as_bytes());
    tool(&["bash", "-n", path.to_str().unwrap()]);
    let ask =
        "source $1; COMP_WORDS=(bty fla); COMP_CWORD=1; _bty bty fla bty; echo ${COMPREPLY[@]}";
    assert_eq!(tool(&["bash", "-c", ask, "bash", path.to_str().unwrap()]), "flash\n");
    for shell in ["zsh", "fish"] {
        assert!(bty(&["completions", shell]).expect(0).stdout.contains("flash"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_fail() {
    let line = format!(
        "{} completions bash | head -c 1; test ${{PIPESTATUS[0]}} -lt 100",
        bty_path().display()
    );
    tool(&["bash", "-c", &line]);
    assert!(Path::new(&bty_path()).exists());
}
