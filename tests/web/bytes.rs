//! Delivery of images to machines: from a cache host if there is one, else from the origin.

use std::path::PathBuf;
use std::time::Duration;

use bty::Digest;
use bty_tests::command::{Outcome, bty_command};
use bty_tests::images::{filter, gpt_image, write};
use bty_tests::nginx::Nginx;
use bty_tests::registry::Registry;
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually, free_port};
use serde_json::{Value, json};

use super::pxe::token;
use crate::sources::oci::{IMAGE, layer, push};

const MIB: usize = 1 << 20;

/// A compressed image, and its content.
fn image() -> (Vec<u8>, Vec<u8>) {
    let content = gpt_image(8 * MIB, 512);
    (filter(&["zstd", "-q3c"], &content), content)
}

/// A server with a catalog, and a directory with the disks of machines.
struct Site {
    web: Web,
    dir: tempfile::TempDir,
    content: Vec<u8>,
}

impl Site {
    /// A site whose catalog has one image, at `src`.
    fn new(src: &str, sha256: Option<&str>, content: Vec<u8>, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let all = [("BTY_NETWORK_PLAIN_HTTP", "1")];
        let web = Web::with(&[&all, env].concat());
        let sha256 = sha256.map_or_else(String::new, |sha256| format!("sha256 = \"{sha256}\"\n"));
        let text = format!("version = 1\n[[images]]\nname = \"debian\"\nsrc = \"{src}\"\n{sha256}");
        let catalog = write(dir.path(), "catalog.toml", text.as_bytes());
        web.request("POST", &format!("/catalog/import?source={}", catalog.display()), &[], b"")
            .expect(200);
        Self { web, dir, content }
    }

    fn disk(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("disk{number}.img"))
    }

    /// Assigns the image to machine `number` and boots it. Returns its MAC address and the token of
    /// its boot cycle.
    fn boot(&self, number: usize) -> (String, String) {
        let mac = format!("52:54:00:00:00:{number:02x}");
        write(self.dir.path(), &format!("disk{number}.img"), &vec![0xA5; 16 * MIB]);
        let image = self.web.get("/images").json()[0]["ref"].clone();
        let binding = json!({
            "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
        });
        self.web.send("PUT", &format!("/machines/{mac}"), &binding).expect(200);
        let script =
            self.web.get(&format!("/pxe/{}?boot=b", mac.replace(':', "-"))).expect(200).text();
        (mac, token(&script))
    }

    /// Boots machine `number` and runs `bty` as its live environment does.
    fn flash(&self, number: usize) -> Outcome {
        let (mac, token) = self.boot(number);
        let disk = format!("{}=S1", self.disk(number).display());
        let base = self.web.base();
        bty_command(&[
            "--server",
            &base,
            "--mac",
            &mac,
            "--no-reboot",
            "--disk-file",
            &disk,
            "--cycle",
            &token,
        ])
        .output()
        .unwrap()
        .into()
    }

    fn flash_well(&self, number: usize) {
        let run = self.flash(number).expect(0);
        let disk = std::fs::read(self.disk(number)).unwrap();
        assert!(disk[..8 * MIB] == self.content, "{}", run.stderr);
    }

    /// The server's decision where machine `number` gets its image from, and the URL in its plan.
    fn decision(&self, number: usize) -> (Value, String) {
        let mac = format!("52:54:00:00:00:{number:02x}");
        let listed = self
            .web
            .get(&format!("/events?subject_id={mac}&q=netboot.pxe.plan"))
            .expect(200)
            .json();
        let plan = listed["events"]
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["kind"] == "netboot.pxe.plan")
            .unwrap()
            .clone();
        (
            plan["details"]["withcache"].clone(),
            plan["details"]["image"].as_str().unwrap_or_default().to_owned(),
        )
    }
}

