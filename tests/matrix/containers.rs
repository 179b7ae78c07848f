//! Published container images, and sites that are deployed without root, by podman-compose or by
//! systemd.

use std::path::{Path, PathBuf};

use bty_tests::command::{Outcome, tool};
use bty_tests::podman::{Podman, archive, build, lab_path};
use bty_tests::registry::Registry;
use bty_tests::{LIMIT, eventually};
use serde_json::Value;

use crate::lab::images::{IMAGES, name};
use crate::lab::site::Host;

#[test]
#[ignore = "long: make test-all"]
fn the_same_inputs_give_the_same_layers() {
    let layers = |podman: &Podman| {
        IMAGES.map(|image| {
            podman
                .run(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", &name(image)])
                .expect(0)
                .stdout
        })
    };
    let podman = Podman::loaded();
    let first = layers(&podman);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let out = podman.dir().join("out");
    // the package lists are an input, everything else is rebuilt
    let work = podman.dir().join("work");
    std::fs::create_dir(&work).unwrap();
    let from = root.join("target/images-work");
    tool(&["cp", "-a", from.join("debian-trixie-amd64").to_str().unwrap(), work.to_str().unwrap()]);
    let programs = from.join("programs-x86_64");
    let options = [
        "--out",
        out.to_str().unwrap(),
        "--work",
        work.to_str().unwrap(),
        "--programs",
        programs.to_str().unwrap(),
    ];
    build(&options);
    let again = Podman::new();
    let file = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let _ = again.run(&["load", "--quiet", "--input", file.to_str().unwrap()]).expect(0);
    assert_eq!(layers(&again), first);
}

#[test]
#[ignore = "long: make test-all"]
fn images_are_pushed_as_lists_of_architectures() {
    let (registry, dir) = (Registry::start(), tempfile::tempdir().unwrap());
    let prefix = format!("{}/site", registry.host());
    build(&["--push", &prefix, "--plain-http", "--out", dir.path().to_str().unwrap()]);
    let url = format!(
        "http://{}/v2/site/bty-web/manifests/{}",
        registry.host(),
        env!("CARGO_PKG_VERSION")
    );
    let accept = "Accept: application/vnd.docker.distribution.manifest.list.v2+json, \
                  application/vnd.oci.image.index.v1+json";
    let list: Value = serde_json::from_str(&tool(&["curl", "-sS", "-H", accept, &url])).unwrap();
    assert_eq!(list["manifests"][0]["platform"]["architecture"], "amd64", "{list}");
}
#[test]
#[ignore = "long: make test-all"]
fn without_root_a_site_is_its_users_own_and_has_no_tftp() {
    let host = Host::new(Podman::new());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/rootless.sh");
    let (archive, program) = (archive().display().to_string(), lab_path().display().to_string());
    let home = host.podman.dir().join("home").display().to_string();
    let words = ["--mount", "sh", script.to_str().unwrap(), &home, &program, &archive];
    let mut command = host.podman.command("unshare", &words);
    let run = Outcome::from(host.ns.run(|| command.output().unwrap())).expect(0);
    for said in [
        "TFTP      disabled: needs root",
        "no problems found",
        "4243 site/data/bty/state.db",
        "done",
    ] {
        assert!(run.stdout.contains(said), "{said} is not in {}{}", run.stdout, run.stderr);
    }
}

/// A podman-compose that supports profiles; that of Debian 12 does not.
fn podman_compose() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/podman-compose");
    let program = dir.join("bin/podman-compose");
    if !program.exists() {
        tool(&["python3", "-m", "venv", dir.to_str().unwrap()]);
        tool(&[
            dir.join("bin/pip").to_str().unwrap(),
            "install",
            "--quiet",
            "podman-compose==1.6.0",
        ]);
    }
    program
}

#[test]
#[ignore = "long: make test-all"]
fn compose_starts_the_same_services() {
    let host = Host::new(Podman::loaded());
    let _ = host.lab(&["init", "site"]).expect(0);
    let program = podman_compose();
    let compose = |arguments: &[&str]| {
        let all = [&["--env-file", "envvars"], arguments].concat();
        let mut command = host.podman.command(program.to_str().unwrap(), &all);
        Outcome::from(host.ns.run(|| command.current_dir(host.site()).output().unwrap()))
    };
    let up = compose(&["up", "-d"]).expect(0);
    println!("{up:?}");
    eventually(LIMIT, "the doctor finds all three services well", || {
        let doctor = host.lab(&["doctor", "site", "--json"]);
        let found: Vec<Value> = serde_json::from_str(&doctor.stdout).unwrap();
        let mut services = found.iter().filter(|finding| finding["check"] == "services");
        (services.clone().count() == 3 && services.all(|finding| finding["level"] == "ok"))
            .then_some(())
    });
    let _ = compose(&["down"]).expect(0);
}

/// Quadlet from the podman package of Debian 13, because that of Debian 12 does not include it.
fn quadlet() -> PathBuf {
    let script = "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, \
                  sys.argv[1] + '/media')\n\
                  from pathlib import Path; from builder.debian import Archive\n\
                  print(Archive(Path(sys.argv[1] + '/target/images-work'), 'amd64', \
                  'trixie').get('podman').root)";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::create_dir_all(root.join("target/images-work")).unwrap();
    let dir = tool(&["python3", "-c", script, root.to_str().unwrap()]);
    Path::new(dir.trim()).join("usr/libexec/podman/quadlet")
}

#[test]
#[ignore = "long: make test-all"]
fn quadlet_and_systemd_understand_the_units() {
    let host = Host::new(Podman::new());
    let _ = host.lab(&["init", "site", "--systemd"]).expect(0);
    let mut command = host.podman.command(quadlet().to_str().unwrap(), &["-dryrun"]);
    let said = Outcome::from(
        command.env("QUADLET_UNIT_DIRS", host.site().join("quadlet")).output().unwrap(),
    )
    .expect(0);
    let units: Vec<(&str, &str)> = said
        .stdout
        .split("---")
        .skip(1)
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|two| (two[0], two[1]))
        .collect();
    assert_eq!(
        units.iter().map(|unit| unit.0).collect::<Vec<_>>(),
        ["bty-cache.service", "bty-tftp.service", "bty-web.service"]
    );
    for (name, text) in units {
        let hard =
            ["--read-only", "--cap-drop all", "--security-opt=no-new-privileges", "--network host"];
        assert!(hard.iter().all(|word| text.contains(word)), "{text}");
        let file = host.podman.dir().join(name);
        std::fs::write(&file, text).unwrap();
        let verified = host
            .podman
            .command("systemd-analyze", &["verify", "--man=no", file.to_str().unwrap()])
            .output()
            .unwrap();
        let verified = Outcome::from(verified).expect(0);
        assert!(!verified.stderr.contains("Unknown key"), "{}", verified.stderr);
    }
}
