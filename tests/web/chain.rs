//! From a catalog entry to the bytes on a disk: the real server, the real `bty`, and a file for a
//! disk.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use bty_tests::command::{Outcome, bty_command};
use bty_tests::images::{filter, gpt_image, write};
use bty_tests::server::{Reply, Server};
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::json;

use super::pxe::{MAC, token};

const MIB: usize = 1 << 20;
const SERIAL: &str = "FILE-1";

/// A server with an image, and a machine with a disk full of old data.
struct Lab {
    web: Web,
    origin: Server,
    /// Transfers of the origin wait while a test holds this lock.
    transfers: Arc<Mutex<()>>,
    content: Vec<u8>,
    image_ref: String,
    dir: tempfile::TempDir,
    boots: u32,
}

impl Lab {
    fn new() -> Self {
        let content = gpt_image(8 * MIB, 512);
        let compressed = filter(&["zstd", "-q3c"], &content);
        let sha256 = bty::Digest::of(&compressed).to_string();
        let served = compressed.clone();
        let transfers: Arc<Mutex<()>> = Arc::default();
        let turn = Arc::clone(&transfers);
        let origin = Server::start(move |request| {
            let _turn =
                (!request.is_probe()).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
            Reply::file(request, &served, "\"1\"")
        });
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "disk.img", &vec![0xA5; 32 * MIB]);
        let web = Web::start();
        let text = format!(
            "version = 1\n[[images]]\nname = \"debian\"\nsrc = \"http://{}/debian.img.zst\"\n\
             sha256 = \"{sha256}\"\n",
            origin.host()
        );
        let catalog = write(dir.path(), "catalog.toml", text.as_bytes());
        web.request("POST", &format!("/catalog/import?source={}", catalog.display()), &[], b"")
            .expect(200);
        let image_ref = web.get("/images").json()[0]["ref"].as_str().unwrap().to_owned();
        Self { web, origin, transfers, content, image_ref, dir, boots: 0 }
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    fn bind(&self, plan: &str) {
        let binding = json!({
            "boot_mode": plan, "bty_image_ref": self.image_ref, "target_disk_serial": SERIAL,
        });
        self.web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    }

    /// Boots from the network and returns the iPXE script. Restarts the server before and after.
    fn boot(&mut self) -> String {
        self.boots += 1;
        self.web.restart();
        let script = self
            .web
            .get(&format!("/pxe/52-54-00-12-34-56?boot=b{}", self.boots))
            .expect(200)
            .text();
        self.web.restart();
        script
    }

    /// Runs `bty` as the live environment does.
    fn live(&self, token: &str) -> Outcome {
        let disk = format!("{}={SERIAL}", self.disk().display());
        let base = self.web.base();
        let arguments = [
            "--server",
            &base,
            "--mac",
            MAC,
            "--no-reboot",
            "--disk-file",
            &disk,
            "--cycle",
            token,
        ];
        bty_command(&arguments).output().unwrap().into()
    }

    /// Like [`live`](Self::live), but must succeed.
    fn live_well(&self, token: &str) {
        let run = self.live(token).expect(0);
        assert!(run.stderr.contains("bty: exiting"), "{}", run.stderr);
    }

    fn is_flashed(&self) -> bool {
        let disk = std::fs::read(self.disk()).unwrap();
        disk[..8 * MIB] == self.content
    }

    fn spoil(&self) {
        std::fs::write(self.disk(), vec![0xA5; 32 * MIB]).unwrap();
    }

