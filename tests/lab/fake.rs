//! The calls of podman and systemd by `bty-lab`, and its messages if they fail.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bty_tests::command::{Outcome, write_program};
use bty_tests::netns::Netns;
use bty_tests::podman::lab_path;
use bty_tests::qemu::ipxe;
use bty_tests::web::web_path;
use tempfile::TempDir;

/// The user of the programs, and that of earlier versions.
pub(super) const UID: u32 = 61069;
const EARLIER_UID: u32 = 1000;

const IMAGES: [&str; 3] = ["bty-web", "bty-cache", "bty-tftp"];

/// A host with a fake podman, in a network namespace of its own.
pub(super) struct Host {
    dir: TempDir,
    pub(super) ns: Netns,
}

impl Host {
    pub(super) fn new() -> Self {
        let (dir, ns) = (tempfile::tempdir().unwrap(), Netns::new());
        for arguments in
            ["link add br0 type bridge", "addr add 192.0.2.77/24 dev br0", "link set br0 up"]
        {
            ns.ip(arguments);
        }
        let host = Self { dir, ns };
        std::fs::set_permissions(host.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for sub in ["bin", "images", "containers", "pids", "state", "units"] {
            std::fs::create_dir(host.path(sub)).unwrap();
        }
        std::os::unix::fs::symlink(ipxe(), host.path("ipxe")).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab");
        for (from, to) in [("podman.sh", "bin/podman"), ("start.sh", "start")] {
            write_program(&host.path(to), &std::fs::read_to_string(here.join(from)).unwrap());
        }
        host.put("version", "5.4.2");
        for image in IMAGES {
            host.put(&format!("images/localhost_{image}:{}", env!("CARGO_PKG_VERSION")), "amd64");
        }
        host
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Installs a fake program, which takes precedence over that of the system.
    pub(super) fn program(&self, name: &str, script: &str) {
        write_program(&self.path("bin").join(name), &format!("#!/bin/sh\n{script}\n"));
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        command
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("FAKE", self.dir.path());
        command.env("BTY_WEB", web_path()).env_remove("SUDO_UID").stdin(Stdio::null());
        command
    }

    pub(super) fn lab(&self, arguments: &[&str]) -> Outcome {
        let program = lab_path();
        let words = [&[program.to_str().unwrap()], arguments].concat();
        self.ns.run(|| self.command(&words).output().unwrap().into())
    }

    /// Runs `bty-lab` on a host with a fake systemd and Quadlet.
    fn lab_with_systemd(&self, arguments: &[&str]) -> Outcome {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/systemctl.sh");
        write_program(&self.path("bin/systemctl"), &std::fs::read_to_string(here).unwrap());
        let script = r#"set -e
            mkdir -p /run/systemd /etc/containers
            mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system
            generators=/usr/lib/systemd/system-generators
            mount -t tmpfs tmpfs $generators && touch $generators/podman-system-generator
            mount -t tmpfs tmpfs /etc/containers && mkdir /etc/containers/systemd
            mount --bind "$FAKE/units" /etc/containers/systemd
            exec "$0" "$@""#;
        let program = lab_path();
        let words =
            [&["unshare", "--mount", "sh", "-c", script, program.to_str().unwrap()], arguments]
                .concat();
        self.ns.run(|| self.command(&words).output().unwrap().into())
    }

    /// Replaces text that differs between runs.
    fn plain(&self, text: &str) -> String {
        text.replace(self.dir.path().to_str().unwrap(), "DIR")
            .replace(env!("CARGO_PKG_VERSION"), "VERSION")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for image in IMAGES {
            if let Ok(pid) = std::fs::read_to_string(self.path("pids").join(image)) {
                let _ = Command::new("kill").arg(pid.trim()).stderr(Stdio::null()).status();
            }
        }
    }
}

#[test]
fn deploy_starts_services_that_can_do_little_and_tells_the_password_once() {
    let host = Host::new();
    let run = host.lab(&["deploy", "site"]).expect(0);
    let password = run.stdout.lines().find(|line| line.starts_with("password")).unwrap().to_owned();
    insta::assert_snapshot!(
        "deploy",
        host.plain(&format!("{}---\n{}", run.stdout.replace(&password, "password …"), run.stderr))
    );
    let runs = host
        .calls()
        .lines()
        .filter(|line| line.starts_with("podman run"))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!("podman_run", host.plain(&runs));
    let [toml, data] =
        ["site/bty.toml", "site/data/bty"].map(|name| host.path(name).metadata().unwrap());
    assert_eq!((toml.mode() & 0o777, toml.uid()), (0o640, UID));
    assert_eq!((data.mode() & 0o777, data.uid()), (0o700, UID), "nobody else enters it");
    let word = password.split_whitespace().nth(1).unwrap();
    let files = Command::new("grep")
        .args(["-r", "-l", word])
        .arg(host.path("site"))
        .output()
        .unwrap()
        .stdout;
    assert!(word.len() >= 16 && files.is_empty(), "it is nowhere in plain text");
    let again = host.lab(&["deploy", "site"]).expect(0);
    assert!(!again.stdout.contains("password"), "{}", again.stdout);
}

#[test]
fn what_a_site_is_made_of() {
    let host = Host::new();
    let printed = host.lab(&["init", "site", "--print"]).expect(0);
    assert!(!host.path("site").exists(), "--print writes nothing");
    let _ = host.lab(&["init", "site", "--systemd"]).expect(0);
    let read =
        |name: &str| host.plain(&std::fs::read_to_string(host.path("site").join(name)).unwrap());
    assert_eq!(host.plain(&printed.stdout), read("compose.yml"));
    insta::assert_snapshot!("compose.yml", read("compose.yml"));
    insta::assert_snapshot!("envvars", read("envvars"));
    insta::assert_snapshot!("README.md", read("README.md"));
    insta::assert_snapshot!(
        "quadlet",
        ["bty-cache", "bty-web", "bty-tftp"]
            .map(|name| read(&format!("quadlet/{name}.container")))
            .join("\n")
    );
    assert!(!host.calls().contains("run"), "init starts nothing");
    let shown = host.lab(&["show-config", "site"]).expect(0);
    assert!(shown.stdout.contains("password = \"(set)\""), "{}", shown.stdout);
    assert!(shown.stdout.contains("port = \"8080\"  # env(BTY_SERVER_PORT)"), "{}", shown.stdout);
}

#[test]
fn nothing_that_a_person_has_changed_is_written_over() {
    let host = Host::new();
    let _ = host.lab(&["init", "site"]).expect(0);
    let read = |name: &str| std::fs::read_to_string(host.path("site").join(name)).unwrap();
    let toml = read("bty.toml");
    host.put(
        "site/envvars",
        &read("envvars")
            .replace("COMPOSE_PROFILES=cache,tftp", "COMPOSE_PROFILES=cache")
            .replace("SERVER_PORT=8080", "SERVER_PORT=8088"),
    );
    let _ = host.lab(&["deploy", "site"]).expect(0);
    assert!(
        !read("compose.yml").contains("BTY_NETBOOT_TFTP_PROBE_HOST"),
        "what nobody has changed follows the settings"
    );
    assert!(!host.calls().contains("--name=bty-tftp"));
    host.put("site/compose.yml", "mine");
    let refused = host.lab(&["init", "site"]).expect(1);
    insta::assert_snapshot!("changed", host.plain(&refused.stderr));
    assert_eq!(read("compose.yml"), "mine");
    let _ = host.lab(&["init", "site", "--force"]).expect(0);
    assert_ne!(read("compose.yml"), "mine");
    assert_eq!(read("bty.toml"), toml, "not even by --force");
    assert!(read("envvars").contains("8088"));
}

/// Runs a command that must fail. Checks that it suggests what to do, and that it leaves no files.
fn refused(host: &Host, arguments: &[&str]) -> String {
    let before = host.path("site").exists();
    let run = host.lab(arguments).expect(1);
    assert_eq!(host.path("site").exists(), before, "nothing is left behind");
    assert!(!host.calls().contains("podman run"), "nothing is started: {}", host.calls());
    let said =
        run.stderr.lines().filter(|line| !line.starts_with('[')).collect::<Vec<_>>().join("\n");
    assert!(said.contains("next: "), "{said}");
    host.plain(&said)
}

#[test]
fn what_cannot_be_deployed_is_refused_before_anything_is_written() {
    let mut told = Vec::new();
    let mut tell = |what: &str, host: &Host, arguments: &[&str]| {
        told.push(format!("# {what}\n{}", refused(host, arguments)));
    };

    let host = Host::new();
    host.put("version", "4.0.0");
    tell("an old podman", &host, &["deploy", "site"]);
    std::fs::remove_file(host.path("bin/podman")).unwrap();
    std::fs::create_dir(host.path("empty")).unwrap();
    let path = host.path("empty").display().to_string();
    let program = lab_path();
    let run: Outcome = host.ns.run(|| {
        host.command(&[program.to_str().unwrap(), "deploy", "site"])
            .env("PATH", &path)
            .output()
            .unwrap()
            .into()
    });
    assert!(run.code == 1 && !host.path("site").exists(), "{}", run.stderr);
    told.push(format!("# no podman\n{}", run.stderr.trim_end()));

    let host = Host::new();
    let mut tell = |what: &str, host: &Host, arguments: &[&str]| {
        told.push(format!("# {what}\n{}", refused(host, arguments)));
    };
    tell("no archive", &host, &["deploy", "site", "--images", "nowhere.tar"]);
    let web = format!("images/localhost_bty-web:{}", env!("CARGO_PKG_VERSION"));
    host.put(&web, "s390x");
    tell("wrong architecture", &host, &["deploy", "site"]);
    std::fs::remove_file(host.path(&web)).unwrap();
    tell("no image", &host, &["deploy", "site"]);
    host.put("fails", "pull registry.example: no such host\n");
    let run = host.lab(&["deploy", "site", "--prefix", "registry.example/site"]).expect(1);
    assert!(
        run.stderr.contains("podman pull: Error: registry.example: no such host"),
        "{}",
        run.stderr
    );
    assert!(!host.path("site").exists());
    let listener = host.ns.run(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    tell("a port that is taken", &host, &["deploy", "site"]);
    drop(listener);
    host.put("containers/bty-cache", "|running|docker.io/else");
    tell("a container of somebody else", &host, &["deploy", "site"]);
    host.put("containers/bty-cache", &format!("{}|running|else", host.path("gone").display()));
    tell("a container of a site that was deleted", &host, &["deploy", "site"]);
    let _ = host.lab(&["init", "other"]).expect(0);
    host.put("containers/bty-cache", &format!("{}|running|else", host.path("other").display()));
    tell("a container of another site", &host, &["deploy", "site"]);
    insta::assert_snapshot!("refused", told.join("\n\n"));
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_the_way_out() {
    let host = Host::new();
    let program = lab_path();
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        program.to_str().unwrap(),
        "init",
        "site",
    ];
    std::fs::set_permissions(host.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run: Outcome = host.ns.run(|| host.command(&words).output().unwrap().into());
    let run = run.expect(1);
    assert!(
        run.stderr.contains("Permission denied") && run.stderr.contains("sudo mkdir -p"),
        "{}",
        run.stderr
    );
    assert!(!host.path("site").exists());
}

#[test]
fn a_site_of_root_is_left_to_root() {
    let host = Host::new();
    let _ = host.lab(&["deploy", "site"]).expect(0);
    let program = lab_path();
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        program.to_str().unwrap(),
        "doctor",
        "site",
    ];
    let run: Outcome = host.ns.run(|| host.command(&words).output().unwrap().into());
    let run = run.expect(1);
    assert!(
        run.stderr.contains("site was deployed by root\n  next: sudo bty-lab"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_half_written_site_is_taken_away_again() {
    let host = Host::new();
    std::fs::create_dir(host.path("site")).unwrap();
    // a file where a directory must be
    host.put("site/quadlet", "");
    let _ = host.lab(&["init", "site", "--systemd"]).expect(1);
    let left: Vec<_> = std::fs::read_dir(host.path("site"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["quadlet"]);
}

#[test]
fn a_service_that_does_not_start_ends_the_others_and_its_last_words_are_told() {
    let host = Host::new();
    host.put("fails", "run the runtime is missing\n");
    let run = host.lab(&["deploy", "site"]).expect(1);
    assert!(run.stderr.contains("podman run: Error: the runtime is missing"), "{}", run.stderr);
    assert_eq!(std::fs::read_dir(host.path("containers")).unwrap().count(), 0);
    std::fs::remove_file(host.path("fails")).unwrap();
    let _ = host.lab(&["deploy", "site"]).expect(0);
}

#[test]
fn settings_that_are_wrong_are_all_told() {
    let host = Host::new();
    let _ = host.lab(&["init", "site"]).expect(0);
    host.put("site/envvars", "HOST_ADDR=\nBTY_SERVER_PORT=99999\nCOMPOSE_PROFILES=web\n");
    let run = host.lab(&["deploy", "site"]).expect(1);
    insta::assert_snapshot!("settings", host.plain(run.stderr.split_once("bty-lab: ").unwrap().1));
}

#[test]
fn where_systemd_runs_units_are_installed_and_taken_away() {
    let host = Host::new();
    let run = host.lab_with_systemd(&["deploy", "site"]).expect(0);
    assert!(run.stderr.contains("systemd, with Quadlet units"), "{}", run.stderr);
    assert_eq!(std::fs::read_dir(host.path("units")).unwrap().count(), 3);
    assert!(!host.calls().contains("podman run"), "systemd starts them");
    let refused = host.lab(&["upgrade", "site"]).expect(1);
    assert!(refused.stderr.contains("systemd runs this site"), "{}", refused.stderr);
    let _ = host.lab_with_systemd(&["upgrade", "site"]).expect(0);
    let _ = host.lab_with_systemd(&["purge", "site", "--yes"]).expect(0);
    assert_eq!(std::fs::read_dir(host.path("units")).unwrap().count(), 0);
    let calls = host
        .calls()
        .lines()
        .filter(|line| line.starts_with("systemctl"))
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .join("\n");
    insta::assert_snapshot!("systemctl", calls);
}

/// Changes the owner of a site to the user of earlier versions.
fn of_earlier_version(host: &Host) {
    let script =
        format!("chown -R -h {EARLIER_UID}:{EARLIER_UID} data bty.toml && chmod 750 data/*");
    let mut command = Command::new("sh");
    command.args(["-ec", &script]).current_dir(host.path("site"));
    assert!(command.status().unwrap().success());
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = path.symlink_metadata().unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn a_site_of_an_earlier_version_is_handed_over_and_nothing_else_is() {
    let host = Host::new();
    let _ = host.lab(&["deploy", "site"]).expect(0);
    let data = host.path("site/data/bty");
    std::fs::create_dir(data.join("backups")).unwrap();
    for name in ["state.db", "session-secret", "backups/state.db"] {
        std::fs::write(data.join(name), "secret").unwrap();
    }
    of_earlier_version(&host);
    // links that the earlier user may have created to get access to files of others
    host.put("outside", "root's");
    std::fs::hard_link(host.path("outside"), data.join("hard")).unwrap();
    let theirs = host.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("file"), "a person's").unwrap();
    std::os::unix::fs::chown(theirs.join("file"), Some(EARLIER_UID), Some(EARLIER_UID)).unwrap();
    for (name, to) in
        [("link", &theirs), ("file-link", &theirs.join("file")), ("gone", &host.path("gone"))]
    {
        std::os::unix::fs::symlink(to, data.join(name)).unwrap();
        std::os::unix::fs::lchown(data.join(name), Some(EARLIER_UID), Some(EARLIER_UID)).unwrap();
    }
    std::fs::write(data.join("third"), "somebody else's").unwrap();
    std::os::unix::fs::chown(data.join("third"), Some(1234), Some(1234)).unwrap();

    let _ = host.lab(&["deploy", "site"]).expect(0);
    for name in ["", "state.db", "session-secret", "backups", "backups/state.db", "link", "gone"] {
        assert_eq!(owner(&data.join(name)), (UID, UID), "{name}");
    }
    assert_eq!(owner(&host.path("site/data/withcache")), (UID, UID));
    assert_eq!(owner(&host.path("site/bty.toml")), (UID, UID));
    assert_eq!(data.metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(owner(&host.path("outside")), (0, 0));
    assert_eq!(owner(&theirs), (0, 0));
    assert_eq!(owner(&theirs.join("file")), (EARLIER_UID, EARLIER_UID));
    assert_eq!(owner(&data.join("third")), (1234, 1234));
    let calls = host.calls();
    assert!(
        calls
            .lines()
            .filter(|line| line.contains(" run "))
            .all(|line| line.contains(&format!("--user={UID}:{UID}")))
    );
}

#[test]
fn an_upgrade_and_the_way_back_hand_the_data_over_while_nothing_runs() {
    let host = Host::new();
    let _ = host.lab(&["deploy", "site"]).expect(0);
    let state = host.path("site/data/bty/state.db");
    std::fs::write(&state, "of before").unwrap();
    of_earlier_version(&host);
    let _ = host.lab(&["upgrade", "site"]).expect(0);
    assert_eq!(owner(&state), (UID, UID));
    let backup = host.path("site/backup");
    assert_eq!(backup.metadata().unwrap().mode() & 0o777, 0o700, "copies of secrets are in it");
    assert_eq!(owner(&backup.join("bty-web/state.db")), (EARLIER_UID, EARLIER_UID), "as it was");
    std::fs::write(&state, "of after").unwrap();
    let _ = host.lab(&["upgrade", "site", "--back"]).expect(0);
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "of before");
    assert_eq!(owner(&state), (UID, UID), "the image of before runs as the same user");

    of_earlier_version(&host);
    host.put("fails", "rm the container cannot be stopped\n");
    let _ = host.lab(&["upgrade", "site"]).expect(1);
    assert_eq!(
        owner(&state),
        (EARLIER_UID, EARLIER_UID),
        "a program that still runs keeps its data"
    );
}

#[test]
fn no_state_is_touched_while_a_service_cannot_be_stopped() {
    let host = Host::new();
    let _ = host.lab(&["deploy", "site"]).expect(0);
    host.put("fails", "rm the container cannot be stopped\n");
    let refused = host.lab(&["upgrade", "site"]).expect(1);
    assert!(
        refused.stderr.contains("cannot be stopped; the data is unchanged"),
        "{}",
        refused.stderr
    );
    assert!(!host.path("site/backup").exists());
    std::fs::remove_file(host.path("fails")).unwrap();
    let _ = host.lab(&["upgrade", "site"]).expect(0);
    let kept = host.path("site/data/bty/state.db");
    std::fs::write(&kept, "of now").unwrap();
    host.put("fails", "rm the container cannot be stopped\n");
    let _ = host.lab(&["upgrade", "site", "--back"]).expect(1);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "of now");
}

#[test]
fn a_purge_says_what_it_deletes_and_what_is_left() {
    let host = Host::new();
    let nothing = host.lab(&["purge", "site"]).expect(1);
    assert!(nothing.stderr.contains("nothing to purge"), "{}", nothing.stderr);
    let _ = host.lab(&["deploy", "site"]).expect(0);
    let asked = host.lab(&["purge", "site", "--all"]).expect(1);
    insta::assert_snapshot!("purge", host.plain(&format!("{}---\n{}", asked.stdout, asked.stderr)));
    assert!(host.path("site/data/bty").exists());
    host.put("fails", "rmi the image is in use\n");
    let left = host.lab(&["purge", "site", "--images", "--yes"]).expect(1);
    assert!(left.stderr.contains("the image is in use"), "{}", left.stderr);
    assert!(host.path("site/data/bty").exists(), "data is kept when nobody says otherwise");
    std::fs::remove_file(host.path("fails")).unwrap();
    std::fs::create_dir(host.path("site/.git")).unwrap();
    let more = host.lab(&["purge", "site", "--all", "--yes"]).expect(1);
    assert!(more.stderr.contains("contains more than the site"), "{}", more.stderr);
    std::fs::remove_dir(host.path("site/.git")).unwrap();
    let _ = host.lab(&["purge", "site", "--all", "--yes"]).expect(0);
    assert!(!host.path("site").exists());
    assert_eq!(std::fs::read_dir(host.path("images")).unwrap().count(), 0);
}
