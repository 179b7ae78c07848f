//! Importing, editing, checking and serving the catalog.

use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Server};
use bty_tests::web::{Answer, Web};
use bty_tests::{LIMIT, eventually};
use serde_json::json;

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
