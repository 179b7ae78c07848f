//! Importing, editing, checking and serving the catalog.

use std::sync::{Arc, Mutex};

use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Server};
use bty_tests::web::{Answer, Web};
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};

use super::pxe::{MAC, token};

fn encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

#[test]
fn images_are_added_with_the_size_and_digest_of_their_origin() {
    let web = Web::start();
    let sha = "ab".repeat(32);
    let sums = format!("{sha} *debian.img.zst\n");
    let origin = Server::start(move |request| match request.target.as_str() {
        "/debian.img.zst" => Reply::file(request, &[7; 1000], "\"1\""),
        "/SHA256SUMS" => Reply::whole(sums.as_bytes()),
        _ => Reply::status(404),
    });
    let base = format!("http://{}", origin.host());
    let image = json!({
        "image_url": format!("{base}/debian.img.zst"), "sha_url": format!("{base}/SHA256SUMS"),
        "description": "server \"x\"\n",
    });
    let added = web.send("POST", "/catalog/entries", &image).expect(201).json();
    assert_eq!(
        (&added["name"], &added["format"], &added["size_bytes"]),
        (&json!("debian.img.zst"), &json!("img.zst"), &json!(1000))
    );
    assert_eq!(added["disk_image_sha"], sha);
    web.send("POST", "/catalog/entries", &image).expect(409);
    for (body, status) in [
        (json!({ "image_url": "file:///etc/passwd" }), 422),
        (json!({ "image_url": "ftp://h/x.img" }), 422),
        (json!({ "image_url": base }), 422),
        (json!({ "image_url": format!("{base}/a.img"), "ref": "0".repeat(64) }), 422),
        (json!({ "image_url": format!("{base}/gone.img") }), 400),
        (
            json!({
                "image_url": format!("{base}/debian.img.zst"), "sha_url": format!("{base}/gone"),
                "name": "other",
            }),
            400,
        ),
        (json!({ "image_url": 7 }), 422),
        (json!({ "image_url": "http://h/x.img", "extra": 1 }), 422),
    ] {
        let answer = web.send("POST", "/catalog/entries", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let toml = web.get("/catalog.toml").expect(200);
    assert_eq!(toml.header("content-type"), Some("application/toml"));
    assert!(toml.text().contains("description = \"server \\\"x\\\"\\n\""), "{}", toml.text());
    let checked = web.get("/catalog/check").expect(200).json();
    assert_eq!(checked[0]["problems"], json!([]));
    let failed = web.get("/events?kind=catalog.entry.add.failed").json();
    assert_eq!(
        failed["events"].as_array().map(Vec::len),
        Some(7),
        "a body that is none is no attempt: {failed}"
    );
}

#[test]
fn addresses_with_passwords_are_refused_and_passwords_are_never_shown() {
    let web = Web::start();
    let origin = Server::start(|request| Reply::file(request, &[7; 1000], "\"1\""));
    let secret = |name: &str| origin.url(name).replace("http://", "http://user:s3cr3t@");
    let refused = [
        web.send("POST", "/catalog/entries", &json!({ "image_url": secret("/a.img") })).expect(422),
        web.send(
            "POST",
            "/catalog/entries",
            &json!({ "image_url": origin.url("/a.img"), "sha_url": secret("/s") }),
        )
        .expect(422),
        web.send(
            "POST",
            "/catalog/entries",
            &json!({ "image_url": origin.url("/a.img"), "sha_url": "/etc/passwd" }),
        )
        .expect(422),
        web.request(
            "POST",
            &format!("/catalog/import?source={}", encoded(&secret("/c.toml"))),
            &[],
            b"",
        )
        .expect(422),
        web.send("PUT", "/settings", &json!({ "upstream.catalog_url": secret("/c.toml") }))
            .expect(422),
        web.send(
            "POST",
            "/catalog/entries",
            &json!({ "image_url": "http://user:s3cr3t@h:99999/a.img" }),
        )
        .expect(422),
    ];
    assert!(refused[0].text().contains("password"), "{}", refused[0].text());
    let file = web.state().join("with-password.toml");
    std::fs::write(
        &file,
        format!("version = 1\n[[images]]\nname = \"a\"\nsrc = \"{}\"\n", secret("/a.img")),
    )
    .unwrap();
    let imported = web
        .request("POST", &format!("/catalog/import?source={}", file.display()), &[], b"")
        .expect(400);
    assert!(imported.text().contains("password"), "{}", imported.text());
    assert_eq!(origin.requests().len(), 0);
    let pages =
        ["/images", "/catalog.toml", "/catalog/entries", "/events", "/ui/events", "/ui/images"]
            .map(|path| web.get(path));
    for text in refused.iter().chain([&imported]).chain(&pages).map(Answer::text).chain([web.log()])
    {
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn a_deleted_image_stays_deleted_until_it_is_added_again() {
    let text = "version = 1\n[[images]]\nname = \"a\"\nsrc = \"http://127.0.0.1:9/a.img\"\n\
                [[images]]\nname = \"b\"\nsrc = \"http://127.0.0.1:9/b.img\"\n";
    let mut web = Web::start();
    std::fs::write(web.state().join("catalog.toml"), text).unwrap();
    web.restart();
    let names = |web: &Web| {
        let images = web.get("/images").json();
        images
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // neither has a digest
    eventually(LIMIT, "both images are served", || (names(&web) == ["a", "b"]).then_some(()));
    let path = format!("/catalog/entries?src={}", encoded("http://127.0.0.1:9/a.img"));
    web.request("DELETE", &path, &[], b"").expect(204);
    web.request("DELETE", &path, &[], b"").expect(404);
    web.restart();
    let file = encoded(web.state().join("catalog.toml").to_str().unwrap());
    let imported =
        web.request("POST", &format!("/catalog/import?source={file}"), &[], b"").expect(200).json();
    assert_eq!((&imported["imported"], &imported["skipped"]), (&json!(0), &json!(2)), "{imported}");
    assert_eq!(names(&web), ["b"]);
    // the current content of the catalog counts
    std::fs::write(
        web.state().join("catalog.toml"),
        text.replace("name = \"b\"", "name = \"b\"\nsha256 = \"".to_owned().as_str())
            .replace("sha256 = \"\n", &format!("sha256 = \"{}\"\n", "cd".repeat(32))),
    )
    .unwrap();
    let imported =
        web.request("POST", &format!("/catalog/import?source={file}"), &[], b"").expect(200).json();
    assert_eq!((&imported["updated"], &imported["errors"]), (&json!(1), &json!([])), "{imported}");
    web.request("POST", "/catalog/import?source=/no/such/file", &[], b"").expect(400);
    assert!(web.events("/no/such/file").contains(&"catalog.entries.import.failed".to_owned()));
}

#[test]
fn a_catalog_is_uploaded_and_its_errors_are_reported() {
    let web = Web::start();
    let upload = |content: &str| {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"c.toml\"\r\n\r\n\
             {content}\r\n--x--\r\n"
        );
        web.request(
            "POST",
            "/ui/catalog/upload",
            &[("Content-Type", "multipart/form-data; boundary=x")],
            body.as_bytes(),
        )
    };
    let good =
        upload("version = 1\n[[images]]\nname = \"a\"\nsrc = \"http://127.0.0.1:9/a.img\"\n")
            .expect(200);
    assert_eq!(good.json()["imported"], 1);
    let bad =
        upload("version = 1\n[[images]]\nname = \"a\"\nsrc = \"file:///a.img\"\nsha256 = \"x\"\n")
            .expect(422)
            .text();
    assert!(bad.contains("sha256 must be 64") && bad.contains("local file"), "{bad}");
    upload(&"x".repeat(2 << 20)).expect(413);
    web.request("POST", "/ui/catalog/upload", &[("Content-Type", "text/plain")], b"x").expect(400);
}

#[test]
fn a_moved_tag_is_noticed_and_the_resolved_image_is_flashed() {
    let registry = Registry::start();
    let push = |content: &[u8]| {
        crate::sources::oci::push(
            &registry,
            "lab/debian:13",
            &[crate::sources::oci::layer(crate::sources::oci::IMAGE, "debian.img.gz", content)],
        );
        bty::Digest::of(content).to_string()
    };
    let first = push(b"first");
    let web = Web::with(&[("BTY_NETWORK_PLAIN_HTTP", "1")]);
    let src = format!("oras://{}/lab/debian:13", registry.host());
    let added = web
        .send("POST", "/catalog/entries", &json!({ "image_url": src, "name": "debian" }))
        .expect(201)
        .json();
    assert_eq!(
        (&added["disk_image_sha"], &added["is_tag"], &added["size_bytes"]),
        (&json!(first), &json!(true), &json!(5))
    );
    let binding = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": added["bty_image_ref"],
        "target_disk_serial": "S1",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    let plan = |n: u32| {
        let script = web.get(&format!("/pxe/{MAC}?boot={n}")).text();
        web.get(&format!("/pxe/{MAC}/plan?cycle={}", token(&script))).json()
    };
    let pinned = |digest: &str| format!("oras://{}/lab/debian@sha256:{digest}", registry.host());
    assert_eq!(plan(1)["image"], pinned(&first));
    let second = push(b"another");
    assert_eq!(plan(2)["image"], pinned(&first), "until somebody has looked");
    let refreshed = web.request("POST", "/catalog/refresh", &[], b"").expect(200).json();
    assert_eq!(refreshed["moved"], json!(["debian"]), "{refreshed}");
    let given = plan(3);
    assert_eq!(
        (&given["image"], &given["disk_image_sha"]),
        (&json!(pinned(&second)), &json!(second))
    );
    let event = web.get("/events?kind=catalog.entry.moved").json();
    assert_eq!(
        (&event["events"][0]["details"]["old"], &event["events"][0]["details"]["new"]),
        (&json!(first), &json!(second))
    );
    assert!(web.get("/catalog.toml").text().contains(&second));
}

/// An origin with an image and its checksum file, which can be published anew.
struct Publisher {
    server: Server,
    content: Arc<Mutex<Vec<u8>>>,
}

impl Publisher {
    fn start(content: &[u8]) -> Self {
        let content = Arc::new(Mutex::new(content.to_vec()));
        let published = Arc::clone(&content);
        let server = Server::start(move |request| {
            let content = published.lock().unwrap().clone();
            match request.target.as_str() {
                "/a.img" => Reply::file(request, &content, "\"1\""),
                "/SHA256SUMS" => {
                    Reply::whole(format!("{}  a.img\n", bty::Digest::of(&content)).as_bytes())
                }
                _ => Reply::status(404),
            }
        });
        Self { server, content }
    }

    /// Publishes another image, and returns its digest.
    fn publish(&self, content: &[u8]) -> String {
        *self.content.lock().unwrap() = content.to_vec();
        bty::Digest::of(content).to_string()
    }

    /// Adds the image to the catalog, and returns the entry.
    fn add(&self, web: &Web) -> Value {
        let [image_url, sha_url] = ["/a.img", "/SHA256SUMS"].map(|path| self.server.url(path));
        let new = json!({ "image_url": image_url, "sha_url": sha_url });
        web.send("POST", "/catalog/entries", &new).expect(201).json()
    }
}

/// Assigns the image of `entry` to the machine, to be flashed once.
fn assign(web: &Web, entry: &Value) {
    let assignment = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": entry["bty_image_ref"],
        "target_disk_serial": "S1",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &assignment).expect(200);
}

fn contact(web: &Web, nonce: u32) -> String {
    web.get(&format!("/pxe/{MAC}?boot={nonce}")).expect(200).text()
}

/// The order in the boot that begins with this contact.
fn order(web: &Web, contact: &str) -> Value {
    web.get(&format!("/pxe/{MAC}/plan?cycle={}", token(contact))).expect(200).json()
}

fn state(web: &Web) -> String {
    web.get(&format!("/machines/{MAC}")).json()["boot_state"].as_str().unwrap().to_owned()
}

#[test]
fn an_image_that_is_published_anew_is_found_by_a_check_and_taken_by_a_refresh() {
    let web = Web::start();
    let publisher = Publisher::start(b"first");
    let entry = publisher.add(&web);
    assert_eq!(entry["moved_at"], Value::Null);
    let second = publisher.publish(b"second");
    let checked = web.get("/catalog/check").expect(200).json();
    let problems = checked[0]["problems"].to_string();
    let first = entry["disk_image_sha"].as_str().unwrap();
    assert!(problems.contains(first) && problems.contains(&second), "{problems}");
    let refreshed = web.request("POST", "/catalog/refresh", &[], b"").expect(200).json();
    let moved = &refreshed["moves"][0];
    assert_eq!((&moved["old"], &moved["new"]), (&json!(first), &json!(second)), "{refreshed}");
    assert_eq!(refreshed["moved"], json!(["a.img"]));
    let entry = &web.get("/catalog/entries").json()[0];
    assert_eq!((&entry["disk_image_sha"], &entry["moved_at"]), (&json!(second), &moved["at"]));
    assert_eq!(web.get("/catalog/check").json()[0]["problems"], json!([]));
    let event = &web.get("/events?kind=catalog.entry.moved").json()["events"][0];
    assert!(event["summary"].as_str().unwrap().contains(&format!("{first} -> {second}")));
}

#[test]
fn a_machine_that_follows_is_ordered_the_version_that_is_published_now() {
    let web = Web::start();
    let publisher = Publisher::start(b"first");
    assign(&web, &publisher.add(&web));
    let script = contact(&web, 1);
    let second = publisher.publish(b"second");
    assert_eq!(order(&web, &script)["disk_image_sha"], second);
    let event = &web.get("/events?kind=catalog.entry.moved").json()["events"][0];
    assert_eq!((&event["actor"], &event["details"]["new"]), (&json!("system"), &json!(second)));
}

#[test]
fn a_pinned_machine_whose_version_is_gone_is_put_on_hold_before_anything_is_written() {
    let web = Web::start();
    web.send("PUT", "/settings", &json!({ "machines.rolling_images": "newest" })).expect(422);
    web.send("PUT", "/settings", &json!({ "machines.rolling_images": "pin" })).expect(200);
    let publisher = Publisher::start(b"first");
    let entry = publisher.add(&web);
    assign(&web, &entry);
    let machine = web.get(&format!("/machines/{MAC}")).json();
    assert_eq!(machine["image_sha256"], entry["disk_image_sha"]);
    let script = contact(&web, 1);
    let second = publisher.publish(b"second");
    assert_eq!(order(&web, &script)["mode"], "exit");
    let state = state(&web);
    assert!(state.starts_with("on hold: a.img was published anew"), "{state}");
    assert!(contact(&web, 2).contains("sanboot"), "it boots its disk");
    assert!(web.events(MAC).contains(&"machine.boot_failed".to_owned()));
    assign(&web, &entry);
    assert_eq!(order(&web, &contact(&web, 3))["disk_image_sha"], second, "saved with the newest");
}

#[test]
fn an_origin_that_does_not_answer_leaves_the_known_digest() {
    let web = Web::start();
    let publisher = Publisher::start(b"first");
    let entry = publisher.add(&web);
    assign(&web, &entry);
    let script = contact(&web, 1);
    drop(publisher);
    assert_eq!(order(&web, &script)["disk_image_sha"], entry["disk_image_sha"]);
}

#[test]
fn an_image_in_use_is_deleted_only_by_force_and_its_machines_are_put_on_hold() {
    let web = Web::start();
    let publisher = Publisher::start(b"first");
    let entry = publisher.add(&web);
    assign(&web, &entry);
    let source = "fn boot(m) { boot_disk() }\n\
                  fn plan(m) { #{ image: m.image(\"a.img\"), disk: m.target_disk() } }\n";
    web.send("PUT", "/plans/mine", &json!({ "source": source })).expect(200);
    let path = format!("/catalog/entries?src={}", encoded(entry["src"].as_str().unwrap()));
    let refused = web.request("DELETE", &path, &[], b"").expect(409).json();
    assert!(refused["detail"].as_str().unwrap().contains("1 machine and 1 plan"), "{refused}");
    let users: Vec<_> =
        refused["problems"].as_array().unwrap().iter().map(|p| p["at"].clone()).collect();
    assert_eq!(users, ["plan mine", MAC]);
    assert_eq!(state(&web), "pending flash");
    web.request("DELETE", &format!("{path}&force=maybe"), &[], b"").expect(422);
    web.request("DELETE", &format!("{path}&force=true"), &[], b"").expect(204);
    assert_eq!(state(&web), "on hold: its image a.img was deleted from the catalog");
    assert!(contact(&web, 1).contains("sanboot"), "it boots its disk");
    assert!(web.get(&format!("/events?subject_id={MAC}")).text().contains("was deleted"));
}
