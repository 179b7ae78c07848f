//! Checks before a server starts: its state directory, and other processes that use it.

use std::path::Path;
use std::process::Command;

use bty_tests::command::tool;
use bty_tests::loops::Mount;
use bty_tests::web::{Web, web_path};

/// A server with the configuration of `web`, and with its state in `dir`.
fn server(web: &Web, dir: &Path) -> Command {
    let mut command = web.command(&[]);
    command.env("BTY_PATHS_STATE_DIR", dir);
    command
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_state_on_a_network_file_system_is_refused_unless_configured() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mounted = to.path().to_str().unwrap();
    // a local mount that claims to be a network file system
    tool(&["bindfs", "-o", "subtype=sshfs", from.path().to_str().unwrap(), mounted]);
    let mut web = Web::idle(None, &[("BTY_PATHS_STATE_DIR", mounted)]);
    let dir = to.path().join("made/for/it");
    let said = web.refuses(&mut server(&web, &dir));
    let left = names(from.path());
    let cache = web.refuses(web.command(&["cache"]).args([
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        mounted,
    ]));
    web = Web::idle(None, &[("BTY_PATHS_REMOTE_STATE", "1"), ("BTY_PATHS_STATE_DIR", mounted)]);
    web.start_again();
    let (well, log) = (web.get("/healthz").status, web.log());
    web.end();
    tool(&["umount", mounted]);
    assert!(said.contains("fuse.sshfs") && said.contains("BTY_PATHS_REMOTE_STATE=1"), "{said}");
    assert_eq!(left, [""; 0], "nothing was made");
    assert!(cache.contains("fuse.sshfs"), "{cache}");
    assert_eq!(well, 200);
    assert!(log.contains("WARN") && log.contains("is on fuse.sshfs"), "{log}");
}

#[test]
fn an_unwritable_state_is_reported_with_the_next_step() {
    let web = Web::idle(None, &[]);
    // run as root, but without the capability to ignore permissions
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().to_str().unwrap();
    tool(&["chown", "65534", shown]);
    tool(&["chmod", "755", shown]);
    let ordinary = |dir: &Path, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--inh-caps=-dac_override", "--bounding-set=-dac_override"])
            .arg(web_path())
            .args(arguments);
        let own = web.command(&[]);
        command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("BTY_PATHS_STATE_DIR", dir);
        command
    };
    let said = web.refuses(&mut ordinary(dir.path(), &[]));
    assert!(
        said.contains(&format!(
            "cannot be written by user 0; change its owner (chown -R 0 {shown})"
        )),
        "{said}"
    );
    assert_eq!(names(dir.path()), [""; 0]);
    // a correct directory with a database of another user
    tool(&["chown", "0", shown]);
    std::fs::write(dir.path().join("state.db"), b"").unwrap();
    tool(&["chown", "65534", &format!("{shown}/state.db")]);
    tool(&["chmod", "644", &format!("{shown}/state.db")]);
    let said = web.refuses(&mut ordinary(dir.path(), &[]));
    assert!(said.contains("cannot be written by user 0"), "{said}");
    // the directory of a cache
    tool(&["chown", "65534", shown]);
    let own = tempfile::tempdir().unwrap();
    let mut cache = ordinary(own.path(), &["cache", "--listen", "127.0.0.1:0"]);
    let said = web.refuses(cache.env("BTY_CACHE_DIR", dir.path()));
    assert!(
        said.contains("cannot be written by user 0") && said.contains("BTY_CACHE_DIR"),
        "{said}"
    );
    // a file instead of a directory
    let file = own.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let said = web.refuses(&mut server(&web, &file));
    assert!(said.contains("cannot be used") && said.contains("BTY_PATHS_STATE_DIR"), "{said}");
}

#[test]
fn a_full_or_read_only_disk_is_reported_before_anything_is_written() {
    let web = Web::idle(None, &[]);
    let small = Mount::memory(4 << 20);
    let said = web.refuses(&mut server(&web, &small.path().join("state")));
    assert!(said.contains("has only 4.0 MiB of free space, and needs at least 8.0 MiB"), "{said}");
    assert_eq!(names(small.path()), [""; 0]);
    let fixed = Mount::memory(64 << 20);
    tool(&["mount", "-o", "remount,ro", fixed.path().to_str().unwrap()]);
    for said in [
        web.refuses(&mut server(&web, fixed.path())),
        web.refuses(
            web.command(&["cache", "--listen", "127.0.0.1:0"]).env("BTY_CACHE_DIR", fixed.path()),
        ),
    ] {
        assert!(said.contains("is on a read-only file system; remount it for writing"), "{said}");
    }
}

#[test]
fn a_second_server_with_the_same_state_or_port_is_refused() {
    let web = Web::start();
    let own = tempfile::tempdir().unwrap();
    let mut second = web.command(&[]);
    let said = web.refuses(second.env("BTY_PATHS_STATE_DIR", own.path().join("state")));
    assert!(
        said.contains(
            "stop the program that listens there, or choose another port with BTY_SERVER_PORT"
        ),
        "{said}"
    );
    assert_eq!(names(own.path()), [""; 0]);
    let state = web.state().to_str().unwrap();
    let cache = Web::cache(&[], &[]);
    for said in [
        web.refuses(web.command(&[]).env("BTY_SERVER_PORT", bty_tests::free_port().to_string())),
        web.refuses(&mut web.command(&["cache", "--listen", "127.0.0.1:0", "--data-dir", state])),
        web.refuses(&mut web.command(&[
            "cache",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            cache.state().to_str().unwrap(),
        ])),
        web.refuses(
            web.command(&["cache", "--listen", "127.0.0.1:0"])
                .env("BTY_PATHS_STATE_DIR", own.path())
                .env("BTY_CACHE_DIR", cache.state().join("blobs")),
        ),
    ] {
        assert!(said.contains("another process uses ") && said.contains("; stop it"), "{said}");
    }
    assert_eq!((web.get("/healthz").status, cache.get("/healthz").status), (200, 200));
}

#[test]
fn tftp_without_boot_programs_names_the_directories() {
    let web = Web::idle(None, &[("BTY_BOOT_SEED_DIR", "/nonexistent")]);
    let output = web.command(&["tftp", "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("nothing to serve")
            && said.contains("/nonexistent")
            && said.contains("--root"),
        "{said}"
    );
}
