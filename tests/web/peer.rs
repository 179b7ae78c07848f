//! The client of the reference system with this server, and an import of its database: `make
//! test-reference`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use bty_tests::command::write_program;
use bty_tests::images::{filter, gpt_image, write};
use bty_tests::loops::LoopDisk;
use bty_tests::reference::Reference;
use bty_tests::server::{Reply, Server};
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::json;

use super::pxe::{MAC, token};

const MIB: usize = 1 << 20;

/// The virtual environment with the reference system; none unless `make test-reference` runs.
fn venv() -> Option<PathBuf> {
    let venv = std::env::var_os("BTY_TEST_REFERENCE").map(PathBuf::from);
    if venv.is_none() {
        eprintln!("skipped: make test-reference runs it");
    }
    venv
}

fn tool(dir: &Path, name: &str, text: &str) {
    write_program(&dir.join(name), text);
}

/// Writes fake tools to `dir`: `lsblk` reports a serial number for the loop device `device`;
/// `systemctl` and the tools of udev do nothing.
fn tools(dir: &Path, device: &str) {
    for name in ["systemctl", "partprobe", "udevadm"] {
        tool(dir, name, "#!/bin/sh\nexit 0\n");
    }
    let lsblk = format!(
        "#!/usr/bin/env python3\nimport json, subprocess, sys\n\
         raw = subprocess.run(['/usr/bin/lsblk', *sys.argv[1:]], capture_output=True, text=True)\n\
         try:\n    found = json.loads(raw.stdout)\n\
         except ValueError:\n    print(raw.stdout, end='')\n    sys.exit(raw.returncode)\n\
         for disk in found['blockdevices']:\n    if disk.get('path') == '{device}':\n        \
         disk.update(serial='FILE-1', type='disk')\n\
         print(json.dumps(found))\nsys.exit(raw.returncode)\n"
    );
    tool(dir, "lsblk", &lsblk);
}

#[test]
fn clients_of_the_reference_cache_host_are_served_by_this_one() {
    let Some(venv) = venv() else { return };
    let content = bty_tests::pattern(3 * MIB);
    let served = content.clone();
    let origin = Server::start(move |request| Reply::file(request, &served, "\"1\""));
    let cache = Web::cache(&[], &[]);
    let origin_url = format!("http://{}/a b.img", origin.host()).replace(' ', "%20");
    // the library: a miss starts a fetch; then the cache serves the object, and its digest once the
    // fetch is complete
    let script = format!(
        "import time\nfrom withcache import client\nimport urllib.request, hashlib\n\
         cache, origin = '{}', '{origin_url}'\n\
         assert client.serve_url(cache, origin) is None\n\
         while client.serve_url(cache, origin) is None: time.sleep(0.01)\n\
         url = client.serve_url(cache, origin)\n\
         bytes = urllib.request.urlopen(url).read()\n\
         while not (sha256 := urllib.request.urlopen(url).headers['X-Withcache-Sha256']): \
         time.sleep(0.01)\n\
         assert sha256 == hashlib.sha256(bytes).hexdigest()\nprint(len(bytes))\n",
        cache.base()
    );
    let python = Command::new(venv.join("bin/python3")).args(["-c", &script]).output().unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), content.len().to_string());
    // the replacement for curl
    let out = tempfile::NamedTempFile::new().unwrap();
    let curl = Command::new(venv.join("bin/curlwithcache"))
        .env("WITHCACHE_SERVER", cache.base())
        .args(["-sS", "-o", out.path().to_str().unwrap(), &origin_url])
        .output()
        .unwrap();
    assert!(curl.status.success(), "{curl:?}");
    assert!(std::fs::read(out.path()).unwrap() == content);
    let transfers = origin.requests().iter().filter(|request| !request.is_probe()).count();
    assert_eq!(transfers, 1, "both came from the cache");
}

