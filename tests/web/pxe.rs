//! The routes that machines use.

use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};

pub(super) const MAC: &str = "52:54:00:12:34:56";

/// The token of the boot cycle in an iPXE script.
pub(super) fn token(script: &str) -> String {
    let word = script.split_whitespace().find_map(|word| word.strip_prefix("bty.cycle="));
    word.unwrap_or_else(|| panic!("no live environment:\n{script}")).to_owned()
}

/// Adds an image that is never fetched, and returns its reference.
pub(super) fn add_image(web: &Web) -> String {
    let path = web.state().join("test.toml");
    let text = "version = 1\n[[images]]\nname = \"debian\"\n\
                src = \"https://images.example/debian.img.zst\"\n";
    std::fs::write(&path, format!("{text}sha256 = \"{}\"\n", "ab".repeat(32))).unwrap();
    let imported = web
        .request("POST", &format!("/catalog/import?source={}", path.display()), &[], b"")
        .expect(200);
    assert_eq!(imported.json()["imported"], 1, "{}", imported.text());
    web.get("/images").json()[0]["ref"].as_str().unwrap().to_owned()
}

#[test]
fn the_bootstrap_script_uses_the_address_of_the_request() {
    let web = Web::with(&[("BTY_SERVER_TRUSTED_PROXY", "127.0.0.0/8")]);
    let script = |headers: &[(&str, &str)]| {
        let answer = web.request("GET", "/pxe-bootstrap.ipxe", headers, b"").expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"), "a nonce is for one boot");
        let text = answer.text();
        text.split("?boot=").next().unwrap().to_owned()
    };
    assert_eq!(
        script(&[("Host", "bty.lan:8080")]),
        "#!ipxe\nchain --replace http://bty.lan:8080/pxe/${mac:hexhyp}"
    );
    let proxied =
        [("Host", "bty.lan"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "8443")];
    assert_eq!(script(&proxied), "#!ipxe\nchain --replace https://bty.lan:8443/pxe/${mac:hexhyp}");
    assert!(!script(&[("Host", "a b`id`${x}")]).contains('`'));
}

#[test]
fn an_unknown_machine_is_discovered_and_takes_an_inventory() {
    let web = Web::start();
    let answer = web.get("/pxe/52-54-00-12-34-56?boot=1").expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    assert!(answer.header("content-length").is_some());
    let token = token(&answer.text());
    assert_eq!(web.get("/pxe/525400123456?boot=1").text(), answer.text(), "the same boot");
    web.request(
        "GET",
        &format!("/boot/bty-netboot-pc-x86_64-v0.1.0.vmlinuz?mac={MAC}&cycle={token}"),
        &[],
        b"",
    )
    .expect(404);
    let posted = json!({
        "disks": [{ "path": "/dev/sda", "size": "20G", "serial": " S1 ", "unknown": 1 }],
        "lshw": { "class": "system", "vendor": "ACME" },
    });
    web.send("POST", &format!("/pxe/{MAC}/inventory?cycle={token}"), &posted).expect(204);
    let plan = web.get(&format!("/pxe/{MAC}/plan?cycle={token}")).expect(200);
    assert_eq!(plan.json(), json!({ "mode": "inventory" }));
    assert!(web.get("/pxe/52-54-00-12-34-56?boot=2").text().contains("sanboot "));
    let machine = web.get(&format!("/machines/{MAC}")).expect(200).json();
    assert_eq!(machine["known_disks"][0]["serial"], "S1");
    assert_eq!(machine["known_disks"][0]["size_bytes"], 20_u64 << 30);
    assert_eq!(machine["hardware"]["vendor"], "ACME");
    let kinds = [
        "machine.discovered",
        "netboot.pxe.offered",
        "machine.inventory",
        "netboot.pxe.plan",
        "netboot.pxe.offered",
    ];
    assert_eq!(web.events(MAC), kinds);
}

#[test]
fn errors_are_scripts_with_a_message_that_boot_the_disk() {
    let web = Web::start();
    for path in
        ["/pxe/xyz", "/pxe/%00", "/pxe/%F0%28", "/pxe/52:54:00:12:34:56:78", "/pxe/%24%7Bmac%7D"]
    {
        let answer = web.get(path).expect(200);
        let text = answer.text();
        assert!(
            text.starts_with("#!ipxe\necho bty: ") && text.contains("sanboot"),
            "{path}: {text}"
        );
        assert!(!text.contains("${mac}"), "{text}");
    }
    assert_eq!(web.get("/machines").json(), json!([]), "nothing was added");
}

