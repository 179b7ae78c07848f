//! A site with the real podman: deploy, flash a machine, upgrade, roll back, purge.

use std::path::{Path, PathBuf};

use bty_tests::command::{Outcome, bty_command};
use bty_tests::images::{filter, gpt_image, write};
use bty_tests::netns::Netns;
use bty_tests::podman::{EARLIER, Podman, archive, earlier, lab_path};
use bty_tests::server::{Reply, Server};
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const IMAGES: [&str; 3] = ["bty-web", "bty-cache", "bty-tftp"];
const MIB: usize = 1 << 20;
const BASE: &str = "http://192.0.2.77:8080";
const MAC: &str = "52:54:00:12:34:56";
const SERIAL: &str = "LAB1";

/// A host with podman whose only network is that of a rack.
pub(crate) struct Host {
    pub(crate) podman: Podman,
    pub(crate) ns: Netns,
}

impl Host {
    pub(crate) fn new(podman: Podman) -> Self {
        let ns = Netns::new();
        for arguments in
            ["link add br0 type bridge", "addr add 192.0.2.77/24 dev br0", "link set br0 up"]
        {
            ns.ip(arguments);
        }
        Self { podman, ns }
    }

    pub(crate) fn lab(&self, arguments: &[&str]) -> Outcome {
        self.ns.run(|| self.podman.lab(arguments))
    }

    pub(crate) fn site(&self) -> PathBuf {
        self.podman.dir().join("site")
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let run = self.ns.run(|| {
            self.podman
                .command(
                    "curl",
                    &[&["-sS", "--fail-with-body", "--max-time", "60"], arguments].concat(),
                )
                .output()
                .unwrap()
        });
        Outcome::from(run).expect(0).stdout
    }

    fn machine(&self) -> String {
        self.send("GET", &format!("/machines/{MAC}"), "")
    }

    /// Logs in with the password that was printed.
    fn log_in(&self, password: &str) {
        let jar = self.podman.dir().join("jar").display().to_string();
        let origin = format!("Origin: {BASE}");
        let _ = self.curl(&[
            "-c",
            &jar,
            "-H",
            &origin,
            "--data-urlencode",
            &format!("password={password}"),
            &format!("{BASE}/ui/login"),
        ]);
    }

    /// Sends a request with the session of the login.
    fn send(&self, method: &str, path: &str, body: &str) -> String {
        let jar = self.podman.dir().join("jar").display().to_string();
        let origin = format!("Origin: {BASE}");
        let url = format!("{BASE}{path}");
        let mut words = vec![
            "-b",
            &jar,
            "-H",
            &origin,
            "-H",
            "Content-Type: application/json",
            "-X",
            method,
            &url,
        ];
        if !body.is_empty() {
            words.extend(["-d", body]);
        }
        self.curl(&words)
    }
}

fn name(image: &str, version: &str) -> String {
    format!("localhost/{image}:{version}")
}

fn password(run: &Outcome) -> String {
    let line =
        run.stdout.lines().find_map(|line| line.strip_prefix("password  ")).expect(&run.stdout);
    line.split_whitespace().next().unwrap().to_owned()
}

/// Creates container images of an earlier version, and the `bty-lab` of that version.
fn version_before(podman: &Podman) -> PathBuf {
    let dir = podman.dir().join("earlier");
    std::fs::create_dir(&dir).unwrap();
    let web = name("bty-web", VERSION);
    let mounted = podman.run(&["image", "mount", &web]).expect(0).stdout;
    earlier(&Path::new(mounted.trim()).join("usr/bin/bty-web"), &dir.join("bty-web"));
    let _ = podman.run(&["image", "unmount", &web]).expect(0);
    for image in IMAGES {
        image_with(podman, image, EARLIER, "COPY bty-web /usr/bin/bty-web", &dir);
    }
    earlier(&lab_path(), &dir.join("bty-lab"));
    dir.join("bty-lab")
}

/// Builds a container image from that of this version, with an additional line.
fn image_with(podman: &Podman, image: &str, version: &str, line: &str, context: &Path) {
    std::fs::write(
        context.join("Containerfile"),
        format!("FROM {}\n{line}\n", name(image, VERSION)),
    )
    .unwrap();
    let tag = name(image, version);
    let arguments = [
        "bud",
        "--quiet",
        "--isolation=chroot",
        "--format=docker",
        "--tag",
        &tag,
        context.to_str().unwrap(),
    ];
    let _ = Outcome::from(podman.command("buildah", &arguments).output().unwrap()).expect(0);
}

