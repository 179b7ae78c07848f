use bty::CancelToken;
use serde_json::{Value, json};

use crate::convert::to_json;
use crate::world::{Effect, SimulatedWorld};
use crate::{Capabilities, Engine, ImportRoot, Limits, ScriptContext, ScriptError};

const MACHINE: &str = r#"
    [machine]
    hostname = "rack-3"
    cmdline = "quiet bty.mac=52:54:00:00:00:01 bty.note=\"a\""
    time = "2026-11-24T08:30:00Z"
    dmi = { vendor = "ACME", product = "Rack" }
    [[disks]]
    path = "/dev/sda"
    size = "8G"
    serial = "S1"
    model = "Small"
    partitions = [{ size = "1G", name = "root", content = { kind = "ext4", label = "old" } }]
    [[disks]]
    path = "/dev/sdb"
    size = "8G"
    serial = "LATE"
    transport = "usb"
    appears_after = 3
    [[images]]
    src = "/images/a.img"
    disk_size = "4G"
    sha256 = "6418d460e0a234cedbd008a77113f9f85975f153de727756c9082910c18dccd4"
    [[images]]
    src = "oras://registry.example/os/a:1"
    format = "zstd"
    source_size = "1G"
    disk_size = "4G"
    [[images]]
    src = "/images/broken.img"
    fails = "nobody answers"
    [[catalogs]]
    src = "lab.toml"
    images = [{ name = "a", src = "oras://registry.example/os/a:1", size_bytes = 1073741824 }]
    [[http]]
    url = "http://h/order"
    json = { serial = "S1", large = 18446744073709551615 }
    [[http]]
    url = "http://h/done"
    method = "POST"
    status = 409
    json = "too late"
"#;

fn run(text: &str) -> (Result<Value, ScriptError>, Vec<Effect>) {
    let (world, effects, _) = SimulatedWorld::parse(MACHINE).unwrap();
    let engine = Engine::new(ScriptContext::new(Capabilities::all(), world), Limits::operator());
    let script = engine
        .compile("script.rhai", text, &ImportRoot::None)
        .unwrap_or_else(|e| panic!("{text}: {e}"));
    let outcome = engine.run(&script, &[], &CancelToken::new());
    (outcome.map(|outcome| to_json(&outcome.value).unwrap()), effects.list())
}

#[test]
fn system_functions_describe_the_machine() {
    for (text, wanted) in [
        ("system::hostname()", json!("rack-3")),
        ("fn version() { system::facts().version } version() == BTY.version", json!(true)),
        (
            "let c = system::cmdline(); [c[\"bty.mac\"], c.quiet, c[\"bty.note\"]]",
            json!(["52:54:00:00:00:01", true, "a"]),
        ),
        ("let d = system::dmi(); [d.vendor, d.product, d.serial]", json!(["ACME", "Rack", null])),
        ("system::time()", json!("2026-11-24T08:30:00Z")),
        ("let a = system::now(); sleep(90); system::now() - a", json!(90)),
        ("system::inventory().disks.map(|d| d.serial)", json!(["S1"])),
        ("disks().map(|d| d.path)", json!(["/dev/sda"])),
        ("disks::wait(\"serial:LATE\", 10).path", json!("/dev/sdb")),
        (
            "let d = disks::by_serial(\"S1\"); [d.model, d.vendor, d.kind, d.is_used, \
             d.logical_sector_bytes, d.contents]",
            json!(["Small", null, "disk", false, 512, "GPT, 1: ext4 \"old\", 1.0 GiB"]),
        ),
        ("disks()[0].partitions[0].size_bytes == size(\"1G\")", json!(true)),
    ] {
        assert_eq!(run(text).0.unwrap_or_else(|e| panic!("{text}: {e}")), wanted, "{text}");
    }
}