#[test]
fn a_head_request_for_a_script_is_not_a_contact() {
    let web = Web::start();
    for path in [format!("/pxe/{MAC}?boot=1"), format!("/pxe/{MAC}/plan")] {
        let answer = web.request("HEAD", &path, &[], b"");
        assert_eq!(answer.status, 405, "{path}");
    }
    assert_eq!(web.get("/machines").json(), json!([]));
}

#[test]
fn a_flash_goes_from_the_contact_to_the_proven_disk() {
    let web = Web::start();
    let image = add_image(&web);
    let binding = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
        "labels": ["lab"], "extra_args": "pci=realloc",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    web.send("PUT", "/settings", &json!({ "netboot.extra_args": "mitigations=off" })).expect(200);
    let script = web.get("/pxe/52-54-00-12-34-56?boot=1").expect(200).text();
    assert!(script.contains(" mitigations=off pci=realloc || goto local"), "{script}");
    let token = token(&script);
    let wants = [("Accept", "text/rhai, application/json;q=0.5")];
    let plan =
        web.request("GET", &format!("/pxe/{MAC}/plan?cycle={token}"), &wants, b"").expect(200);
    assert!(plan.header("content-type").unwrap().starts_with("text/rhai"));
    let text = plan.text();
    let head = format!(
        "//! bty plan script 1\n//! machine: {MAC}\n//! plan: bty-flash-once\n//! revision: 0\n\
         //! cycle: {token}\nconst PLAN = #{{"
    );
    assert!(text.starts_with(&head), "{text}");
    let plan = web.get(&format!("/pxe/{MAC}/plan?cycle={token}")).json();
    let wanted = json!({
        "mode": "flash", "image": "https://images.example/debian.img.zst",
        "target_disk_serial": "S1", "name": "debian",
        "disk_image_sha": "ab".repeat(32), "format": "img.zst",
    });
    assert_eq!(plan, wanted);

    let status = format!("/pxe/{MAC}/status");
    let progress = json!({
        "status": "progress", "cycle": token,
        "progress": {
            "phase": "write", "source_bytes": 1, "source_total": 2, "decoded_bytes": 1,
            "decoded_total": null, "written_bytes": 1, "verified_bytes": 0,
        },
    });
    web.send("POST", &status, &progress).expect(204);
    assert_eq!(web.get(&format!("/machines/{MAC}")).json()["cycle"]["progress"]["phase"], "write");
    let mut done = json!({ "status": "done", "cycle": "another" });
    web.send("POST", &status, &done).expect(409);
    done["cycle"] = token.into();
    done["disks"] = json!([{
        "path": "/dev/sda", "serial": "S1", "image": "debian", "sha256": "ab".repeat(32),
        "disk_bytes": 1, "verified_bytes": 1,
    }]);
    web.send("POST", &status, &done).expect(204);
    web.send("POST", &status, &done).expect(204);
    let machine = web.get(&format!("/machines/{MAC}")).json();
    assert_eq!(machine["boot_state"], "flashed; booting disk");
    assert_eq!(machine["last_flashed_ref"], machine["bty_image_ref"]);
    assert_eq!(web.events(MAC).iter().filter(|kind| *kind == "machine.flashed").count(), 1);
    assert!(web.get("/pxe/52-54-00-12-34-56?boot=2").text().contains("sanboot"));
}

#[test]
fn reports_of_unknown_machines_leave_only_an_event() {
    let web = Web::start();
    web.send("POST", &format!("/pxe/{MAC}/status"), &json!({ "status": "done" })).expect(404);
    web.send("POST", &format!("/pxe/{MAC}/inventory"), &json!({ "disks": [] })).expect(404);
    assert_eq!(web.get("/machines").json(), json!([]));
    assert_eq!(web.events(MAC), ["pxe.client.orphan", "pxe.client.orphan"]);
}

