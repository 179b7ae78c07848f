//! Persistence: crashes, exports and imports, backups, and boot artifacts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bty_tests::server::{Reply, Server};
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};

use super::pxe::{MAC, add_image};

#[test]
fn acknowledged_changes_survive_a_kill_of_the_server() {
    let mut web = Web::start();
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    for round in 0..4 {
        let is_over = Arc::new(AtomicBool::new(false));
        let base = web.base();
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (base, is_over, acknowledged) =
                    (base.clone(), Arc::clone(&is_over), Arc::clone(&acknowledged));
                std::thread::spawn(move || {
                    let client = bty::Client::default();
                    for n in 0.. {
                        let nonce = format!("{round}-{writer}-{n}");
                        let url = format!("{base}/pxe/02000000{round:02}{writer:02}?boot={nonce}");
                        let request = bty::client::Request::get(&url);
                        match client.exchange(&request, &bty::CancelToken::new()) {
                            Ok(reply) if reply.is_success() => {
                                acknowledged.lock().unwrap().push(nonce);
                            }
                            _ => return,
                        }
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                })
            })
            .collect();
        // kill the server while requests are in progress, however slow this machine is
        let wanted = acknowledged.lock().unwrap().len() + 20;
        eventually(LIMIT, "the server acknowledges contacts", || {
            let is_enough = acknowledged.lock().unwrap().len() >= wanted;
            (is_enough || writers.iter().all(std::thread::JoinHandle::is_finished)).then_some(())
        });
        web.kill();
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        web.start_again();
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    // one event per contact, and one per new machine
    let offered = count(&web, "netboot.pxe.offered");
    assert!(offered >= acknowledged.len(), "{offered} events for {} answers", acknowledged.len());
    assert!(
        offered <= acknowledged.len() + 4 * 8,
        "what was not answered is at most one for each writer"
    );
    assert_eq!(
        count(&web, "machine.discovered"),
        web.get("/machines").json().as_array().unwrap().len()
    );
}

fn count(web: &Web, kind: &str) -> usize {
    let (mut total, mut before) = (0, String::new());
    loop {
        let page = web.get(&format!("/events?kind={kind}&limit=500{before}")).expect(200).json();
        let events = page["events"].as_array().unwrap();
        let Some(last) = events.last() else { return total };
        total += events.len();
        before = format!("&before_id={}", last["id"]);
    }
}