#[test]
fn three_machines_are_flashed_from_one_pull_and_the_third_without_the_registry() {
    let mut registry = Registry::start();
    let (packed, content) = image();
    push(&registry, "team/images:v1", &[layer(IMAGE, "debian.img.zst", &packed)]);
    let hex = Digest::of(&packed).to_string();
    let cache = Web::cache(&[], &[("BTY_NETWORK_PLAIN_HTTP", "1")]);
    let src = format!("oras://{}/team/images:v1", registry.host());
    let site = Site::new(&src, None, content, &[("BTY_WITHCACHE_URL", &cache.base())]);
    std::thread::scope(|scope| {
        for number in [1, 2] {
            let site = &site;
            scope.spawn(move || site.flash_well(number));
        }
    });
    assert_eq!(registry.pulls(&hex), 1, "one pull for both");
    registry.end();
    site.flash_well(3);
    assert_eq!(registry.pulls(&hex), 1);
    let (decision, address) = site.decision(3);
    assert_eq!(
        (&decision["hit"], &decision["served_from"], &decision["configured"]),
        (&json!(true), &json!("withcache"), &json!(true))
    );
    assert!(
        address.starts_with(&cache.base()) && address.contains(&format!("?sha256={hex}")),
        "{address}"
    );
    let (decision, _) = site.decision(1);
    assert_eq!(decision["served_from"], "withcache", "{decision}");
    assert_eq!(cache.get("/cache").json()["fetched_bytes"], json!(packed.len()));
}

#[test]
fn without_the_cache_machines_use_the_origin_and_an_event_records_it() {
    let origin = Nginx::start("");
    let (packed, content) = image();
    let url = origin.put("debian.img.zst", &packed);
    let hex = Digest::of(&packed).to_string();
    let mut cache = Web::cache(&[], &[]);
    let site = Site::new(&url, Some(&hex), content, &[("BTY_WITHCACHE_URL", &cache.base())]);
    cache.kill();
    site.flash_well(1);
    let (decision, address) = site.decision(1);
    assert_eq!((&decision["status"], &decision["served_from"]), (&json!("away"), &json!("origin")));
    assert_eq!(address, url);
    assert!(site.web.get("/catalog.toml").expect(200).text().contains(&url));
    cache.start_again();
    site.flash_well(2);
    assert_eq!(site.decision(2).0["served_from"], "withcache");
    let text = site.web.get("/catalog.toml").expect(200).text();
    assert!(
        text.contains(&format!("{}/b/", cache.base()))
            && text.contains(&hex)
            && text.contains("debian.img.zst"),
        "{text}"
    );
    let catalog = bty::catalog::Catalog::parse(text.as_bytes()).unwrap();
    assert_eq!(catalog.entries()[0].name, "debian");
}

#[test]
fn a_cache_with_the_wrong_bytes_serves_none() {
    let origin = Nginx::start("");
    let (packed, content) = image();
    let old = filter(&["zstd", "-q1c"], &gpt_image(9 * MIB, 512));
    let url = origin.put("debian.img.zst", &old);
    let mut cache = Web::cache(&[], &[("BTY_CACHE_FRESH_S", "86400")]);
    assert_eq!(cache.get(&super::cache::path(&url)).expect(200).body, old);
    super::cache::wait(&cache, "keeps the object", |state| {
        state["objects"][0]["size_bytes"] == json!(old.len())
    });
    // the origin has a new image: the catalog lists its digest, the cache still has the old one
    let _ = origin.put("debian.img.zst", &packed);
    let site = Site::new(
        &url,
        Some(&Digest::of(&packed).to_string()),
        content,
        &[("BTY_WITHCACHE_URL", &cache.base())],
    );
    // the cache queries an origin again for another digest only after this time
    super::cache::age(&mut cache, Duration::from_secs(10));
    site.flash_well(1);
    assert_eq!(site.decision(1).0["served_from"], "withcache");
    assert!(cache.get("/events").text().contains("cache.object.outdated"));
}

