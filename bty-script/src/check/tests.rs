use std::fs;

use super::*;
use crate::{Limits, ScriptContext};

fn findings(text: &str, root: &ImportRoot) -> Vec<String> {
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    let script = engine.compile("script.rhai", text, root).unwrap();
    let line = |f: Finding| {
        let at = f.place.map(|p| format!("{}:{}:{}", p.file, p.line, p.column)).unwrap_or_default();
        format!(
            "{at}: {}{}",
            f.message,
            f.hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
        )
    };
    check(&engine, &script).into_iter().map(line).collect()
}

#[test]
fn a_good_script_has_no_findings() {
    let text = r#"
        import "confirm" as confirm;
        let usb = disks().filter(|d| d.transport == "usb" && !d.is_used);
        for disk in usb {
            print(`${disk.path} ${disk.size_bytes / 2}`); helper(disk); disk.helper2(1);
        }
        fn helper(d) { d.size_bytes.to_string().to_upper() }
        fn helper2(n) { this.path + n }
        let f = |x| x + 1;
        f.call(2);
        let plan = flash::plan("a.img", usb);
        if plan.validate().is_empty() { plan.execute(|e| print(e)); }
        confirm::confirm_flash(#{}, plan);
    "#;
    let found = findings(text, &ImportRoot::Bundled);
    // the arguments of the bundled script are not the subject of this test
    assert!(found.iter().all(|f| f.contains("confirm::")), "{found:?}");
}

#[test]
fn unknown_functions_and_wrong_argument_counts_are_found_with_their_place() {
    let found = findings(
        "let d = disks::by_serail(\"X\");\nflash(\"a\");\nfn wait() { slep(1) \
         }\nd.validate(1);\nnowhere(2);",
        &ImportRoot::None,
    );
    assert_eq!(
        found,
        [
            "script.rhai:1:16: there is no function disks::by_serail (did you mean by_serial?)",
            "script.rhai:2:1: wrong number of arguments for flash: expected 2, 3 or 4, got 1",
            "script.rhai:3:13: there is no function slep (did you mean sleep?)",
            "script.rhai:4:3: wrong number of arguments for validate: expected 0, got 1",
            "script.rhai:5:1: there is no function nowhere",
        ]
    );
}

#[test]
fn comparisons_that_fail_are_found() {
    let found = findings(
        "fn f(d, x) {\nd.size_bytes.bytes > \"100G\";\nd.size_bytes > \"big\";\n\"4096\" == \
         d.logical_sector_bytes;\nd.size_bytes < ();\n\
         switch d.size_bytes { \"1G\" => 1 }\nsize(\"1G\") <= [];\nd.size_bytes.bytes in [1, \
         \"2G\"];\n}",
        &ImportRoot::None,
    );
    let wanted = [
        "script.rhai:2:20: cannot compare a number and a string with > (use size(",
        "script.rhai:3:14: \"big\" is not a size",
        "script.rhai:4:8: cannot compare a string and a number with ==",
        "script.rhai:5:14: cannot compare () with < (check x == ()",
        "script.rhai:6:1: a size never matches a case of switch",
        "script.rhai:7:12: cannot compare a size and an array with <=",
        "script.rhai:8:20: cannot compare a string and a number with ==",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for (line, begin) in found.iter().zip(wanted) {
        assert!(line.starts_with(begin), "{line} is not {begin}");
    }
    let fine = "fn f(d, p) { d.size_bytes > \"100G\"; d.size_bytes == (); p.disk == \"auto\"; p.n \
                == \"all\"; d.serial == \"1\"; d.size_bytes > 1e9 }";
    assert_eq!(findings(fine, &ImportRoot::None), [""; 0]);
}

#[test]
fn imports_are_resolved_only_below_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.rhai"), "fn x() {}").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/good.rhai"), "fn twice(x) { x * 2 }").unwrap();
    fs::write(dir.path().join("bad.rhai"), "fn f() { oops() }").unwrap();
    fs::write(dir.path().join("broken.rhai"), "fn f( {").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.rhai"), dir.path().join("link.rhai"))
        .unwrap();
    let root = ImportRoot::Directory(dir.path().to_owned());
    assert!(findings("import \"sub/good\" as g; g::twice(2);", &root).is_empty());
    let up = format!("../{}/secret", outside.path().file_name().unwrap().to_str().unwrap());
    let absolute = outside.path().join("secret").display().to_string();
    for (text, why) in [
        ("import \"sub/good\" as g; g::twice(2, 3);".to_owned(), "expected 1, got 2"),
        ("import \"sub/good\" as g; g::twyce(2);".to_owned(), "did you mean twice?"),
        ("import \"bad\" as b; b::f();".to_owned(), "there is no function oops"),
        ("import \"broken\" as b; b::f();".to_owned(), "broken.rhai:1"),
        ("import \"gone\" as g;".to_owned(), "gone.rhai is not in"),
        ("import \"link\" as l;".to_owned(), "a file outside the directory"),
        (format!("import \"{up}\" as l;"), "only from their own directory"),
        (format!("import \"{absolute}\" as l;"), "only from their own directory"),
    ] {
        let found = findings(&text, &root);
        assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}");
    }
}

