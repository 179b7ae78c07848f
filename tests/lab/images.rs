//! What is in the images, and what they can do.

use bty_tests::command::tool;
use bty_tests::netns::Netns;
use bty_tests::podman::{Podman, build};
use bty_tests::registry::Registry;
use serde_json::Value;

const IMAGES: [&str; 3] = ["bty-web", "bty-cache", "bty-tftp"];

fn name(image: &str) -> String {
    format!("localhost/{image}:{}", env!("CARGO_PKG_VERSION"))
}

#[test]
#[ignore = "long: make test-chain"]
fn images_have_one_program_no_shell_and_nobody_who_is_root() {
    let podman = Podman::loaded();
    for image in IMAGES {
        let said: Value =
            serde_json::from_str(&podman.run(&["image", "inspect", &name(image)]).expect(0).stdout).unwrap();
        let said = &said[0];
        assert_eq!(said["Config"]["User"], "1000:1000");
        assert_eq!(said["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(said["Labels"]["org.opencontainers.image.revision"].as_str().unwrap().len(), 40);
        assert!(said["Healthcheck"]["Test"].to_string().contains("health"), "{said}");
        assert!(said["Config"]["Volumes"].as_object().map_or(0, serde_json::Map::len) <= 1);
        let dir = podman.run(&["image", "mount", &name(image)]).expect(0).stdout;
        let files = tool(&["find", dir.trim(), "-type", "f", "-printf", "%m %U %P\\n"]);
        let programs: Vec<&str> = files.lines().filter(|line| line.starts_with("755")).collect();
        assert_eq!(programs, ["755 0 usr/bin/bty-web"], "nothing else can be run");
        assert!(files.contains(&format!("usr/share/doc/bty/{image}.spdx.json")), "{files}");
        assert!(!files.contains(" bin/"), "{files}");
        let parts = std::fs::read_to_string(format!("{}/usr/share/doc/bty/{image}.spdx.json", dir.trim())).unwrap();
        let parts: Value = serde_json::from_str(&parts).unwrap();
        let names: Vec<&str> =
            parts["packages"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
        assert!(["bty-web", "tokio", "ca-certificates"].iter().all(|wanted| names.contains(wanted)), "{names:?}");
    }
}

#[test]
#[ignore = "long: make test-chain"]
fn the_same_inputs_give_the_same_layers() {
    let layers = |podman: &Podman| {
        IMAGES.map(|image| {
            podman.run(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", &name(image)]).expect(0).stdout
        })
    };
    let podman = Podman::loaded();
    let first = layers(&podman);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let out = podman.dir().join("out");
    // the lists of the archive are an input, everything else is made again
    let work = podman.dir().join("work");
    std::fs::create_dir(&work).unwrap();
    let from = root.join("target/images-work");
    tool(&["cp", "-a", from.join("debian-trixie-amd64").to_str().unwrap(), work.to_str().unwrap()]);
    let programs = from.join("programs-x86_64");
    let options =
        ["--out", out.to_str().unwrap(), "--work", work.to_str().unwrap(), "--programs", programs.to_str().unwrap()];
    build(&options);
    let again = Podman::new();
    let file = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let _ = again.run(&["load", "--quiet", "--input", file.to_str().unwrap()]).expect(0);
    assert_eq!(layers(&again), first);
}

#[test]
#[ignore = "long: make test-chain"]
fn each_image_runs_with_nothing_writable_but_its_state() {
    let (podman, ns) = (Podman::loaded(), Netns::new());
    for image in IMAGES {
        let state = podman.dir().join(image);
        std::fs::create_dir(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(1000), Some(1000)).unwrap();
        let volume = format!("{}:/var/lib/{}", state.display(), if image == "bty-web" { "bty" } else { image });
        let hard = [
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=all",
            "--cap-add=net_bind_service",
            "--security-opt=no-new-privileges",
        ];
        let own = ["run", "--detach", "--network=host", "--name", image, "--volume", &volume];
        ns.run(|| {
            let _ = podman.run(&[&own[..], &hard, &[name(image).as_str()]].concat()).expect(0);
            let well = || podman.run(&["healthcheck", "run", image]).code == 0;
            let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while !well() {
                assert!(std::time::Instant::now() < until, "{image}: {:?}", podman.run(&["logs", image]));
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        });
        let written = podman.run(&["diff", image]).expect(0).stdout;
        assert!(written.lines().all(|line| !line.contains("usr") && !line.contains("/etc/bty")), "{written}");
        let _ = podman.run(&["rm", "--force", "--time=10", image]).expect(0);
    }
}

#[test]
#[ignore = "long: make test-chain"]
fn images_are_pushed_as_lists_of_architectures() {
    let (registry, dir) = (Registry::start(), tempfile::tempdir().unwrap());
    let prefix = format!("{}/site", registry.host());
    build(&["--push", &prefix, "--plain-http", "--out", dir.path().to_str().unwrap()]);
    let url = format!("http://{}/v2/site/bty-web/manifests/{}", registry.host(), env!("CARGO_PKG_VERSION"));
    let accept =
        "Accept: application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json";
    let list: Value = serde_json::from_str(&tool(&["curl", "-sS", "-H", accept, &url])).unwrap();
    assert_eq!(list["manifests"][0]["platform"]["architecture"], "amd64", "{list}");
}