/// Flashes a machine that knows only the address of the site, with an image that comes through the
/// cache.
fn flash(host: &Host) {
    let content = gpt_image(8 * MIB, 512);
    let compressed = filter(&["zstd", "-q3c"], &content);
    let sha256 = bty::Digest::of(&compressed).to_string();
    host.ns.ip("addr add 198.51.100.9/32 dev br0");
    let origin = host.ns.run(move || {
        Server::start_at("198.51.100.9", move |request| match request.target.ends_with(".sha256") {
            true => Reply::file(request, sha256.as_bytes(), "\"s\""),
            false => Reply::file(request, &compressed, "\"1\""),
        })
    });
    let url = format!("http://{}/debian.img.zst", origin.host());
    let entry = format!(r#"{{"name":"debian","image_url":"{url}","sha_url":"{url}.sha256"}}"#);
    let entry: Value =
        serde_json::from_str(&host.send("POST", "/catalog/entries", &entry)).unwrap();
    let image_ref = entry["bty_image_ref"].as_str().unwrap_or_else(|| panic!("{entry}"));
    let binding = format!(
        r#"{{"boot_mode":"bty-flash-once","bty_image_ref":"{image_ref}",
            "target_disk_serial":"{SERIAL}"}}"#
    );
    let _ = host.send("PUT", &format!("/machines/{MAC}"), &binding);
    let script = host.curl(&[&format!("{BASE}/pxe/52-54-00-12-34-56?boot=b1")]);
    let token = script
        .split("bty.cycle=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("{script}"));
    let disk = write(host.podman.dir(), "disk.img", &vec![0xA5; 32 * MIB]);
    let file = format!("{}={SERIAL}", disk.display());
    let arguments =
        ["--server", BASE, "--mac", MAC, "--no-reboot", "--disk-file", &file, "--cycle", token];
    let flash: Outcome = host.ns.run(|| bty_command(&arguments).output().unwrap()).into();
    let _ = flash.expect(0);
    assert!(std::fs::read(&disk).unwrap()[..8 * MIB] == content[..], "the image is on the disk");
    let objects = std::fs::read_dir(host.site().join("data/withcache/blobs")).unwrap().count();
    assert!(objects > 0, "it came through the cache");
}

#[test]
#[ignore = "starts containers: make test-chain"]
fn a_machine_is_flashed_and_its_site_goes_on_to_the_next_version_and_back() {
    let host = Host::new(Podman::loaded());
    let before = version_before(&host.podman);
    let run = host.ns.run(|| host.podman.lab_of(&before, &["deploy", "site"])).expect(0);
    assert!(run.stdout.contains("pages     http://192.0.2.77:8080\n"), "{}", run.stdout);
    host.log_in(&password(&run));
    flash(&host);

    let refused = host.lab(&["deploy", "site"]).expect(1);
    assert!(refused.stderr.contains("next: bty-lab upgrade"), "{}", refused.stderr);
    let upgraded = host.lab(&["upgrade", "site"]).expect(0);
    assert!(upgraded.stdout.contains("goes back to 0.0.0"), "{}", upgraded.stdout);
    assert!(host.curl(&[&format!("{BASE}/version")]).contains(VERSION));
    assert!(host.machine().contains("bty-flash-once"), "its data is there");
    let doctor = host.lab(&["doctor", "site"]).expect(0);
    assert!(doctor.stdout.contains("no problems found"), "{}", doctor.stdout);

    let _ = host.send("DELETE", &format!("/machines/{MAC}"), "");
    let _ = host.lab(&["upgrade", "site", "--back"]).expect(0);
    assert!(host.curl(&[&format!("{BASE}/version")]).contains(EARLIER));
    assert!(host.machine().contains("bty-flash-once"), "what was deleted since is there again");

    let broken = tempfile::tempdir().unwrap();
    image_with(&host.podman, "bty-web", VERSION, "CMD [\"check-config\"]", broken.path());
    let failed = host.lab(&["upgrade", "site"]).expect(1);
    assert!(
        failed.stderr.contains("version 0.0.0 is running, with its previous data"),
        "{}",
        failed.stderr
    );
    assert!(host.machine().contains("bty-flash-once"));
}

#[test]
#[ignore = "starts containers: make test-chain"]
fn the_two_documented_commands_make_a_site_and_one_ends_it() {
    let host = Host::new(Podman::new());
    let _ = host.lab(&["deploy", "site", "--images", archive().to_str().unwrap()]).expect(0);
    let doctor = host.lab(&["doctor", "site"]).expect(0);
    assert!(doctor.stdout.contains("no problems found"), "{}", doctor.stdout);

    let again = host.lab(&["deploy", "site"]).expect(0);
    assert!(!again.stdout.contains("password"), "it stays as it is: {}", again.stdout);
    let other = host.lab(&["deploy", "other"]).expect(1);
    assert!(
        other.stderr.contains("the container bty-cache already exists: it belongs to the site "),
        "{}",
        other.stderr
    );
    assert!(!host.podman.dir().join("other").exists(), "nothing is left behind");

    let kept = host.lab(&["purge", "site", "--all"]).expect(1);
    assert!(kept.stderr.contains("next: --yes"), "nobody is asked: {}", kept.stderr);
    assert!(host.site().join("data/bty/state.db").exists());
    let _ = host.lab(&["purge", "site", "--all", "--yes"]).expect(0);
    assert!(!host.site().exists());
    assert_eq!(host.podman.run(&["ps", "--all", "--quiet"]).expect(0).stdout, "");
    assert_eq!(host.podman.run(&["images", "--quiet"]).expect(0).stdout, "");
}
