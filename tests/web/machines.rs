//! The API for machines that operators use.

use bty_tests::web::Web;
use serde_json::{Value, json};

use super::pxe::{MAC, add_image};

#[test]
fn an_invalid_assignment_is_refused_with_all_reasons() {
    let web = Web::start();
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);
    let disks = json!({
        "disks": [{ "path": "/dev/sda", "serial": "S1", "size_bytes": 1, "readonly": true }],
    });
    web.send("POST", &format!("/pxe/{MAC}/inventory"), &disks).expect(204);
    let wrong = json!({
        "boot_mode": "bty-window", "bty_image_ref": "0".repeat(64), "target_disk_serial": "S1",
        "sanboot_drive": "C:",
        "labels": ["-x", "a\u{1b}b"], "params": { "from_hour": 24, "colour": 1 },
        "extra_args": "bty.server=http://evil",
    });
    let answer = web.send("PUT", &format!("/machines/{MAC}"), &wrong).expect(422).json();
    let problems: Vec<String> = answer["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| format!("{}: {}", p["at"].as_str().unwrap(), p["message"].as_str().unwrap()))
        .collect();
    insta::assert_snapshot!("refused_binding", problems.join("\n"));
    assert_eq!(
        web.get(&format!("/machines/{MAC}")).json()["boot_mode"],
        "bty-inventory",
        "nothing has changed"
    );
    // a plan that writes needs an image and a target disk
    let answer = web
        .send("PUT", &format!("/machines/{MAC}"), &json!({ "boot_mode": "bty-flash-once" }))
        .expect(422);
    assert_eq!(answer.json()["problems"].as_array().map(Vec::len), Some(2), "{}", answer.text());
}

#[test]
fn put_replaces_everything_and_patch_only_the_given_fields() {
    let web = Web::start();
    let image = add_image(&web);
    let path = format!("/machines/{}", MAC.to_uppercase());
    let full = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
        "labels": ["b", "a", "b"], "sanboot_drive": "0x81",
    });
    let machine = web.send("PUT", &path, &full).expect(200).json();
    assert_eq!(machine["mac"], MAC);
    assert_eq!(machine["labels"], json!(["a", "b"]));
    let machine = web
        .send("PATCH", &path, &json!({ "labels": ["c"], "sanboot_drive": null }))
        .expect(200)
        .json();
    assert_eq!((&machine["labels"], &machine["sanboot_drive"]), (&json!(["c"]), &Value::Null));
    assert_eq!(machine["target_disk_serial"], "S1");
    let before = web.events(MAC).len();
    let same = json!({ "labels": ["c", "c"], "target_disk_serial": " S1 " });
    web.send("PATCH", &path, &same).expect(200);
    assert_eq!(web.events(MAC).len(), before, "the same values in another form are no order");
    let machine = web.send("PUT", &path, &json!({})).expect(200).json();
    assert_eq!(
        (&machine["boot_mode"], &machine["bty_image_ref"]),
        (&json!("ipxe-exit"), &Value::Null)
    );
    web.send("PATCH", &path, &json!({ "labels": [] })).expect(200);
    let before = web.events(MAC).len();
    web.send("PATCH", &path, &json!({ "labels": [] })).expect(200);
    assert_eq!(web.events(MAC).len(), before, "a request that changes nothing is no save");
    web.send("PATCH", "/machines/525400000099", &json!({})).expect(404);
    web.request("DELETE", &path, &[], b"").expect(204);
    web.request("DELETE", &path, &[], b"").expect(404);
    web.get(&path).expect(404);
}

