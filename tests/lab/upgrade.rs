//! Upgrades of a site with a fake podman, and the way back.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::fake::{EARLIER_UID, Host, UID, of_earlier_version, owner};

/// A host with a site of the earlier version, and the path of its `state.db`.
fn earlier_site() -> (Host, PathBuf) {
    let host = Host::new();
    let _ = host.earlier_lab(&["deploy", "site"]).expect(0);
    let state = host.path("site/data/bty/state.db");
    std::fs::write(&state, "of before").unwrap();
    (host, state)
}

/// The names of the backups, the oldest first.
fn backups(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.path("site/backups")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_upgrade_and_the_way_back_hand_the_data_over_while_nothing_runs() {
    let (host, state) = earlier_site();
    of_earlier_version(&host);
    let _ = host.lab(&["upgrade", "site"]).expect(0);
    assert_eq!(owner(&state), (UID, UID));
    let [name] = backups(&host).try_into().unwrap();
    let backup = host.path("site/backups").join(name);
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
fn the_same_version_again_changes_nothing_and_keeps_the_way_back() {
    let (host, state) = earlier_site();
    let _ = host.lab(&["upgrade", "site"]).expect(0);
    let (kept, calls) = (backups(&host), host.calls());
    for _ in 0..2 {
        let again = host.lab(&["upgrade", "site"]).expect(0);
        assert!(again.stdout.contains("is running already, so nothing was changed"), "{again:?}");
    }
    assert_eq!((backups(&host), host.calls()), (kept, calls));
    let _ = host.lab(&["upgrade", "site", "--back"]).expect(0);
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "of before");
    let no_further = host.lab(&["upgrade", "site", "--back"]).expect(1);
    assert!(no_further.stderr.contains("no backup of another version"), "{no_further:?}");
}

#[test]
fn an_earlier_program_replaces_a_later_version_only_if_it_is_told_to() {
    let host = Host::new();
    let _ = host.lab(&["deploy", "site"]).expect(0);
    let calls = host.calls();
    let refused = host.earlier_lab(&["upgrade", "site"]).expect(1);
    assert!(refused.stderr.contains("is later than this bty-lab (0.0.0)"), "{refused:?}");
    assert!(refused.stderr.contains("--allow-downgrade keeps the data"), "{refused:?}");
    assert_eq!(host.calls(), calls);
    let _ = host.earlier_lab(&["upgrade", "site", "--allow-downgrade"]).expect(0);
}

#[test]
fn only_the_newest_backups_are_kept() {
    let (host, state) = earlier_site();
    let dir = host.path("site/backups");
    let record = std::fs::read_to_string(host.path("site/site.json")).unwrap();
    for day in 1..=7 {
        let backup = dir.join(format!("2026-01-0{day}T00-00-00Z"));
        std::fs::create_dir_all(&backup).unwrap();
        std::fs::write(backup.join("site.json"), &record).unwrap();
    }
    std::fs::create_dir(dir.join("2026-01-08T00-00-00Z.part")).unwrap();
    let _ = host.lab(&["upgrade", "site"]).expect(0);
    let kept = backups(&host);
    assert_eq!(kept.len(), 5, "{kept:?}");
    assert_eq!(kept[0], "2026-01-04T00-00-00Z");
    let _ = host.lab(&["upgrade", "site", "--back"]).expect(0);
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "of before", "of the newest one");
}

#[test]
fn a_site_without_room_for_its_backup_goes_on_running() {
    let (host, state) = earlier_site();
    let file = std::fs::File::options().write(true).open(&state).unwrap();
    file.set_len(1 << 43).unwrap();
    let calls = host.calls();
    let refused = host.lab(&["upgrade", "site"]).expect(1);
    assert!(
        refused.stderr.contains("of free space, and the backup of the data needs"),
        "{refused:?}"
    );
    let stopped = host.calls()[calls.len()..].lines().any(|call| call.starts_with("podman rm"));
    assert!(!stopped && backups(&host).is_empty(), "{}", host.calls());
}

#[test]
fn no_state_is_touched_while_a_service_cannot_be_stopped() {
    let (host, state) = earlier_site();
    host.put("fails", "rm the container cannot be stopped\n");
    let refused = host.lab(&["upgrade", "site"]).expect(1);
    assert!(
        refused.stderr.contains("cannot be stopped; the data is unchanged"),
        "{}",
        refused.stderr
    );
    assert!(backups(&host).is_empty());
    std::fs::remove_file(host.path("fails")).unwrap();
    let _ = host.lab(&["upgrade", "site"]).expect(0);
    std::fs::write(&state, "of now").unwrap();
    host.put("fails", "rm the container cannot be stopped\n");
    let _ = host.lab(&["upgrade", "site", "--back"]).expect(1);
    assert_eq!(std::fs::read_to_string(&state).unwrap(), "of now");
}