#[test]
fn an_export_restores_everything_on_another_server_and_orders_nothing() {
    let web = Web::start();
    let image = add_image(&web);
    web.send(
        "PUT",
        "/plans/mine",
        &json!({ "source": "fn boot(m) { boot_disk() }", "note": "why" }),
    )
    .expect(200);
    web.send(
        "PUT",
        "/settings",
        &json!({ "display.timezone": "Europe/Berlin", "plans.default": "mine" }),
    )
    .expect(200);
    let flash = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
        "labels": ["lab"],
    });
    web.send("PUT", &format!("/machines/{MAC}"), &flash).expect(200);
    web.send("PUT", "/machines/020000000001", &json!({ "boot_mode": "mine" })).expect(200);
    web.send(
        "POST",
        &format!("/pxe/{MAC}/inventory"),
        &json!({
            "disks": [{ "path": "/dev/sda", "serial": "S1" }], "lshw": { "product": "Rack" },
        }),
    )
    .expect(204);
    let dir = tempfile::tempdir().unwrap();
    let output = web.command(&["export", dir.path().to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(": 2 machines"), "{output:?}");

    let mut other = Web::start();
    let refused = other.command(&["import", dir.path().to_str().unwrap()]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("another process uses"),
        "{refused:?}"
    );
    other.end();
    let output = other.command(&["import", dir.path().to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("2 machines, 1 plan, 1 image, 2 settings")
            && said.contains("machines on hold: 1"),
        "{output:?}"
    );
    other.start_again();
    for path in ["/images", "/plans", "/settings"] {
        assert_eq!(other.get(path).json(), web.get(path).json(), "{path}");
    }
    let machine = other.get(&format!("/machines/{MAC}")).json();
    assert_eq!(
        (&machine["labels"], &machine["hardware"]["product"]),
        (&json!(["lab"]), &json!("Rack"))
    );
    assert_eq!(machine["boot_state"], "on hold: it was imported");
    let script = other.get(&format!("/pxe/{MAC}?boot=1")).text();
    assert!(
        script.contains("save its assignment on the server") && !script.contains("kernel"),
        "{script}"
    );
    other.send("PUT", &format!("/machines/{MAC}"), &flash).expect(200);
    assert!(other.get(&format!("/pxe/{MAC}?boot=2")).text().contains("kernel"));
    // over HTTP, into a running server; invalid bundles are refused and change nothing
    let bundle: Value = web.get("/export").expect(200).json();
    let summary = other.send("POST", "/import?armed=true", &bundle).expect(200).json();
    assert_eq!(summary["machines"], 0, "{summary}");
    assert!(summary["skipped"].to_string().contains("it is here already"), "{summary}");
    let summary = other.send("POST", "/import?armed=true&replace=true", &bundle).expect(200).json();
    assert_eq!((&summary["machines"], &summary["held"]), (&json!(2), &json!(0)));
    for bad in [
        json!({}),
        json!({ "bty_export_version": 99 }),
        json!({ "bty_export_version": 4, "machines": 7 }),
        json!([]),
    ] {
        other.send("POST", "/import", &bad).expect(422);
    }
    let third = json!({
        "bty_export_version": 3,
        "machines": [
            {
                "mac": "02-00-00-00-00-07", "known_disks": [{ "path": "/dev/sda" }],
                "hw_lshw": null,
            },
            { "mac": "x" },
        ],
    });
    let summary = other.send("POST", "/import", &third).expect(200).json();
    assert_eq!(
        (&summary["machines"], summary["skipped"].as_array().map(Vec::len)),
        (&json!(1), Some(1))
    );
    assert_eq!(other.get("/machines/020000000007").json()["boot_mode"], "bty-inventory");
}

fn ended(web: &Web, path: &str, list: &str) -> Value {
    eventually(LIMIT, "the job ends", || {
        let job = web.get(path).json()[list][0].clone();
        (!matches!(job["status"].as_str(), Some("queued" | "running"))).then_some(job)
    })
}

#[test]
fn backups_are_made_pruned_and_can_be_imported() {
    let web = Web::start();
    web.send("PUT", &format!("/machines/{MAC}"), &json!({ "labels": ["kept"] })).expect(200);
    web.send("PUT", "/settings", &json!({ "backup.retention_count": 2 })).expect(200);
    std::fs::create_dir(web.state().join("backups/not-ours")).unwrap();
    for _ in 0..3 {
        let job = web
            .send("POST", "/workers/backups", &json!({ "trigger": "manual" }))
            .expect(202)
            .json();
        assert_eq!(job["kind"], "backup");
        assert_eq!(ended(&web, "/workers/backups", "backups")["status"], "completed");
    }
    let on_disk = web.get("/workers/backups").json()["on_disk"].clone();
    assert_eq!(on_disk.as_array().map(Vec::len), Some(2), "{on_disk}");
    assert!(web.state().join("backups/not-ours").is_dir());
    let id = on_disk[0]["id"].as_str().unwrap();
    let bundle =
        std::fs::read(web.state().join("backups").join(id).join("inventory.json")).unwrap();
    let bundle: Value = serde_json::from_slice(&bundle).unwrap();
    assert_eq!(
        (&bundle["machines"][0]["labels"], &bundle["settings"]["backup.retention_count"]),
        (&json!(["kept"]), &json!("2"))
    );
    for name in ["", "inventory.json", "state.db"] {
        let meta = web.state().join("backups").join(id).join(name).metadata().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777;
        assert_eq!(mode, if meta.is_dir() { 0o750 } else { 0o640 }, "{name}");
    }
    let copy = web.state().join("backups").join(id).join("state.db");
    let refused = web.command(&["import", copy.to_str().unwrap()]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("another process uses"),
        "{refused:?}"
    );
    let restored = Web::with_state_of(&copy);
    assert_eq!(restored.get("/machines").json(), web.get("/machines").json());
    assert!(restored.events(MAC).contains(&"machine.created".to_owned()));
    let kinds = web.events(id);
    assert_eq!(kinds, ["backup.create.requested", "backup.create.started", "backup.created"]);
    // a backup that cannot be written
    std::fs::remove_dir_all(web.state().join("backups")).unwrap();
    std::fs::write(web.state().join("backups"), b"").unwrap();
    web.send("POST", "/workers/backups", &json!({})).expect(202);
    let job = ended(&web, "/workers/backups", "backups");
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(web.get("/events?limit=1").json()["events"][0]["kind"], "backup.failed");
    web.send("POST", "/workers/backups", &json!({ "trigger": "whim" })).expect(422);
    web.request("DELETE", "/workers/backups/none", &[], b"").expect(404);
}

fn digest(bytes: &[u8]) -> String {
    bty::Digest::of(bytes).to_string()
}

/// An origin with the artifacts of a release. Its first response for the squashfs breaks off.
fn releases(sums: &str) -> Server {
    let kernel = vec![1_u8; 100_000];
    let initrd = vec![2_u8; 200_000];
    let squashfs: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let name = |part: &str| format!("bty-netboot-pc-x86_64-v1.2.3.{part}");
    let listed = match sums {
        "right" => format!(
            "{} *{}\n{}  {}\n{}  {}\n",
            digest(&kernel),
            name("vmlinuz"),
            digest(&initrd),
            name("initrd"),
            digest(&squashfs),
            name("squashfs")
        ),
        _ => {
            format!(
                "{0}  {1}\n{0}  {2}\n{0}  {3}\n",
                "0".repeat(64),
                name("vmlinuz"),
                name("initrd"),
                name("squashfs")
            )
        }
    };
    Server::start(move |request| {
        let file = request.target.rsplit('/').next().unwrap_or_default();
        match file.rsplit('.').next() {
            _ if !request.target.starts_with("/bty/v1.2.3/") => Reply::status(404),
            Some("vmlinuz") => Reply::file(request, &kernel, "\"k\""),
            Some("initrd") => Reply::file(request, &initrd, "\"i\""),
            Some("squashfs") => Reply::file(request, &squashfs, "\"s\""),
            Some("sha256") => Reply::whole(listed.as_bytes()),
            _ => Reply::status(404),
        }
    })
}

#[test]
fn fetched_artifacts_are_verified_and_booted() {
    let mut web = Web::start();
    let origin = releases("right");
    let repo = format!("http://{}/bty", origin.host());
    web.send("PUT", "/settings", &json!({ "upstream.netboot_repo": repo })).expect(422);
    web.kill();
    let mut web = Web::with(&[("BTY_BOOT_RELEASE_REPO", &repo)]);
    // the fetch resumes from the partial file of an earlier attempt
    let partial: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(
        web.state().join("boot/.bty-netboot-pc-x86_64-v1.2.3.squashfs.partial"),
        partial,
    )
    .unwrap();
    web.send("POST", "/boot/releases", &json!({ "tag": "v1.2.3" })).expect(202);
    let job = ended(&web, "/boot/releases", "fetches");
    assert_eq!(job["status"], "completed", "{job}");
    let releases_now = web.get("/boot/releases").json();
    assert_eq!(releases_now["version"], "1.2.3");
    assert!(
        releases_now["artifacts"].as_array().unwrap().iter().all(|a| a["is_present"] == true),
        "{releases_now}"
    );
    let read: usize = origin
        .requests()
        .iter()
        .filter(|r| r.target.ends_with("squashfs"))
        .filter_map(|r| r.range(3_000_000))
        .map(|(from, to)| to - from)
        .sum();
    assert!((2_000_000..2_100_000).contains(&read), "{read} bytes were read of the rest");
    assert!(
        web.get(&format!("/pxe/{MAC}?boot=1"))
            .text()
            .contains("/boot/bty-netboot-pc-x86_64-v1.2.3.vmlinuz")
    );
    web.restart();
    web.send("POST", "/boot/releases", &json!({ "tag": "v1.2.3" })).expect(202);
    assert_eq!(
        ended(&web, "/boot/releases", "fetches")["status"],
        "completed",
        "it can be fetched again"
    );
    web.send("POST", "/boot/releases", &json!({ "tag": "v9" })).expect(202);
    let job = ended(&web, "/boot/releases", "fetches");
    assert_eq!((&job["key"], &job["status"]), (&json!("v9"), &json!("failed")));
    assert!(job["error"].as_str().unwrap().contains("404"), "{job}");
    for tag in ["", "../x", "a/b", "-"] {
        let answer = web.send("POST", "/boot/releases", &json!({ "tag": tag }));
        assert!(
            answer.status == 422 || (tag == "-" && answer.status == 202),
            "{tag}: {}",
            answer.text()
        );
    }
}

#[test]
fn a_cancelled_fetch_ends_and_is_recorded() {
    let origin = Server::start(|_| Reply::raw(b"").stall_after(0));
    let repo = format!("http://{}/bty", origin.host());
    let web = Web::with(&[("BTY_BOOT_RELEASE_REPO", &repo)]);
    for tag in ["v1", "v2"] {
        web.send("POST", "/boot/releases", &json!({ "tag": tag })).expect(202);
    }
    // the second fetch is still queued
    web.request("DELETE", "/boot/releases/v2", &[], b"").expect(200);
    web.request("DELETE", "/boot/releases/v1", &[], b"").expect(200);
    let mut last = Value::Null;
    eventually(LIMIT, "both fetches are cancelled", || {
        let jobs = web.get("/boot/releases").json()["fetches"].clone();
        if jobs.as_array().unwrap().iter().all(|job| job["status"] == "cancelled") {
            return Some(());
        }
        if last != jobs {
            eprintln!("{jobs}");
            last = jobs;
        }
        None
    });
    let kinds = web.events("v1");
    assert_eq!(
        kinds.last().map(String::as_str),
        Some("netboot.artifacts.fetch.cancelled"),
        "{kinds:?}"
    );
}

#[test]
fn artifacts_with_a_wrong_digest_are_discarded() {
    let origin = releases("wrong");
    let repo = format!("http://{}/bty", origin.host());
    let web = Web::with(&[("BTY_BOOT_RELEASE_REPO", &repo)]);
    web.send("POST", "/boot/releases", &json!({ "tag": "v1.2.3" })).expect(202);
    let job = ended(&web, "/boot/releases", "fetches");
    assert_eq!(job["status"], "failed");
    assert!(job["error"].as_str().unwrap().contains("it was discarded"), "{job}");
    assert_eq!(std::fs::read_dir(web.state().join("boot")).unwrap().count(), 0);
    assert_eq!(
        web.events("v1.2.3").last().map(String::as_str),
        Some("netboot.artifacts.fetch.failed")
    );
}

#[test]
fn versions_of_the_live_environment_are_listed_verified_and_pinned_to_machines() {
    let seed = tempfile::tempdir().unwrap();
    let web = Web::with(&[("BTY_BOOT_SEED_DIR", seed.path().to_str().unwrap())]);
    let put = |version: &str, part: &str, bytes: &[u8]| {
        let name = format!("bty-netboot-pc-x86_64-v{version}.{part}");
        web.request("PUT", &format!("/boot/{name}"), &[], bytes).expect(200);
        format!("{}  {name}\n", bty::Digest::of(bytes))
    };
    let own = env!("CARGO_PKG_VERSION");
    let listed = web.get("/boot/releases").expect(200).json();
    assert!(listed["mismatch"].as_str().unwrap().contains(&format!("v{own}.vmlinuz")), "{listed}");
    let sums: String = ["vmlinuz", "initrd", "squashfs"]
        .iter()
        .map(|part| put(own, part, part.as_bytes()))
        .collect();
    let _ = put(own, "sha256", sums.as_bytes());
    let listed = web.get("/boot/releases").expect(200).json();
    assert_eq!(
        (&listed["mismatch"], &listed["versions"][0]["version"]),
        (&json!(null), &json!(own))
    );
    assert_eq!(
        listed["versions"][0]["files"][2]["sha256"],
        bty::Digest::of(b"squashfs").to_string()
    );
    let verified = web.get(&format!("/boot/releases/{own}/verify")).expect(200).json();
    assert_eq!((&verified["is_right"], &verified["wrong"]), (&json!(true), &json!([])));
    // the program also brings another version, with files missing
    std::fs::write(seed.path().join("bty-netboot-pc-x86_64-v9.9.initrd"), "initrd").unwrap();
    assert_eq!(web.get("/boot/bty-netboot-pc-x86_64-v9.9.initrd").expect(200).text(), "initrd");
    let machine = "/machines/525400123456";
    let refused = web
        .send("PUT", machine, &json!({ "boot_mode": "bty-inventory", "netboot_version": "9.9" }))
        .expect(422);
    assert!(refused.text().contains("are missing"), "{}", refused.text());
    assert_eq!(web.send("PUT", machine, &json!({ "netboot_version": "../x" })).status, 422);
    let verified = web.get("/boot/releases/9.9/verify").expect(200).json();
    assert_eq!(
        verified["wrong"].as_array().unwrap().len(),
        2,
        "no vmlinuz, and no digest: {verified}"
    );
    // the full environment is optional, so the vmlinuz completes the version
    let _ = put("9.9", "vmlinuz", b"vmlinuz");
    let bound = web
        .send("PUT", machine, &json!({ "boot_mode": "bty-inventory", "netboot_version": "9.9" }))
        .expect(200)
        .json();
    assert_eq!(bound["netboot_version"], "9.9");
    let script = web.get("/pxe/52-54-00-12-34-56").text();
    assert!(script.contains("v9.9.vmlinuz") && !script.contains(&format!("v{own}.")), "{script}");
    assert!(
        web.get("/pxe/52-54-00-12-34-57").text().contains(&format!("v{own}.vmlinuz")),
        "others boot the server's"
    );
    // a damaged file, and a version that differs from that of the server
    let _ = put(own, "initrd", b"damaged");
    let verified = web.get(&format!("/boot/releases/{own}/verify")).expect(200).json();
    assert!(
        verified["wrong"][0].as_str().unwrap().contains("initrd has the SHA-256"),
        "{verified}"
    );
    web.send("PUT", "/settings", &json!({ "netboot.version": "9.9" })).expect(200);
    let health = web.get("/netboot/health").expect(200).json();
    assert!(health["mismatch"].as_str().unwrap().contains("version 9.9"), "{health}");
    assert_eq!(web.get("/boot/releases/7/verify").status, 404);
    assert_eq!(web.get("/boot/releases/..%2fx/verify").status, 400);
}
