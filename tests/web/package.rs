//! The Debian package: its contents, installation, and removal, which keeps the state. It contains
//! the programs of the tests; published packages contain static ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use bty_tests::command::tool;
use bty_tests::web::web_path;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

#[test]
fn the_debian_package_installs_runs_and_leaves_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut build = Command::new(file("debian/build"));
    std::fs::create_dir(at("site")).unwrap();
    std::fs::write(at("site/index.html"), "the documentation").unwrap();
    build.arg(web_path().parent().unwrap()).arg(at("out")).env("SITE", at("site"));
    // the compression of published packages is better and takes forty seconds
    let built = build
        .envs([("DPKG_DEB_COMPRESSOR_TYPE", "gzip"), ("DPKG_DEB_COMPRESSOR_LEVEL", "1")])
        .status();
    assert!(built.unwrap().success());
    let package = std::fs::read_dir(at("out")).unwrap().next().unwrap().unwrap().path();
    let package = package.to_str().unwrap();
    assert!(
        package.ends_with(&format!("bty_{}_amd64.deb", env!("CARGO_PKG_VERSION"))),
        "{package}"
    );

    let lintian =
        Command::new("lintian").args(["--allow-root", "--fail-on", "error", package]).output();
    let lintian = lintian.expect("the Debian package lintian is installed");
    assert!(lintian.status.success(), "{}", String::from_utf8_lossy(&lintian.stdout));

    // install into another root directory, with its own package database
    let root = at("root");
    for part in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/bty", "etc"] {
        std::fs::create_dir_all(format!("{root}/{part}")).unwrap();
    }
    std::fs::write(format!("{root}/var/lib/dpkg/status"), "").unwrap();
    std::fs::write(format!("{root}/var/lib/bty/state.db"), "kept").unwrap();
    let dpkg = |arguments: &[&str]| {
        // dpkg tells the maintainer scripts about the root, so they do not touch the running system
        let rooted = format!("--root={root}");
        let common =
            ["dpkg", &rooted, "--force-depends", "--force-script-chrootless", "--force-not-root"];
        tool(&[&common[..], arguments].concat())
    };
    dpkg(&["-i", package]);
    let version = tool(&[&format!("{root}/usr/bin/bty-web"), "--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let _ = tool(&[&format!("{root}/usr/bin/bty"), "disks"]);
    let page = tool(&["sh", "-c", &format!("zcat {root}/usr/share/man/man1/bty-web.1.gz")]);
    assert!(page.contains("check\\-config"), "{page}");
    let site = format!("{root}/usr/share/doc/bty/site/index.html");
    assert_eq!(std::fs::read_to_string(site).unwrap(), "the documentation");
    for unit in ["bty-web", "bty-cache", "bty-tftp"] {
        let text =
            std::fs::read_to_string(format!("{root}/lib/systemd/system/{unit}.service")).unwrap();
        let program = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let program = program.split(' ').next().unwrap();
        assert!(Path::new(&format!("{root}{program}")).exists(), "{program} is in the package");
        let copy = at(&format!("{unit}.service"));
        std::fs::write(&copy, text.replace(program, &format!("{root}{program}"))).unwrap();
        let output =
            Command::new("systemd-analyze").args(["verify", "--man=no", &copy]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains(unit), "{said}");
    }
    // an upgrade keeps changes of the operator
    let own = format!("{root}/etc/bty/bty.toml");
    std::fs::write(&own, "[server]\nport = 9000\n").unwrap();
    dpkg(&["-i", package]);
    assert!(std::fs::read_to_string(&own).unwrap().contains("9000"));
    dpkg(&["-r", "bty"]);
    assert!(!Path::new(&format!("{root}/usr/bin/bty-web")).exists());
    assert!(Path::new(&own).exists(), "until it is purged");
    dpkg(&["-P", "bty"]);
    assert!(!Path::new(&own).exists());
    assert_eq!(std::fs::read_to_string(format!("{root}/var/lib/bty/state.db")).unwrap(), "kept");
}