#[test]
fn machines_write_the_packed_form_that_the_cache_host_has_made() {
    let origin = Nginx::start("");
    let (published, content) = image();
    let url = origin.put("debian.img.zst", &published);
    let hex = Digest::of(&published).to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let env = [
        ("BTY_CACHE_EMBEDDED", "1"),
        ("BTY_CACHE_LISTEN", listen.as_str()),
        ("BTY_CACHE_REACH", "127.0.0.0/8"),
    ];
    let site = Site::new(&url, Some(&hex), content, &env);
    site.web.request("POST", "/catalog/warm", &[], b"").expect(200);
    super::cache::wait(&site.web, "has the packed form", |state| {
        state["objects"][0]["packed"]["index_sha256"].is_string()
    });
    let toml = site.web.get("/catalog.toml").expect(200).text();
    let catalog = bty::catalog::Catalog::parse(toml.as_bytes()).unwrap();
    let entry = &catalog.entries()[0];
    let packed = format!("http://{listen}/packed/{hex}/debian.img.zst");
    assert_eq!(entry.packed.as_ref(), Some(&packed), "{toml}");
    assert!(entry.src().contains("/b/") && entry.index_sha256.is_some(), "{toml}");
    site.flash_well(1);
    let (decision, address) = site.decision(1);
    assert_eq!(decision["packed"], packed);
    assert!(address.contains("/b/"), "what an earlier live environment takes: {address}");
    let events = site.web.get("/events?limit=100").json();
    let flashed = events["events"].as_array().unwrap();
    let flashed = flashed.iter().find(|event| event["kind"] == "machine.flashed").unwrap();
    let disk = &flashed["details"]["disks"][0];
    assert_eq!(disk["image"], packed);
    assert_eq!(disk["index_sha256"], entry.index_sha256.unwrap().to_string());
    assert_eq!(flashed["details"]["disk_image_sha"], hex, "of the image as published");
    assert!(flashed["summary"].as_str().unwrap().contains("; proof: full"), "{flashed}");
    let machine = site.web.get("/machines/52:54:00:00:00:01").expect(200).json();
    assert_eq!(machine["last_flashed_proof"], "full");
    let page = site.web.get("/ui/machines/52-54-00-00-00-01").expect(200).text();
    assert!(page.contains("; proof: full"), "{page}");
    assert!(page.contains("keep and move what the disk already holds"), "the parameter delta");
}

#[test]
fn a_server_warms_its_own_cache_and_shows_its_content() {
    let origin = Nginx::start("");
    let (packed, content) = image();
    let url = origin.put("debian.img.zst", &packed);
    let hex = Digest::of(&packed).to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let env = [
        ("BTY_CACHE_EMBEDDED", "1"),
        ("BTY_CACHE_LISTEN", listen.as_str()),
        ("BTY_CACHE_REACH", "127.0.0.0/8"),
    ];
    let site = Site::new(&url, Some(&hex), content, &env);
    let status = || site.web.get("/catalog/cache").expect(200).json()[0]["status"].clone();
    assert_eq!(
        (status(), site.web.get("/images").json()[0]["cached"].clone()),
        (json!("miss"), json!(false))
    );
    let begun = site.web.request("POST", "/catalog/warm", &[], b"").expect(200).json();
    assert!(matches!(begun[0]["status"].as_str(), Some("filling" | "hit")), "{begun}");
    eventually(LIMIT, "the image is in the cache", || (status() == "hit").then_some(()));
    assert_eq!(site.web.get("/images").json()[0]["cached"], true);
    site.flash_well(1);
    let (decision, address) = site.decision(1);
    assert_eq!((&decision["hit"], &decision["served_from"]), (&json!(true), &json!("withcache")));
    assert!(
        address.starts_with(&format!("http://{listen}/b/")),
        "the address that the machine has reached: {address}"
    );
    assert_eq!(site.web.get("/cache").expect(200).json()["objects"][0]["sha256"], hex);
    assert!(site.web.get("/ui/cache").expect(200).text().contains("debian.img.zst"));
    assert!(site.web.get("/metrics").text().contains("bty_cache_answers_total{outcome=\"hit\"}"));
    assert_eq!(site.web.request("POST", "/catalog/warm?src=nothing", &[], b"").status, 404);
    // a server without a cache host has no such routes
    let bare = Web::start();
    assert!(bare.get("/cache").expect(404).text().contains("cache.embedded"));
    assert_eq!(bare.get("/blob?url=http://h/x").status, 404);
}
