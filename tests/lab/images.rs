//! Content and permissions of the container images.

use bty_tests::command::tool;
use bty_tests::netns::Netns;
use bty_tests::podman::Podman;
use bty_tests::{LIMIT, eventually};
use serde_json::Value;

pub(crate) const IMAGES: [&str; 3] = ["bty-web", "bty-cache", "bty-tftp"];

pub(crate) fn name(image: &str) -> String {
    format!("localhost/{image}:{}", env!("CARGO_PKG_VERSION"))
}

#[test]
#[ignore = "starts containers: make test-chain"]
fn images_have_one_program_no_shell_and_nobody_who_is_root() {
    let podman = Podman::loaded();
    for image in IMAGES {
        let said: Value =
            serde_json::from_str(&podman.run(&["image", "inspect", &name(image)]).expect(0).stdout)
                .unwrap();
        let said = &said[0];
        assert_eq!(said["Config"]["User"], "61069:61069");
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
        // built by `make docs`, which the target of these tests depends on
        let has_site = files.contains("usr/share/doc/bty/site/index.html");
        assert_eq!(has_site, image == "bty-web", "{files}");
        let parts =
            std::fs::read_to_string(format!("{}/usr/share/doc/bty/{image}.spdx.json", dir.trim()))
                .unwrap();
        let parts: Value = serde_json::from_str(&parts).unwrap();
        let names: Vec<&str> = parts["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert!(
            ["bty-web", "tokio", "ca-certificates"].iter().all(|wanted| names.contains(wanted)),
            "{names:?}"
        );
    }
}

#[test]
#[ignore = "starts containers: make test-chain"]
fn each_image_runs_with_nothing_writable_but_its_state() {
    let (podman, ns) = (Podman::loaded(), Netns::new());
    for image in IMAGES {
        let state = podman.dir().join(image);
        std::fs::create_dir(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(61069), Some(61069)).unwrap();
        let volume = format!(
            "{}:/var/lib/{}",
            state.display(),
            if image == "bty-web" { "bty" } else { image }
        );
        let hard = [
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=all",
            "--cap-add=net_bind_service",
            "--security-opt=no-new-privileges",
        ];
        let own = [
            "run",
            "--detach",
            "--network=host",
            "--env=BTY_ADMIN_OPEN=1",
            "--name",
            image,
            "--volume",
            &volume,
        ];
        ns.run(|| {
            let _ = podman.run(&[&own[..], &hard, &[name(image).as_str()]].concat()).expect(0);
            let begun = std::time::Instant::now();
            eventually(LIMIT, &format!("{image} is healthy"), || {
                let is_healthy = podman.run(&["healthcheck", "run", image]).code == 0;
                assert!(
                    is_healthy || begun.elapsed() < LIMIT,
                    "{image}: {:?}",
                    podman.run(&["logs", image])
                );
                is_healthy.then_some(())
            });
        });
        let written = podman.run(&["diff", image]).expect(0).stdout;
        assert!(
            written.lines().all(|line| !line.contains("usr") && !line.contains("/etc/bty")),
            "{written}"
        );
        let _ = podman.run(&["rm", "--force", "--time=10", image]).expect(0);
    }
}