#[test]
fn the_reference_client_is_flashed_by_this_server() {
    let Some(venv) = venv() else { return };
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let content = gpt_image(8 * MIB, 512);
    let compressed = filter(&["zstd", "-q3c"], &content);
    let sha256 = bty::Digest::of(&compressed).to_string();
    let origin = Server::start(move |request| Reply::file(request, &compressed, "\"1\""));
    let web = Web::start();
    let dir = tempfile::tempdir().unwrap();
    tools(dir.path(), disk.path());
    let text = format!(
        "version = 1\n[[images]]\nname = \"debian\"\nsrc = \"http://{}/debian.img.zst\"\n\
         sha256 = \"{sha256}\"\n",
        origin.host()
    );
    let catalog = write(dir.path(), "catalog.toml", text.as_bytes());
    web.request("POST", &format!("/catalog/import?source={}", catalog.display()), &[], b"")
        .expect(200);
    let image = web.get("/images").json()[0]["ref"].clone();
    let binding = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "FILE-1",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    // the client does not use the token of the boot cycle
    assert!(!token(&web.get(&format!("/pxe/{MAC}?boot=1")).text()).is_empty());
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut client = Command::new(venv.join("bin/bty"))
        .args(["--server", &web.base(), "--mac", MAC])
        .env("PATH", path)
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(dir.path().join("said")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    // ends at the limit too, because the code below shows the output of a failed client
    eventually(LIMIT, "the machine is flashed", || {
        (web.events(MAC).contains(&"machine.flashed".to_owned()) || begun.elapsed() >= LIMIT)
            .then_some(())
    });
    let kinds = web.events(MAC);
    let _ = client.kill();
    let _ = client.wait();
    let failed = std::fs::read_to_string(dir.path().join("said")).unwrap();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "machine.flashed").count(),
        1,
        "it tells its end twice: {kinds:?}\n{failed}"
    );
    assert!(kinds.contains(&"machine.inventory".to_owned()), "{kinds:?}");
    assert!(disk.content()[..8 * MIB] == content, "the disk does not hold the image");
    assert!(web.get(&format!("/pxe/{MAC}?boot=2")).text().contains("sanboot"));
}

#[test]
fn a_reference_server_is_moved_over_in_one_command() {
    let Some(reference) = Reference::start() else { return };
    let entry = reference.send(
        "POST",
        "/catalog/entries",
        &json!({ "image_url": "http://127.0.0.1:9/a.img.gz" }),
    );
    let image = entry["bty_image_ref"].clone();
    let bind = |mac: &str, fields: serde_json::Value| {
        let _ = reference.get(&format!("/pxe/{mac}/plan"));
        let bound = reference.send("PUT", &format!("/machines/{mac}"), &fields);
        assert_eq!(bound["mac"], mac, "{bound}");
    };
    bind(
        "52:54:00:00:00:01",
        json!({
            "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
            "labels": ["rack 1", "lab"],
        }),
    );
    bind(
        "52:54:00:00:00:02",
        json!({
            "boot_mode": "bty-flash-always", "bty_image_ref": image, "target_disk_serial": "S2",
            "sanboot_drive": "0x81",
        }),
    );
    bind("52:54:00:00:00:03", json!({ "boot_mode": "bty-inventory" }));
    // the second machine has flashed and boots from its disk next
    let _ = reference.get("/boot/none?mac=52:54:00:00:00:02");
    let _ = reference.send("POST", "/pxe/52:54:00:00:00:02/status", &json!({ "status": "done" }));
    let inventory = json!({
        "disks": [{ "path": "/dev/sda", "serial": "S3", "size": "20G" }],
        "lshw": { "product": "Rack 9" },
    });
    let _ = reference.send("POST", "/pxe/52:54:00:00:00:03/inventory", &inventory);
    let events = reference.get("/events?limit=500")["events"].as_array().map(Vec::len).unwrap();
    let machines = reference.get("/machines");

    let mut web = Web::start();
    web.end();
    let output = web.command(&["import", reference.database().to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("3 machines")
            && said.contains("1 image,")
            && said.contains(&format!("{events} events")),
        "{output:?}"
    );
    web.start_again();
    let moved = web.get("/machines").json();
    for (ours, theirs) in moved.as_array().unwrap().iter().zip(machines.as_array().unwrap()) {
        for field in [
            "mac",
            "boot_mode",
            "bty_image_ref",
            "target_disk_serial",
            "sanboot_drive",
            "labels",
            "last_seen_ip",
        ] {
            assert_eq!(ours[field], theirs[field], "{field} of {}", theirs["mac"]);
        }
    }
    assert_eq!(moved[2]["hardware"]["product"], "Rack 9");
    assert_eq!(web.get("/catalog/entries").json()[0]["bty_image_ref"], image);
    assert!(
        web.get("/pxe/52:54:00:00:00:01?boot=1").text().contains("kernel "),
        "it is still to be flashed"
    );
    let theirs = reference.get("/machines/52:54:00:00:00:02");
    assert!(theirs["last_flashed_at"].is_string(), "{theirs}");
    assert_eq!(
        moved[1]["last_flashed_at"].as_str().map(|at| &at[..19]),
        theirs["last_flashed_at"].as_str().map(|at| &at[..19])
    );
}