#[test]
fn bundled_scripts_have_no_findings() {
    let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
    for name in crate::bundled::names() {
        let script = engine.compile_bundled(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let found: Vec<String> = check(&engine, &script).iter().map(|f| format!("{f:?}")).collect();
        assert!(found.is_empty(), "{name}: {}", found.join("\n"));
    }
}

#[test]
fn unknown_fields_of_known_types_are_found() {
    let text = "let d = disks::by_serial(\"X\");\nd.transprt;\n\
                disks().filter(|d| d.sice_bytes > 5);\nfor e in catalog::load(\"c\").entries { \
                e.nme }\nfn f() { disks()[0].serail }\nflash(\"a\", d).target;\n\
                disks::list().order(|a, b| b.size_bites - a.size_bytes);\n\
                let all = disks(); let x = all.filter(|d| d.is_used)[0]; x.serial.len(); x.nope";
    assert_eq!(
        findings(text, &ImportRoot::None),
        [
            "script.rhai:2:3: Disk has no field transprt (did you mean transport?)",
            "script.rhai:3:22: Disk has no field sice_bytes (did you mean size_bytes?)",
            "script.rhai:4:41: Entry has no field nme (did you mean name?)",
            "script.rhai:5:21: Disk has no field serail (did you mean serial?)",
            "script.rhai:6:15: Report has no field target (did you mean targets?)",
            "script.rhai:7:30: Disk has no field size_bites (did you mean size_bytes?)",
            "script.rhai:8:76: Disk has no field nope (bty docs Disk lists its fields)",
        ]
    );
}

#[test]
fn a_switch_on_a_variable_that_holds_a_size_is_found() {
    let text = "let s = disks()[0].size_bytes;\nswitch s { \"1G\" => 1, _ => 2 }\n\
                let n = s.bytes;\n\
                switch n { 1 => 1 }";
    let wanted = "script.rhai:2:1: a size never matches a case of switch (use if, or switch on its \
                  .bytes)";
    assert_eq!(findings(text, &ImportRoot::None), [wanted]);
}

#[test]
fn every_form_of_a_switch_on_a_size_is_found() {
    let wanted = "a size never matches a case of switch";
    for text in [
        "switch size(\"1G\") { 1 => 1, _ => 2 }",
        "switch disks()[0].size_bytes { \"1G\" => 1, _ => 2 }",
        "let d = disks::by_serial(\"X\"); switch d.size_bytes { \"1G\" => 1, _ => 2 }",
        "let d = disks::by_serial(\"X\"); let s = d.size_bytes * 2; switch s { 1 => 1, _ => 2 }",
        "let s = size(5); let x = switch s { 5 => 1, _ => 2 };",
        "switch images::open(\"a\").disk_bytes { \"1G\" => 1, _ => 2 }",
        "for d in disks() { switch d.size_bytes { \"1G\" => 1, _ => 2 } }",
        "disks().map(|d| switch d.size_bytes { \"1G\" => 1, _ => 2 })",
        "fn f() { let r = flash(\"a\", \"b\"); switch r.disk_bytes { 1 => 1, _ => 2 } }",
    ] {
        let found = findings(text, &ImportRoot::None);
        assert!(found.len() == 1 && found[0].contains(wanted), "{text}: {found:?}");
    }
}

#[test]
fn unknown_options_of_packing_and_creating_are_found() {
    let text = "images::pack(\"a\", \"b.zst\", #{ levle: 1 });\n\
                images::create(\"a\", \"b.img\", #{ shrinc: true });";
    assert_eq!(
        findings(text, &ImportRoot::None),
        [
            "script.rhai:1:31: unknown option levle of pack (did you mean level?)",
            "script.rhai:2:33: unknown option shrinc of create (did you mean shrink?)",
        ]
    );
}

#[test]
fn fields_of_values_of_an_uncertain_type_are_not_judged() {
    let text = "let d = disks()[0];\nd = #{ mine: 1 };\nd.mine;\nlet m = #{ disk: disks()[0] };\n\
                m.disk.mine;\nfn f(p) { p.anything.at.all }\nfor x in [1] { x.y }\n\
                fn flash(a, b) { #{} }\nflash(1, 2).mine;\n\
                http::get_json(\"u\").items[0].mine;\nimages::read_fully(images::open(\"a\")).x;\n\
                disks().map(|d| #{ a: d.path }).filter(|m| m.a == \"x\")";
    assert_eq!(findings(text, &ImportRoot::None), [""; 0]);
}

#[test]
fn unknown_keys_of_option_maps_are_found() {
    let text = "flash(\"a\", \"d\", #{ verfy: false });\n\
                flash::plan(#{ src: \"a\", sha265: \"x\" }, \"d\", #{ uefi_boot: true });\n\
                images::open(\"a\", #{ md5: \"x\" });\n\
                let o = #{ anything: 1 }; flash(\"a\", \"d\", o)";
    assert_eq!(
        findings(text, &ImportRoot::None),
        [
            "script.rhai:1:20: unknown option verfy of flash (did you mean verify?)",
            "script.rhai:2:26: unknown key sha265 of plan (did you mean sha256?)",
            "script.rhai:3:22: unknown option md5 of open (the keys are sha256, sha512, \
             image_sha256, index_sha256, ignore_sidecar, member, ignore_trailing, compute_sha256)",
        ]
    );
}
