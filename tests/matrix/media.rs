//! The products of `media/build`.

use std::path::Path;

use bty_tests::command::tool;
use bty_tests::media::full_product;

#[test]
#[ignore = "long: make test-all"]
fn the_same_inputs_give_the_same_bytes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let again = tempfile::tempdir_in(root.join("target")).unwrap();
    let at = |name: &str| again.path().join(name).display().to_string();
    let names = ["netboot-pc", "ramdisk", "usbboot-pc", "chain"];
    let files: Vec<_> = names.iter().flat_map(|name| full_product(name, "x86_64")).collect();
    // the package lists and packages are inputs; everything else is rebuilt
    let work = root.join("target/media-work");
    std::fs::create_dir(at("work")).unwrap();
    tool(&["cp", "-a", work.join("debian-trixie-amd64").to_str().unwrap(), &at("work")]);
    tool(&["rm", "-r", &at("work/debian-trixie-amd64/roots")]);
    let programs = work.join("programs-x86_64");
    let build = root.join("media/build");
    let options =
        ["--out", &at("out"), "--work", &at("work"), "--programs", programs.to_str().unwrap()];
    tool(&[&[build.to_str().unwrap()][..], &options, &names].concat());
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(
            std::fs::read(&file).unwrap() == std::fs::read(at(&format!("out/{name}"))).unwrap(),
            "{name}"
        );
    }
}