#[test]
fn images_and_catalogs_open_by_every_reference() {
    for (text, wanted) in [
        ("images::open(\"/images/a.img\").name", json!("a.img")),
        (
            "let i = images::open(\"oras://registry.example/os/a:1\"); [i.format, i.source_bytes, \
             i.disk_bytes, i.table]",
            json!(["zstd", 1u64 << 30, 4u64 << 30, "gpt"]),
        ),
        ("images::list(\"/images\").map(|f| f.name)", json!(["a.img", "broken.img"])),
        ("images::read_fully(images::open(\"/images/a.img\")).disk_bytes", json!(4u64 << 30)),
        ("images::architecture(\"debian-amd64.img\")", json!("x86_64")),
        (
            "let e = catalog::load(\"lab.toml\").find(\"a\"); [e.name, e.size_bytes, e.sha256]",
            json!(["a", 1u64 << 30, null]),
        ),
        ("catalog::parse(\"version = 1\").entries.len()", json!(0)),
        ("catalog::image_ref(\"http://H/a\") == catalog::image_ref(\"http://h/a\")", json!(true)),
        ("oci::resolve(\"oras://registry.example/os/a:1\").size_bytes", json!(1u64 << 30)),
    ] {
        assert_eq!(run(text).0.unwrap_or_else(|e| panic!("{text}: {e}")), wanted, "{text}");
    }
}

#[test]
fn images_and_disks_can_be_passed_in_every_form() {
    for image in [
        "\"/images/a.img\"",
        "images::open(\"/images/a.img\")",
        "images::list(\"/images\")[0]",
        "catalog::load(\"lab.toml\").find(\"a\")",
        "#{ src: \"/images/a.img\" }",
    ] {
        for disk in ["\"serial:S1\"", "disks()[0]", "[disks::by_serial(\"S1\")]", "[\"/dev/sda\"]"]
        {
            let (result, effects) = run(&format!("flash({image}, {disk}).is_success"));
            assert_eq!(result.unwrap_or_else(|e| panic!("{image} {disk}: {e}")), json!(true));
            assert!(matches!(
                effects.as_slice(),
                [Effect::Flash { targets, .. }] if targets[0].serial.as_deref() == Some("S1")
            ));
        }
    }
}

#[test]
fn a_refused_flash_has_a_reason_and_no_effect() {
    for (text, kind, reason) in [
        (
            "flash(\"/images/none.img\", \"serial:S1\")",
            "source",
            "the simulated machine has no /images/none.img",
        ),
        ("flash(\"/images/broken.img\", \"serial:S1\")", "source", "nobody answers"),
        ("flash(#{}, \"serial:S1\")", "usage", "has no src"),
        ("flash(\"/images/a.img\", 7)", "usage", "as a disk"),
        ("flash(\"/images/a.img\", [])", "refused", "there is no target"),
        (
            "flash(\"/images/a.img\", [\"serial:S1\", \"/dev/sda\"])",
            "refused",
            "named more than once",
        ),
        ("images::open(\"/images/a.img\", \"00\")", "usage", "00"),
        ("verify(\"/images/a.img\", disks() + disks())", "usage", "expected one disk"),
    ] {
        let (result, effects) = run(text);
        let error = result.expect_err(text);
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.message.contains(reason), "{text}: {error}");
        assert!(effects.is_empty() && error.place.is_some(), "{text}");
    }
}

#[test]
fn images_are_packed_checked_and_created_from_disks() {
    let (result, effects) = run("let image = images::open(\"/images/a.img\"); \
        let options = #{ level: 9, frame_bytes: \"128K\" }; \
        let packed = images::pack(image, \"/none/a.img.zst\", options); \
        let created = images::create(\"serial:S1\", \"/none/backup.qcow2\"); \
        [packed.source, packed.disk_bytes == size(\"4G\"), packed.frames, \
         images::check_packed(image).disk_bytes, created.format, created.disk.serial]");
    assert_eq!(result.unwrap(), json!(["/images/a.img", true, 32768, 4u64 << 30, "qcow2", "S1"]));
    let shown: Vec<String> = effects.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "pack /images/a.img to /none/a.img.zst",
            "create the image /none/backup.qcow2 of /dev/sda"
        ]
    );
    let effect = serde_json::to_value(&effects[1]).unwrap();
    assert_eq!(
        (&effect["effect"], &effect["disk"]["serial"]),
        (&json!("create_image"), &json!("S1"))
    );
}