#[test]
fn the_documented_limits_hold() {
    let web = Web::start();
    let path = format!("/machines/{MAC}");
    let status = |body: &Value| web.send("PUT", &path, body).status;
    let labels =
        |n: usize| json!({ "labels": (0..n).map(|n| format!("l{n}")).collect::<Vec<_>>() });
    assert_eq!((status(&labels(16)), status(&labels(17))), (200, 422));
    let long = |field: &str, n: usize| json!({ field: "x".repeat(n) });
    assert_eq!(
        (status(&long("target_disk_serial", 128)), status(&long("target_disk_serial", 129))),
        (200, 422)
    );
    assert_eq!((status(&long("extra_args", 1024)), status(&long("extra_args", 1025))), (200, 422));
    assert_eq!(
        (
            status(&json!({ "labels": ["x".repeat(64)] })),
            status(&json!({ "labels": ["x".repeat(65)] }))
        ),
        (200, 422)
    );
    let plan = |bytes: usize, parameters: usize| {
        let declared: String = (0..parameters)
            .map(|n| format!("p{n}: #{{ type: \"bool\", preset: false }},"))
            .collect();
        let head = format!(
            "fn boot(m) {{ boot_disk() }}\n\
             fn declare() {{ #{{ parameters: #{{ {declared} }} }} }}\n//"
        );
        let source = format!("{head}{}", "x".repeat(bytes.saturating_sub(head.len())));
        web.send("PUT", "/plans/long", &json!({ "source": source })).status
    };
    assert_eq!(
        (plan(256 << 10, 0), plan((256 << 10) + 1, 0), plan(0, 32), plan(0, 33)),
        (200, 422, 200, 422)
    );
    let status =
        |path: &str, bytes: usize| web.request("POST", path, &[], &vec![b' '; bytes]).status;
    assert_eq!((status("/simulate", 1 << 20), status("/simulate", (1 << 20) + 1)), (400, 413));
    let path = format!("/pxe/{MAC}/inventory");
    assert_eq!((status(&path, 8 << 20), status(&path, (8 << 20) + 1)), (400, 413));
}

#[test]
fn lists_are_filtered_and_downloads_are_as_posted() {
    let web = Web::start();
    for (n, label) in [(1, "rack 1"), (2, "rack 2")] {
        web.send("PUT", &format!("/machines/52540000000{n}"), &json!({ "labels": [label] }))
            .expect(200);
    }
    let count = |query: &str| {
        web.get(&format!("/machines?{query}")).expect(200).json().as_array().map(Vec::len)
    };
    assert_eq!(
        (count(""), count("q=RACK"), count("label=rack%201"), count("plan=bty-tui")),
        (Some(2), Some(2), Some(1), Some(0))
    );
    assert_eq!(count("q=%25"), Some(0), "a percent sign is a percent sign");
    web.get("/machines/525400000001/lshw.json").expect(404);
    let lshw = json!({ "id": "x", "class": "system", "children": [{ "odd": "ünï" }] });
    web.send("POST", "/pxe/525400000001/inventory", &json!({ "disks": [], "lshw": lshw }))
        .expect(204);
    let answer = web.get("/machines/525400000001/lshw.json").expect(200);
    assert_eq!(answer.json(), lshw);
    assert_eq!(
        answer.header("content-disposition"),
        Some("attachment; filename=\"52-54-00-00-00-01-lshw.json\"")
    );
    assert_eq!(web.get("/machines/525400000001/disks.json").expect(200).json(), json!([]));
    // hardware data that is too large is dropped, and the previous data stays
    let large = json!({ "disks": [], "lshw": { "x": "y".repeat(5 << 20) } });
    web.send("POST", "/pxe/525400000001/inventory", &large).expect(204);
    assert_eq!(web.get("/machines/525400000001/lshw.json").json(), lshw);
}

