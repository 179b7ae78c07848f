//! A server whose disk is full: its responses, the state it keeps, and its recovery.

use bty_tests::loops::Mount;
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually};
use serde_json::json;

use super::pxe::MAC;

/// A server whose whole state is on a small file system.
fn small() -> (Mount, Web) {
    let mount = Mount::memory(16 << 20);
    let web = Web::with(&[("BTY_PATHS_STATE_DIR", mount.path().to_str().unwrap())]);
    (mount, web)
}

/// Fills the file system to the last byte.
fn fill(mount: &Mount) -> std::path::PathBuf {
    let path = mount.path().join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    let chunk = vec![1; 64 << 10];
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
    path
}

fn names(dir: &std::path::Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_machines_boot_their_disks() {
    let (mount, web) = small();
    let dir = mount.path().to_str().unwrap().to_owned();
    web.request("PUT", "/boot/kernel", &[], b"old").expect(200);
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);

    // larger than the free space: refused before the body is sent
    let body = vec![1; 20 << 20];
    let head = format!(
        "PUT /boot/kernel HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let why = String::from_utf8_lossy(&web.raw(head.as_bytes())).into_owned();
    assert!(why.starts_with("HTTP/1.1 507"), "{why}");
    assert!(why.contains(&format!("no space left in {dir}/boot; delete something there")), "{why}");
    // the same without a known length
    let mut chunked = b"PUT /boot/kernel HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
          Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    chunked.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
    chunked.extend_from_slice(&body);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let answer = String::from_utf8_lossy(&web.raw(&chunked)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 507"), "{answer}");
    assert_eq!(web.get("/boot/kernel").expect(200).text(), "old");
    assert_eq!(names(&mount.path().join("boot")), ["kernel"], "nothing is left of an upload");
    web.get("/healthz").expect(200);

    let ballast = fill(&mount);
    let ill = web.get("/healthz").expect(503).json();
    assert_eq!(ill["status"], "full");
    assert!(ill["detail"].as_str().unwrap().contains(&dir), "{ill}");
    let health = web.command(&["health"]).output().unwrap();
    let said = String::from_utf8_lossy(&health.stderr).into_owned();
    assert!(!health.status.success() && said.contains(&dir), "{said}");
    // repeat until the write-ahead log of the database cannot grow
    let large = json!({ "netboot.extra_args": "x".repeat(1000) });
    let refused = eventually(LIMIT, "a change finds no room", || {
        let answer = web.send("PUT", "/settings", &large);
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.expect(507);
    assert!(
        refused.text().contains(&format!("no space left in {dir}; delete")),
        "{}",
        refused.text()
    );
    assert_eq!(web.send("POST", "/workers/backups", &json!({})).status, 507);
    assert_eq!(names(&mount.path().join("backups")), [""; 0]);
    let page = web.get("/ui/dashboard").expect(200).text();
    assert!(page.contains("The server cannot save changes") && page.contains(&dir), "{page}");
    for n in 2..6 {
        let script = web.get(&format!("/pxe/{MAC}?boot={n}")).expect(200).text();
        assert!(script.starts_with("#!ipxe\n") && script.contains("sanboot"), "{script}");
    }

    std::fs::remove_file(ballast).unwrap();
    web.get("/healthz").expect(200);
    web.send("PUT", "/settings", &large).expect(200);
    web.request("PUT", "/boot/kernel", &[], b"new").expect(200);
    let page = web.get("/ui/dashboard").expect(200).text();
    assert!(!page.contains("cannot save changes"));
}