    fn state(&self) -> String {
        self.web.get(&format!("/machines/{MAC}")).json()["boot_state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn flash_once_through_restarts_of_the_server_at_every_step() {
    let mut lab = Lab::new();
    lab.bind("bty-flash-once");
    lab.web.restart();
    let script = lab.boot();
    lab.web.restart();
    assert_eq!(
        lab.web.get(&format!("/pxe/{MAC}?boot=b1")).text(),
        script,
        "a repeated contact, also after a restart"
    );
    let run = lab.live(&token(&script)).expect(0);
    assert!(run.stderr.contains("flash complete; rebooting"), "{}", run.stderr);
    assert!(lab.is_flashed());
    lab.web.restart();
    assert_eq!(lab.state(), "flashed; booting disk");
    let kinds = lab.web.events(MAC);
    let wanted = [
        "machine.created",
        "netboot.pxe.offered",
        "machine.inventory",
        "netboot.pxe.plan",
        "machine.flashed",
    ];
    // the inventory and the request for the plan are concurrent, so their order varies
    assert!(
        kinds.len() == 5 && wanted.iter().all(|kind| kinds.iter().any(|k| k == kind)),
        "{kinds:?}"
    );
    let machine = lab.web.get(&format!("/machines/{MAC}")).json();
    assert_eq!(machine["known_disks"][0]["serial"], SERIAL);
    assert_eq!(
        machine["last_flashed_sha256"],
        lab.web.get("/catalog/entries").json()[0]["disk_image_sha"]
    );
    for _ in 0..2 {
        assert!(lab.boot().contains("sanboot"));
        lab.web.restart();
    }
}

#[test]
fn flash_always_alternates_and_a_dead_origin_is_a_failure_that_is_offered_again() {
    let mut lab = Lab::new();
    lab.bind("bty-flash-always");
    for _ in 0..2 {
        lab.spoil();
        let script = lab.boot();
        lab.live_well(&token(&script));
        assert!(lab.is_flashed());
        assert!(lab.boot().contains("sanboot"));
    }
    // the image does not match the catalog: the disk must not boot
    lab.spoil();
    let text = format!(
        "version = 1\n[[images]]\nname = \"debian\"\nsrc = \"http://{}/debian.img.zst\"\n\
         sha256 = \"{}\"\n",
        lab.origin.host(),
        "0".repeat(64)
    );
    let catalog = write(lab.dir.path(), "catalog.toml", text.as_bytes());
    lab.web
        .request("POST", &format!("/catalog/import?source={}", catalog.display()), &[], b"")
        .expect(200);
    let script = lab.boot();
    let failed = lab.live(&token(&script));
    assert_ne!(failed.code, 0, "{}", failed.stderr);
    assert_eq!(std::fs::read(lab.disk()).unwrap()[..512], [0; 512], "it does not boot");
    assert_eq!(lab.state(), "flash failed");
    assert!(lab.boot().contains("kernel "), "it is offered again");
}

#[test]
fn a_report_is_repeated_until_a_restarted_server_accepts_it() {
    let mut lab = Lab::new();
    lab.bind("bty-flash-once");
    let token = token(&lab.boot());
    let disk = format!("{}={SERIAL}", lab.disk().display());
    let base = lab.web.base();
    let arguments =
        ["--server", &base, "--mac", MAC, "--no-reboot", "--disk-file", &disk, "--cycle", &token];
    let transfers = Arc::clone(&lab.transfers);
    let held = transfers.lock().unwrap();
    let mut machine = bty_command(&arguments).stdout(Stdio::null()).spawn().unwrap();
    let wanted = ["machine.inventory", "netboot.pxe.plan"];
    eventually(LIMIT, "the machine gets its plan", || {
        let kinds = lab.web.events(MAC);
        wanted.iter().all(|wanted| kinds.iter().any(|kind| kind == wanted)).then_some(())
    });
    lab.web.kill();
    drop(held);
    let mut lines = BufReader::new(machine.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said: Vec<String> = Vec::new();
    let is_missed = |line: &String| line.contains("/status") && line.contains("retrying");
    while !said.last().is_some_and(is_missed) {
        said.push(lines.next().unwrap_or_else(|| panic!("it does not report: {said:#?}")));
    }
    lab.web.start_again();
    said.extend(lines);
    assert_eq!(machine.wait().unwrap().code(), Some(0), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("flash complete")), "{said:#?}");
    assert!(lab.is_flashed());
    let kinds = lab.web.events(MAC);
    assert_eq!(kinds.iter().filter(|kind| *kind == "machine.flashed").count(), 1, "{kinds:?}");
    assert!(lab.boot().contains("sanboot"));
}

#[test]
fn an_inventory_is_taken_and_then_the_disk_is_booted() {
    let mut lab = Lab::new();
    lab.bind("bty-inventory");
    let script = lab.boot();
    let run = lab.live(&token(&script)).expect(0);
    assert!(run.stderr.contains("Plan: inventory + reboot"), "{}", run.stderr);
    assert_eq!(lab.state(), "inventoried; booting disk");
    assert!(lab.boot().contains("sanboot") && lab.boot().contains("kernel "));
    assert_eq!(std::fs::read(lab.disk()).unwrap()[0], 0xA5, "nothing was written");
}

#[test]
fn the_wizard_plan_asks_a_person_and_leaves_the_disk_alone() {
    let mut lab = Lab::new();
    lab.bind("bty-tui");
    let script = lab.boot();
    let run = lab.live(&token(&script));
    assert!(run.stderr.contains("Plan: interactive"), "{}", run.stderr);
    lab.bind("ipxe-exit");
    assert!(lab.boot().contains("sanboot"));
    let run = lab.live("made-up");
    assert!(run.stderr.contains("Plan: interactive"), "a token that nobody gave: {}", run.stderr);
    assert_eq!(std::fs::read(lab.disk()).unwrap()[0], 0xA5, "nothing was written");
}

#[test]
fn the_other_bundled_plans_flash_as_documented() {
    let mut lab = Lab::new();
    let bind = |lab: &Lab, plan: &str, params: serde_json::Value, labels: &[&str]| {
        let binding = json!({
            "boot_mode": plan, "bty_image_ref": lab.image_ref, "target_disk_serial": SERIAL,
            "params": params, "labels": labels,
        });
        lab.web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
        lab.spoil();
    };
    let all_day = json!({ "from_hour": 0, "to_hour": 23 });
    let another_hour = hour_of_the_server();
    for (plan, params) in [
        ("bty-flash-changed", json!({})),
        ("bty-rollout", json!({ "label": "web", "percent": 100 })),
        (
            "bty-window",
            if another_hour == 23 { json!({ "from_hour": 23, "to_hour": 1 }) } else { all_day },
        ),
    ] {
        bind(&lab, plan, params, &["web"]);
        if plan == "bty-flash-changed" {
            assert!(lab.boot().contains("kernel "), "never flashed");
        }
        let script = lab.boot();
        lab.live_well(&token(&script));
        assert!(lab.is_flashed(), "{plan}");
        assert!(lab.boot().contains("sanboot"), "{plan}");
        // forget the flash: with `bty-flash-changed`, a flashed machine would not flash again
        lab.web.request("DELETE", &format!("/machines/{MAC}"), &[], b"").expect(204);
    }
    bind(&lab, "bty-flash-by-hardware", json!({ "image": "debian" }), &[]);
    let script = lab.boot();
    lab.live_well(&token(&script));
    // the inventory and the request for the plan are concurrent: if the request comes first, the
    // machine only sends its inventory, and flashes at the next boot
    if !lab.is_flashed() {
        let script = lab.boot();
        lab.live_well(&token(&script));
    }
    assert!(lab.is_flashed());
    assert!(lab.boot().contains("sanboot"));
}

/// The current hour in UTC, the time zone of the server.
fn hour_of_the_server() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() / 3600 % 24
}

#[test]
fn a_client_started_by_hand_gets_the_order_of_its_plan() {
    let lab = Lab::new();
    lab.bind("bty-flash-once");
    let disk = format!("{}={SERIAL}", lab.disk().display());
    let base = lab.web.base();
    let run = |_| -> Outcome {
        bty_command(&["--server", &base, "--mac", MAC, "--no-reboot", "--disk-file", &disk])
            .output()
            .unwrap()
            .into()
    };
    let first = run(1).expect(0);
    assert!(lab.is_flashed(), "{}", first.stderr);
    lab.spoil();
    let again = run(2).expect(0);
    assert!(again.stderr.contains("Plan: nothing to do"), "{}", again.stderr);
    assert!(!lab.is_flashed());
}