#[test]
fn a_long_list_is_complete_and_a_disconnected_client_blocks_nothing() {
    let web = Web::start();
    let machine = |n: u32| {
        json!({
            "mac": format!("0200{n:08x}"),
            "known_disks": [{ "path": "/dev/sda", "model": "x".repeat(100) }],
        })
    };
    let bundle =
        json!({ "bty_export_version": 3, "machines": (0..5000).map(machine).collect::<Vec<_>>() });
    web.send("POST", "/import", &bundle).expect(200);
    for _ in 0..20 {
        let mut stream =
            std::net::TcpStream::connect(web.base().trim_start_matches("http://")).unwrap();
        std::io::Write::write_all(
            &mut stream,
            b"GET /machines HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        )
        .unwrap();
        // the client disconnects without reading the response
    }
    let list = web.get("/machines").expect(200).json();
    let list = list.as_array().expect("the list is whole");
    assert_eq!(list.len(), 5000);
    assert!(list.is_sorted_by_key(|machine| machine["mac"].as_str().unwrap().to_owned()));
    let page = web.get("/ui/machines").expect(200).text();
    assert!(page.contains("1 to 50 of 5000"), "{page}");
}

#[test]
fn a_disk_that_cannot_be_told_from_another_one_needs_another_selector() {
    let web = Web::start();
    let image = add_image(&web);
    let posted = json!({ "disks": [
        { "path": "/dev/nvme0n1", "serial": "S64", "wwn": "eui.01", "size_bytes": 1_u64 << 40 },
        { "path": "/dev/nvme0n2", "serial": "S64", "wwn": "eui.02", "size_bytes": 2_u64 << 40 },
    ] });
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);
    web.send("POST", &format!("/pxe/{MAC}/inventory"), &posted).expect(204);
    let assign = |disk: &str| {
        let assignment = json!({
            "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": disk,
        });
        web.send("PUT", &format!("/machines/{MAC}"), &assignment)
    };
    let refused = assign("S64").expect(422).text();
    assert!(refused.contains("2 disks of the machine match S64"), "{refused}");
    assert!(refused.contains("by-path:PLACE"), "{refused}");
    let wrong = assign("where:colour=red").expect(422).text();
    assert!(wrong.contains("is not a condition for a disk"), "{wrong}");
    for disk in ["wwn:eui.02", "where:serial=S64,size=2T"] {
        assign(disk).expect(200);
        let steps = web.send("POST", &format!("/machines/{MAC}/simulate"), &json!({})).json();
        assert_eq!((&steps[0]["mode"], &steps[0]["disk"]), (&json!("flash"), &json!(disk)));
    }
}

#[test]
fn an_image_for_another_architecture_is_warned_of_or_refused() {
    let web = Web::start();
    let image = add_image(&web);
    let path = web.state().join("arm.toml");
    let text = "version = 1\n[[images]]\nname = \"debian-arm64\"\narch = \"arm64\"\n\
                src = \"https://images.example/debian-arm64.img.zst\"\n";
    std::fs::write(&path, text).unwrap();
    web.request("POST", &format!("/catalog/import?source={}", path.display()), &[], b"")
        .expect(200);
    let images = web.get("/images").json();
    let arm = images.as_array().unwrap().iter().find(|image| image["arch"] == "arm64").unwrap();
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);
    let cpu = json!({ "class": "processor", "capabilities": { "x86-64": true } });
    let posted = json!({ "disks": [], "lshw": { "class": "system", "children": [cpu] } });
    web.send("POST", &format!("/pxe/{MAC}/inventory"), &posted).expect(204);
    let assign = |image: &Value, plan: &str| {
        let assignment =
            json!({ "boot_mode": plan, "bty_image_ref": image, "target_disk_serial": "S1" });
        web.send("PUT", &format!("/machines/{MAC}"), &assignment)
    };
    let why = "the image is for arm64, but the processor of the machine is x86_64";
    let warned = assign(&arm["ref"], "bty-flash-once").expect(200).json();
    assert_eq!(warned["warnings"], json!([why]));
    let fine = assign(&json!(image), "bty-flash-once").expect(200).json();
    assert_eq!(fine["warnings"], Value::Null);
    let source = "fn declare() { #{ needs: [\"image\", \"disk\", \"architecture\"] } }\n\
                  fn boot(m) { boot_disk() }";
    web.send("PUT", "/plans/strict", &json!({ "source": source })).expect(200);
    let refused = assign(&arm["ref"], "strict").expect(422).text();
    assert!(refused.contains(why), "{refused}");
    assign(&json!(image), "strict").expect(200);
}