#[test]
fn images_that_cannot_be_packed_or_created_are_refused() {
    for (text, kind, reason) in [
        ("images::pack(\"/images/a.img\", \"/none/a.img\")", "refused", "not a name for a packed"),
        ("images::pack(\"/images/a.img\", \"/a.zst\", #{ level: 20 })", "usage", "level 20"),
        ("images::pack(\"/images/a.img\", \"/a.zst\", #{ level: \"9\" })", "usage", "a number"),
        ("images::pack(\"/images/a.img\", \"/a.zst\", #{ frame_bytes: 5 })", "usage", "of 5 bytes"),
        (
            "images::pack(\"/images/a.img\", \"/a.zst\", #{ levle: 1 })",
            "usage",
            "option levle of pack",
        ),
        ("images::create(disks()[0], \"/none/a.txt\")", "refused", "does not end like an image"),
        ("images::create(disks()[0], \"/a.img\", #{ shrink: 1 })", "usage", "true or false"),
        ("images::create(disks()[0], \"/a.img\", #{ fit: true })", "usage", "option fit of create"),
        ("images::open(\"/images/a.img\", #{ sha265: \"0\" })", "usage", "option sha265 of open"),
        ("images::open(\"/images/a.img\", #{ sha256: 5 })", "usage", "must be a string"),
        ("images::open(\"/images/a.img\", #{ compute_sha256: 1 })", "usage", "true or false"),
    ] {
        let (result, effects) = run(text);
        let error = result.expect_err(text);
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.message.contains(reason), "{text}: {error}");
        assert!(effects.is_empty() && error.place.is_some(), "{text}");
    }
    let fine = "images::open(\"/images/a.img\", #{ compute_sha256: true, ignore_sidecar: true, \
                ignore_trailing: true, member: \"x\", sha256: () }).name";
    assert_eq!(run(fine).0.unwrap(), json!("a.img"));
}

#[test]
fn refusals_and_warnings_say_what_helps() {
    let text = "let part = disks()[0]; let p = flash::plan(\"/images/a.img\", \"serial:S1\"); \
                [part.refusals(), part.refusals(#{ overwrite: true }), p.validate(), p.remedies()]";
    assert_eq!(run(text).0.unwrap(), json!([[], [], [], ["fix_gpt"]]));
    let text = "let p = flash::plan(\"/images/a.img\", []); let r = p.validate()[0]; \
                [r.target, r.reason, r.remedy]";
    assert_eq!(run(text).0.unwrap(), json!([null, "no_target", "list_disks"]));
    assert_eq!(run("disks()[0].refusals(#{ oops: true })").0.unwrap_err().kind(), "usage");
    let text = "let found = (); try { throw \"x\" } catch (e) { found = [e.remedy] } found";
    assert_eq!(run(text).0.unwrap(), json!([null]));
}

#[test]
fn a_report_names_its_proof_and_what_the_disk_held() {
    let text = "let t = flash(\"/images/a.img\", \"serial:S1\").targets[0]; [t.proof, t.delta]";
    assert_eq!(run(text).0.unwrap(), json!(["full", null]));
    let text = "flash(\"/images/a.img\", \"serial:S1\", #{ verify: false }).targets[0].proof";
    assert_eq!(run(text).0.unwrap(), json!("none"));
}

#[test]
fn verify_detects_the_flashed_image() {
    let text = "let before = verify(\"/images/a.img\", \"serial:S1\"); flash(\"/images/a.img\", \
                \"serial:S1\"); \
        let after = verify(\"/images/a.img\", \"serial:S1\"); [before.is_equal, \
        before.first_difference.offset, after.is_equal, after.first_difference]";
    assert_eq!(run(text).0.unwrap(), json!([false, 0, true, null]));
}