#[test]
fn boot_files_support_ranges_and_stay_inside_their_directory() {
    let web = Web::start();
    web.request("PUT", "/boot/kernel", &[], b"0123456789").expect(200);
    let head = web.request("HEAD", "/boot/kernel", &[], b"").expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("10"), 0));
    let part = web.request("GET", "/boot/kernel", &[("Range", "bytes=2-4")], b"").expect(206);
    assert_eq!((part.text().as_str(), part.header("content-range")), ("234", Some("bytes 2-4/10")));
    let tag = part.header("etag").unwrap();
    let past = web.request("GET", "/boot/kernel", &[("Range", "bytes=20-")], b"").expect(416);
    assert_eq!(past.header("content-range"), Some("bytes */10"));
    for (fields, status, body) in [
        (&[("Range", "bytes=2-4"), ("If-Range", tag)][..], 206, "234"),
        (&[("Range", "bytes=2-4"), ("If-Range", "\"other\"")], 200, "0123456789"),
        (
            &[("Range", "bytes=2-4"), ("If-Range", "Sun, 06 Nov 1994 08:49:37 GMT")],
            200,
            "0123456789",
        ),
        (&[("Range", "bytes=0-1,3-4")], 200, "0123456789"),
        (&[("Range", "lines=0-1")], 200, "0123456789"),
        (&[("If-None-Match", tag)], 304, ""),
        (&[("If-Match", "\"other\"")], 412, ""),
    ] {
        let answer = web.request("GET", "/boot/kernel", fields, b"").expect(status);
        assert_eq!(answer.text(), body, "{fields:?}");
    }
    web.request("PUT", "/boot/kernel", &[], b"abcdefghij").expect(200);
    let resumed = web
        .request("GET", "/boot/kernel", &[("Range", "bytes=5-"), ("If-Range", tag)], b"")
        .expect(200);
    assert_eq!(resumed.text(), "abcdefghij", "two versions are not joined");
    std::os::unix::fs::symlink("/etc/passwd", web.state().join("boot/link")).unwrap();
    for (path, status) in [
        ("/boot/missing", 404),
        ("/boot//kernel", 200),
        ("//boot///kernel", 200),
        ("/boot//link", 404),
        ("/boot//../state.db", 404),
        ("/boot//..%2Fstate.db", 400),
        ("/boot/link", 404),
        ("/boot/..%2Fstate.db", 400),
        ("/boot/%2e%2e%2fstate.db", 400),
        ("/boot/.hidden", 400),
        ("/boot/a%5Cb", 400),
        ("/boot/a%00", 400),
        ("/boot/../state.db", 404),
    ] {
        let answer = web.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    web.request("PUT", "/boot/..%2Fevil", &[], b"x").expect(400);
    let names = std::fs::read_dir(web.state().join("boot")).unwrap().count();
    assert_eq!(names, 2, "the kernel and the link");
}

