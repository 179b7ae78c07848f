//! Eviction, a full disk, and the lock of the directory.

use super::*;

#[test]
fn the_least_recently_used_objects_are_evicted_and_pinned_or_read_ones_stay() {
    let origin = Nginx::start("");
    let put = |name: &str| path(&origin.put(name, &pattern(20 * MIB)));
    let (a, b, c, d) = (put("a.img"), put("b.img"), put("c.img"), put("d.img"));
    let web = Web::cache(&["--max-bytes", "45M"], &[]);
    let names = || -> Vec<String> {
        let state = wait_idle(&web);
        let all = state["objects"].as_array().unwrap().iter();
        let mut names: Vec<String> = all
            .map(|o| o["address"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    for path in [&a, &b, &a] {
        let _ = web.get(path).expect(200);
        wait_idle(&web);
    }
    let _ = web.get(&c).expect(200);
    assert_eq!(names(), ["a.img", "c.img"], "b was used longest ago");
    let state = web.get("/cache").expect(200).json();
    let key = |name: &str| {
        let mut all = state["objects"].as_array().unwrap().iter();
        all.find(|o| o["address"].as_str().unwrap().ends_with(name)).unwrap()["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        web.request("PUT", &format!("/cache/objects/{}/pin", key("a.img")), &[], b"")
            .expect(200)
            .json()["is_pinned"],
        true
    );
    // c is still being read, because it does not fit into the socket buffers
    let mut reading = Open::get(&web, &c, "");
    let (_, begun) = reading.read(1);
    let full = web.get(&d).expect(507);
    assert!(full.text().contains("pinned or in use"), "{}", full.text());
    assert_eq!(names(), ["a.img", "c.img"]);
    let (rest, is_complete) = reading.rest();
    assert!(is_complete && begun.len() + rest.len() == 20 * MIB);
    let _ = web.get(&d).expect(200);
    assert_eq!(names(), ["a.img", "d.img"]);
    let _ = web
        .request("DELETE", &format!("/cache/objects/{}/pin", key("a.img")), &[], b"")
        .expect(200);
    let _ = web.get(&b).expect(200);
    assert_eq!(names(), ["b.img", "d.img"]);
    let large = web.get(&path(&origin.put("large.img", &pattern(50 * MIB)))).expect(507);
    assert!(large.text().contains("cache.max_bytes is 45.0 MiB"), "{}", large.text());
    let kinds = web.get("/events?limit=500").text();
    for kind in [
        "cache.object.evicted",
        "cache.object.pinned",
        "cache.object.unpinned",
        "cache.fill.failed",
    ] {
        assert!(kinds.contains(kind), "{kind}");
    }
}

#[test]
fn a_full_disk_is_reported_and_no_partial_object_is_kept() {
    let dir = Mount::memory(96 << 20);
    let origin = Nginx::start("");
    let small = path(&origin.put("small.img", &pattern(MIB)));
    let body = pattern(48 * MIB);
    let large = path(&origin.put("large.img", &body));
    let chunked = Server::start(move |_| Reply::whole(&body).chunked());
    let own = dir.path().join("cache").to_string_lossy().into_owned();
    let web = Web::cache(&[], &[("BTY_CACHE_DIR", &own)]);
    let _ = web.get(&small).expect(200);
    let told = web.get(&large).expect(507).text();
    assert!(told.contains("cannot cache 48.0 MiB: the disk is full"), "{told}");
    // another program fills the disk, so that it gets full in the middle of an object of unknown
    // length
    let free = 96 * MIB - 24 * MIB;
    std::fs::write(dir.path().join("else"), vec![1; free]).unwrap();
    assert!(is_broken(&web, &path(&chunked.url("/a.img"))));
    let state = wait_idle(&web);
    let files = std::fs::read_dir(dir.path().join("cache")).unwrap().flatten();
    let files: Vec<_> = files
        .map(|entry| entry.file_name())
        .filter(|name| name != "state.lock" && name != "packed")
        .collect();
    assert!(files.len() == state["objects"].as_array().unwrap().len(), "{files:?} {state:#}");
}

#[test]
fn two_hosts_cannot_have_the_same_directory() {
    let web = Web::cache(&[], &[]);
    let dir = web.state().to_string_lossy().into_owned();
    let output =
        web.command(&["cache", "--data-dir", &dir, "--listen", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another process uses"), "{output:?}");
    let blobs = web.state().join("blobs").to_string_lossy().into_owned();
    let other = Web::idle_cache(&[], &[]);
    let output = other
        .command(&[])
        .env("BTY_CACHE_EMBEDDED", "1")
        .env("BTY_CACHE_LISTEN", "127.0.0.1:0")
        .env("BTY_CACHE_DIR", &blobs)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another process uses"), "{output:?}");
}