#[test]
fn http_functions_exchange_json() {
    assert_eq!(run("http::get_json(\"http://h/order\").serial").0.unwrap(), json!("S1"));
    // 64-bit numbers are exact in both directions
    assert_eq!(run("http::get_json(\"http://h/order\").large").0.unwrap(), json!(u64::MAX));
    let (result, effects) = run("http::post_json(\"http://h/done\", #{ disk: disks()[0].serial })");
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind(), error.message.as_str()),
        ("source", "http://h/done answered 409: \"too late\"")
    );
    assert!(matches!(
        effects.as_slice(), [Effect::Post { body, .. }] if *body == json!({ "disk": "S1" }),
    ));
    assert_eq!(run("http::post_json(\"http://h/done\", || 1)").0.unwrap_err().kind(), "usage");
}

#[test]
fn the_packed_form_of_an_image_is_used_unless_it_fails_or_delta_is_never() {
    const PUBLISHED: &str = "oras://registry.example/os/a:1";
    let image = |packed: &str, more: &str| {
        let index = "ab".repeat(32);
        format!(
            "#{{ src: \"{PUBLISHED}\", packed: \"{packed}\", index_sha256: \"{index}\"{more} }}"
        )
    };
    let never = ", delta: \"never\", proven_disk: true";
    for (image, options, source) in [
        (image("/images/a.img", ""), "#{}", "/images/a.img"),
        (image("/images/broken.img", ""), "#{}", PUBLISHED),
        (image("/images/evicted.img", ""), "#{}", PUBLISHED),
        (image("/images/a.img", ""), "#{ delta: \"never\" }", PUBLISHED),
        (image("/images/a.img", never), "#{}", PUBLISHED),
        // the options of the script win
        (image("/images/a.img", never), "#{ delta: \"always\" }", "/images/a.img"),
    ] {
        let text = format!("flash::plan({image}, \"serial:S1\", {options}).image.source");
        assert_eq!(run(&text).0.unwrap(), json!(source), "{text}");
    }
}

#[test]
fn options_of_a_delta_flash_are_checked() {
    let flash = |options: &str| run(&format!("flash(\"/images/a.img\", \"serial:S1\", {options})"));
    for options in ["#{ delta: \"sometimes\" }", "#{ delta: true }", "#{ stash: \"much\" }"] {
        let (result, effects) = flash(options);
        assert_eq!(result.expect_err(options).kind(), "usage", "{options}");
        assert!(effects.is_empty());
    }
    let valid = "#{ delta: \"never\", stash: \"16M\", proven_disk: true }";
    assert!(flash(valid).0.is_ok());
}

#[test]
fn a_disk_is_erased_by_the_flasher_of_the_world() {
    for (call, way) in [("", "zeros"), (", \"random\"", "random"), (", \"discard\"", "discard")] {
        let (result, effects) = run(&format!("disks::erase(\"serial:S1\"{call})"));
        let report = result.unwrap();
        assert_eq!((&report["way"], &report["is_attested"]), (&json!(way), &json!(false)));
        let all = json!(8_u64 << 30);
        assert_eq!((&report["erased_bytes"], &report["verified_bytes"]), (&all, &all));
        assert!(
            matches!(effects.as_slice(), [Effect::Erase { disk, way: by }] if disk.serial.as_deref() == Some("S1") && by.as_str() == way)
        );
        assert_eq!(effects[0].to_string(), format!("erase /dev/sda (serial S1) ({way})"));
    }
    for (way, kind) in [("nvme_format", "refused"), ("quickly", "usage")] {
        let (result, effects) = run(&format!("disks::erase(\"serial:S1\", \"{way}\")"));
        assert_eq!(result.unwrap_err().kind(), kind, "{way}");
        assert!(effects.is_empty());
    }
}