#[test]
fn an_upload_is_complete_or_absent() {
    let web = Web::with(&[("BTY_TUNING_MAX_UPLOAD_BYTES", "10")]);
    web.request("PUT", "/boot/big", &[], b"01234567890").expect(413);
    let chunked = b"PUT /boot/big HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
                    Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n";
    assert!(String::from_utf8_lossy(&web.raw(chunked)).starts_with("HTTP/1.1 413"));
    web.request("PUT", "/boot/right", &[], b"0123456789").expect(200);
    let names: Vec<_> = std::fs::read_dir(web.state().join("boot"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["right"]);
}

#[test]
fn a_machine_whose_live_environment_never_starts_boots_its_disk_and_is_on_the_dashboard() {
    let web = Web::start();
    let contact = |boot: u32| web.get(&format!("/pxe/{MAC}?boot={boot}")).expect(200).text();
    for boot in 1..=3 {
        token(&contact(boot));
    }
    let script = contact(4);
    assert!(script.contains("stalled: ") && script.contains("sanboot "), "{script}");
    assert!(web.get("/ui/dashboard").expect(200).text().contains("did not start in 3 boots"));
    assert!(web.get("/metrics").text().contains("bty_unacknowledged_failures 1"));
    assert!(
        web.get(&format!("/ui/machines/{}", MAC.replace(':', "-"))).text().contains("stalled: ")
    );
    // saving the assignment resets the count; the setting is the limit
    web.send("PUT", "/settings", &json!({ "machines.silent_boots": "1" })).expect(200);
    web.send("PUT", &format!("/machines/{MAC}"), &json!({ "boot_mode": "bty-inventory" }))
        .expect(200);
    token(&contact(5));
    assert!(contact(6).contains("stalled: "));
}

#[test]
fn whatever_a_machine_posts_as_its_inventory_it_reaches_its_disk() {
    let web = Web::start();
    let disk = |n: usize| json!({ "path": format!("/dev/sd{n}"), "serial": format!("JB{n:03}"), "size_bytes": 18_u64 << 40 });
    let many: Vec<Value> = (0..300).map(disk).collect();
    let bodies = [
        json!({ "disks": (0..84).map(disk).collect::<Vec<_>>() }).to_string(),
        json!({ "disks": many }).to_string(),
        json!({ "disks": [{ "path": "/dev/sda", "serial": "x".repeat(500) }, 7, {}] }).to_string(),
        json!({ "disks": [], "lshw": [[[]]], "more": 1 }).to_string(),
        json!({ "disks": "many" }).to_string(),
        json!({}).to_string(),
        "no JSON".to_owned(),
        String::new(),
        format!("[{}", "[".repeat(1 << 20)),
        " ".repeat((8 << 20) + 1),
    ];
    for (n, body) in bodies.iter().enumerate() {
        let mac = format!("02:00:00:00:00:{n:02x}");
        let live = token(&web.get(&format!("/pxe/{mac}?boot=1")).text());
        let path = format!("/pxe/{mac}/inventory?cycle={live}");
        let status = web.request("POST", &path, &[], body.as_bytes()).status;
        assert!(matches!(status, 204 | 400 | 413 | 422), "{n}: {status}");
        web.get(&format!("/pxe/{mac}/plan?cycle={live}")).expect(200);
        let script = web.get(&format!("/pxe/{mac}?boot=2")).text();
        assert!(script.contains("sanboot ") && !script.contains("initrd"), "{n}: {script}");
        let kinds = web.events(&mac);
        let is_on_record = |kind: &String| kind.starts_with("machine.inventory");
        assert!(kinds.iter().any(is_on_record), "{n}: {kinds:?}");
        assert_eq!(kinds.contains(&"machine.inventory_failed".to_owned()), status != 204, "{n}");
    }
    let cut = web.get("/events?kind=machine.inventory&subject_id=02:00:00:00:00:01").json();
    let summary = cut["events"][0]["summary"].as_str().unwrap().to_owned();
    assert!(summary.ends_with("256 disks; kept the first 256 of 300 disks"), "{summary}");
}

#[test]
fn an_address_that_several_machines_share_names_none() {
    let web = Web::start();
    for mac in ["00:00:00:00:00:00", "ff-ff-ff-ff-ff-ff", "01005e000001"] {
        let script = web.get(&format!("/pxe/{mac}?boot=1")).expect(200).text();
        assert!(script.contains("names no machine") && script.contains("sanboot "), "{script}");
        let binding = json!({ "boot_mode": "ipxe-exit" });
        let answer = web.send("PUT", &format!("/machines/{mac}"), &binding).expect(400).text();
        assert!(answer.contains("names no machine"), "{answer}");
        web.send("POST", &format!("/pxe/{mac}/inventory"), &json!({ "disks": [] })).expect(400);
        web.get(&format!("/pxe/{mac}/plan")).expect(400);
    }
    assert_eq!(web.get("/machines").json(), json!([]));
}

#[test]
fn a_machine_that_falls_silent_is_stalled_everywhere() {
    let web = Web::start();
    web.send("PUT", "/settings", &json!({ "machines.stalled_after": "1" })).expect(200);
    token(&web.get(&format!("/pxe/{MAC}?boot=1")).text());
    let kinds = eventually(LIMIT, "the server records the stalled machine", || {
        Some(web.events(MAC)).filter(|kinds| kinds.contains(&"machine.stalled".to_owned()))
    });
    assert_eq!(kinds.iter().filter(|kind| *kind == "machine.stalled").count(), 1, "{kinds:?}");
    let machine = web.get(&format!("/machines/{MAC}")).json();
    assert_eq!(machine["boot_state"], "stalled: the live env is silent; awaiting inventory");
    assert!(machine["stalled_at"].is_string(), "{machine}");
    assert_eq!(web.get("/machines").json()[0]["boot_state"], machine["boot_state"]);
    let metrics = web.get("/metrics").text();
    assert!(metrics.contains("bty_machine_states{state=\"stalled\"} 1"), "{metrics}");
    let dashboard = web.get("/ui/dashboard").text();
    assert!(dashboard.contains("1 troubled machine (1 stalled)"), "{dashboard}");
    web.send("PUT", "/settings", &json!({ "machines.stalled_after": "900" })).expect(200);
    let live = token(&web.get(&format!("/pxe/{MAC}?boot=2")).text());
    let posted = json!({ "disks": [] });
    web.send("POST", &format!("/pxe/{MAC}/inventory?cycle={live}"), &posted).expect(204);
    assert_eq!(web.get(&format!("/machines/{MAC}")).json()["stalled_at"], Value::Null);
}
