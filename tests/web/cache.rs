//! The cache host: real and faulty origins, real clients, and faults of the network.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bty::Digest;
use bty_tests::command::tool;
use bty_tests::loops::Mount;
use bty_tests::nginx::Nginx;
use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Request, Server};
use bty_tests::web::Web;
use bty_tests::{LIMIT, eventually, pattern};
use serde_json::{Value, json};

use crate::sources::oci::{IMAGE, layer, push};

const LEN: usize = 300_000;
const MIB: usize = 1 << 20;

/// The path of the object at URL `origin` on a cache host.
pub(super) fn path(origin: &str) -> String {
    format!("/b/{}/image", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(origin))
}

/// An open response, which a test can read slowly or not at all.
struct Open(TcpStream);

impl Open {
    fn get(web: &Web, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", web.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n{headers}\r\n")
            .unwrap();
        Self(stream)
    }

    /// Reads the head and at least `len` bytes of the body.
    fn read(&mut self, len: usize) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        let mut chunk = [0; 65536];
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n")
                && bytes.len() >= end + 4 + len
            {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                return (head, bytes[end + 4..].to_vec());
            }
            match self.0.read(&mut chunk) {
                Ok(n @ 1..) => bytes.extend_from_slice(&chunk[..n]),
                other => panic!("{other:?} after {} bytes", bytes.len()),
            }
        }
    }

    /// Reads the rest. Returns it, and true unless the connection was reset.
    fn rest(mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let is_well = self.0.read_to_end(&mut bytes).is_ok();
        (bytes, is_well)
    }
}

/// Waits until `is` returns true for the state of the cache, and returns the state. `what` is the
/// predicate for the message, such as "keeps the object".
pub(super) fn wait(web: &Web, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    eventually(LIMIT, &format!("the cache {what}"), || {
        let state = web.get("/cache").expect(200).json();
        if is(&state) {
            return Some(state);
        }
        if last != state {
            eprintln!("{state:#}");
            last = state;
        }
        None
    })
}

/// Waits until no fetch is in progress.
fn wait_idle(web: &Web) -> Value {
    wait(web, "fetches nothing any more", |state| state["fills"].as_array().unwrap().is_empty())
}

/// Restarts the host, with the time of the last query of each origin moved back by `by`.
pub(super) fn age(web: &mut Web, by: Duration) {
    web.end();
    let changes = ["cache_objects", "cache_tags"]
        .map(|table| format!("UPDATE {table} SET checked_at = checked_at - {};", by.as_millis()));
    let database = web.state().join("state.db");
    tool(&["sqlite3", "-bail", database.to_str().unwrap(), &changes.concat()]);
    web.start_again();
}

/// Requests for more than the first byte.
fn transfers(origin: &Server) -> Vec<Request> {
    origin.requests().into_iter().filter(|request| !request.is_probe()).collect()
}

/// An origin that stops in the middle of its object until [`Gate::open`] is called.
struct Gate {
    origin: Server,
    opened: Arc<(Mutex<bool>, Condvar)>,
}

/// While the gate is shut, the first response breaks off at `at`, and requests for the rest wait.
fn gate(body: Vec<u8>, at: usize) -> Gate {
    let opened: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let shared = Arc::clone(&opened);
    let origin = Server::start(move |request| {
        let reply = Reply::file(request, &body, "\"1\"");
        let (is_open, is_changed) = &*shared;
        let is_open = is_open.lock().unwrap();
        if request.is_probe() || *is_open {
            return reply;
        }
        match request.range(body.len()) {
            None => reply.close_after(at),
            // a request that resumes has to wait
            Some(_) => {
                let _ = is_changed.wait_timeout_while(is_open, LIMIT, |is_open| !*is_open).unwrap();
                reply
            }
        }
    });
    Gate { origin, opened }
}

impl Gate {
    fn open(&self) {
        *self.opened.0.lock().unwrap() = true;
        self.opened.1.notify_all();
    }
}

#[test]
fn a_miss_streams_while_it_fills_and_later_clients_join() {
    let body = pattern(LEN);
    let gate = gate(body.clone(), LEN / 2);
    let web = Web::cache(&[], &[]);
    let path = path(&gate.origin.url("/a.img"));
    let mut first = Open::get(&web, &path, "");
    let (head, begun) = first.read(LEN / 2);
    assert!(
        head.starts_with("http/1.1 200") && head.contains(&format!("content-length: {LEN}")),
        "{head}"
    );
    assert!(head.contains("x-cache: filling"), "{head}");
    let mut late = Open::get(&web, &path, "");
    assert_eq!(late.read(LEN / 2).1, body[..LEN / 2], "what has come");
    let part = web.request("GET", &path, &[("Range", "bytes=1000-1999")], b"").expect(206);
    assert_eq!(
        (part.body.as_slice(), part.header("content-range")),
        (&body[1000..2000], Some("bytes 1000-1999/300000"))
    );
    let known = web.request("HEAD", &path, &[], b"").expect(200);
    assert_eq!(
        (known.header("x-cache"), known.header("content-length")),
        (Some("filling"), Some("300000"))
    );
    let state = web.get("/cache").expect(200).json();
    assert_eq!(
        (&state["fills"][0]["done_bytes"], &state["fills"][0]["total_bytes"]),
        (&json!(LEN / 2), &json!(LEN))
    );
    gate.open();
    let rest = |open: Open, mut begun: Vec<u8>| {
        let (more, is_well) = open.rest();
        begun.extend(more);
        (begun, is_well)
    };
    assert_eq!(rest(first, begun), (body.clone(), true));
    assert_eq!(rest(late, body[..LEN / 2].to_vec()), (body.clone(), true));
    wait_idle(&web);
    let hit = web.get(&path).expect(200);
    assert_eq!(
        (hit.header("x-cache"), hit.header("x-withcache-sha256")),
        (Some("hit"), Some(Digest::of(&body).to_string().as_str()))
    );
    assert_eq!(hit.body, body);
    assert_eq!(hit.header("etag"), known.header("etag"), "what was begun can be gone on with");
    let asked: usize =
        transfers(&gate.origin).iter().filter(|request| request.range(LEN).is_none()).count();
    assert_eq!(asked, 1, "one transfer");
}

#[test]
fn fifty_cold_clients_are_one_transfer() {
    let body = pattern(4 * MIB);
    let served = body.clone();
    let origin = Server::start(move |request| Reply::file(request, &served, "\"1\""));
    let web = Web::cache(&[], &[]);
    let path = path(&origin.url("/a.img"));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert!(web.get(&path).expect(200).body == body));
        }
    });
    assert_eq!(transfers(&origin).len(), 1);
    let state = wait_idle(&web);
    assert_eq!(state["missed"], json!([]), "what is here is not missed");
    assert_eq!(
        (&state["fetched_bytes"], &state["objects"][0]["size_bytes"]),
        (&json!(4 * MIB), &json!(4 * MIB))
    );
}

#[test]
fn conditions_and_ranges_are_those_of_the_standard() {
    let origin = Nginx::start("");
    let body = pattern(LEN);
    let web = Web::cache(&[], &[]);
    let path = path(&origin.put("a.img", &body));
    let etag = web.get(&path).expect(200).header("etag").unwrap().to_owned();
    wait_idle(&web);
    let ask = |headers: &[(&str, &str)]| web.request("GET", &path, headers, b"");
    assert_eq!(ask(&[("If-None-Match", &etag)]).expect(304).body, b"");
    assert_eq!(
        ask(&[("Range", "bytes=-10"), ("If-Range", &etag)]).expect(206).body,
        body[LEN - 10..]
    );
    assert_eq!(
        ask(&[("Range", "bytes=-10"), ("If-Range", "\"other\"")]).expect(200).body,
        body,
        "never spliced"
    );
    let beyond = ask(&[("Range", "bytes=300000-")]).expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */300000"));
    assert_eq!(ask(&[("Range", "bytes=0-1,5-6")]).expect(200).body.len(), LEN);
    // another spelling of the same URL, as curl sends it
    let url = origin.put("a.img", &body);
    let escaped: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    assert_eq!(web.get(&format!("/blob?url={escaped}")).expect(200).header("x-cache"), Some("hit"));
    for (wrong, status) in [
        ("/blob", 400),
        ("/blob?url=ftp://h/x", 400),
        ("/b/!!/x", 400),
        ("/b/", 400),
        ("/blob?url=http://u:p@h/x", 400),
    ] {
        let _ = web.get(wrong).expect(status);
    }
    // one connection for objects, pages, and objects again
    let mut stream = TcpStream::connect(("127.0.0.1", web.port())).unwrap();
    for (path, wanted) in
        [(path.as_str(), "200 OK"), (&path, "206"), ("/healthz", "200"), (&path, "206")]
    {
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: c\r\n{}\r\n",
            if wanted == "206" { "Range: bytes=0-4\r\n" } else { "" }
        )
        .unwrap();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        let head = String::from_utf8(bytes).unwrap().to_lowercase();
        assert!(head.contains(&wanted.to_lowercase()), "{head}");
        let len = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap();
        let mut body = vec![0; len];
        stream.read_exact(&mut body).unwrap();
    }
}

/// True if a client can tell that the response is incomplete.
fn is_broken(web: &Web, path: &str) -> bool {
    let mut open = Open::get(web, path, "");
    let mut bytes = Vec::new();
    let is_reset = open.0.read_to_end(&mut bytes).is_err();
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).to_lowercase();
    let promised =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map_or(0, |end| bytes.len() - end - 4);
    head.starts_with("http/1.1 502") || is_reset || promised.is_some_and(|promised| body < promised)
}

#[test]
fn wrong_bytes_are_never_sent_completely_and_never_kept() {
    let registry = Registry::start();
    let disk = pattern(LEN);
    push(&registry, "team/images:v1", &[layer(IMAGE, "disk.img", &disk)]);
    let hex = Digest::of(&disk).to_string();
    let mut damaged = disk.clone();
    damaged[LEN - 1] ^= 1;
    std::fs::write(registry.blob_file(&hex), &damaged).unwrap();
    let web = Web::cache(&[], &[("BTY_NETWORK_PLAIN_HTTP", "1")]);
    let path = path(&format!("oras://{}/team/images:v1", registry.host()));
    assert!(is_broken(&web, &path));
    let state = wait_idle(&web);
    assert_eq!((&state["objects"], &state["used_bytes"]), (&json!([]), &json!(0)));
    let events = web.get("/events").json();
    assert_eq!(events["events"][0]["kind"], "cache.fill.failed");
    assert!(
        events["events"][0]["summary"].as_str().unwrap().contains("it was discarded"),
        "{events:#}"
    );
    // after the repair, the object is fetched again
    std::fs::write(registry.blob_file(&hex), &disk).unwrap();
    assert_eq!(web.get(&path).expect(200).body, disk);
}

#[test]
fn a_client_with_a_digest_gets_the_right_bytes_or_none() {
    let body = pattern(LEN);
    let object = Arc::new(Mutex::new((body.clone(), "\"1\"")));
    let now = Arc::clone(&object);
    let origin = Server::start(move |request| {
        let (body, etag) = now.lock().unwrap().clone();
        Reply::file(request, &body, etag)
    });
    let url = origin.url("/a.img");
    let web = Web::cache(&[], &[("BTY_CACHE_FRESH_S", "0")]);
    let of = |digest: Digest| format!("{}?sha256={digest}", path(&url));
    let other = pattern(LEN + 4)[4..].to_vec();
    assert!(is_broken(&web, &of(Digest::of(&other))));
    assert_eq!(wait_idle(&web)["objects"], json!([]), "nobody wants it");
    assert_eq!(web.get(&of(Digest::of(&body))).expect(200).body, body);
    wait_idle(&web);
    let refused = web.get(&of(Digest::of(&other))).expect(502);
    assert!(refused.text().contains("not"), "{}", refused.text());
    assert_eq!(web.get(&path(&url)).expect(200).body, body, "the others still have it");
    // the origin has changed: a client that requires the new digest gets the new bytes
    *object.lock().unwrap() = (other.clone(), "\"2\"");
    assert_eq!(web.get(&of(Digest::of(&other))).expect(200).body, other);
    let _ = web.get(&format!("{}?sha256=xyz", path(&url))).expect(400);
}

#[test]
fn faults_of_origins_are_survived_or_reported_and_nothing_wrong_is_kept() {
    type Script = fn(&Request, &[u8]) -> Reply;
    let cases: [(&str, Script, bool); 8] = [
        (
            "reset",
            |r, body| {
                if r.number < 2 {
                    Reply::file(r, body, "\"1\"").reset_after(LEN / 3)
                } else {
                    Reply::file(r, body, "\"1\"")
                }
            },
            true,
        ),
        (
            "short",
            |r, body| {
                if r.is_probe() {
                    Reply::file(r, body, "\"1\"")
                } else {
                    Reply::whole(body).promise(LEN).close_after(LEN / 2)
                }
            },
            false,
        ),
        (
            "long",
            |r, body| {
                if r.is_probe() {
                    Reply::file(r, body, "\"1\"")
                } else {
                    Reply::whole(&[body, body].concat()).promise(LEN * 2)
                }
            },
            false,
        ),
        (
            "other version",
            |r, body| {
                Reply::file(
                    r,
                    body,
                    if r.is_probe() || r.range(LEN).is_none() { "\"1\"" } else { "\"2\"" },
                )
                .close_after(if r.is_probe() { 1 } else { LEN / 2 })
            },
            false,
        ),
        ("without length", |_, body| Reply::whole(body).chunked(), true),
        ("until close", |_, body| Reply::whole(body).until_close(), false),
        ("missing", |_, _| Reply::status(404), false),
        ("refused", |_, _| Reply::status(403), false),
    ];
    let web = Web::cache(&[], &[]);
    let body = pattern(LEN);
    for (name, script, is_well) in cases {
        let served = body.clone();
        let origin = Server::start(move |request| script(request, &served));
        let path = path(&origin.url("/a.img"));
        if is_well {
            assert!(web.get(&path).expect(200).body == body, "{name}");
            wait_idle(&web);
            assert_eq!(web.get(&path).expect(200).header("x-cache"), Some("hit"), "{name}");
        } else {
            assert!(is_broken(&web, &path), "{name}");
            wait_idle(&web);
            let event = web.get("/events?limit=1").json()["events"][0].clone();
            assert_eq!(event["kind"], "cache.fill.failed", "{name}");
            assert!(event["subject_id"].as_str().unwrap().contains(&origin.host()), "{name}");
        }
    }
    let kept = web.get("/cache").expect(200).json();
    assert_eq!(kept["objects"].as_array().unwrap().len(), 2, "{kept:#}");
}

#[test]
fn a_killed_fill_resumes() {
    let len = 70 * MIB;
    let body = pattern(len);
    let gate = gate(body.clone(), 68 * MIB);
    let mut web = Web::cache(&[], &[]);
    let path = path(&gate.origin.url("/a.img"));
    let _ = web.request("HEAD", &path, &[], b"").expect(404);
    wait(&web, "has fetched what the gate lets through", |state| {
        state["fills"][0]["done_bytes"] == json!(68 * MIB)
    });
    web.kill();
    let before = transfers(&gate.origin).len();
    gate.open();
    web.start_again();
    assert!(web.get(&path).expect(200).body == body);
    let after = transfers(&gate.origin);
    let range = after[before..].iter().find_map(|request| request.range(len)).unwrap();
    assert!(range.0 >= 64 * MIB && after.len() == before + 1, "it went on at {}", range.0);
    let event = web.get("/events?limit=1").json()["events"][0].clone();
    assert_eq!(
        (&event["kind"], &event["details"]["resumed_at"]),
        (&json!("cache.object.filled"), &json!(range.0))
    );
}

#[test]
fn a_fill_resumes_after_a_restart_and_a_new_version_starts_over() {
    let body = pattern(LEN);
    let tag = Arc::new(AtomicUsize::new(1));
    let (served, now) = (body.clone(), Arc::clone(&tag));
    let origin = Server::start(move |request| {
        let tag = now.load(Ordering::SeqCst);
        let reply = Reply::file(request, &served, &format!("\"{tag}\""));
        if request.is_probe() || tag == 3 { reply } else { reply.stall_after(LEN / 2) }
    });
    let mut web = Web::cache(&[], &[]);
    let path = path(&origin.url("/a.img"));
    for version in [1, 2, 3] {
        tag.store(version, Ordering::SeqCst);
        let _ = web.request("HEAD", &path, &[], b"");
        if version == 3 {
            break;
        }
        wait(&web, "has fetched something", |state| {
            state["fills"][0]["done_bytes"].as_u64().is_some_and(|bytes| bytes > 0)
        });
        web.end();
        web.start_again();
    }
    assert!(web.get(&path).expect(200).body == body);
    let ranges: Vec<_> = transfers(&origin).iter().map(|request| request.range(LEN)).collect();
    assert_eq!(ranges, [None, None, None], "two versions are never spliced");
}

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
    let (rest, is_well) = reading.rest();
    assert!(is_well && begun.len() + rest.len() == 20 * MIB);
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
    let files: Vec<_> =
        files.map(|entry| entry.file_name()).filter(|name| name != "state.lock").collect();
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

#[test]
fn the_cache_contacts_only_allowed_origins() {
    let inside = Server::start(|_| Reply::whole(b"secret"));
    let web = Web::cache(&[], &[("BTY_CACHE_REACH", "")]);
    for url in [
        inside.url("/x"),
        inside.url("/x").replace("127.0.0.1", "localhost"),
        "http://169.254.169.254/latest".into(),
        "http://[::1]/x".into(),
        "http://0/x".into(),
    ] {
        let answer = web.get(&path(&url)).expect(403);
        assert!(answer.text().contains("public addresses only"), "{url}: {}", answer.text());
        assert!(answer.text().contains("cache.reach"), "{url}: {}", answer.text());
        assert!(!answer.text().contains("secret"));
    }
    let answer = web.get(&path(&format!("oras://{}/team/images:v1", inside.host()))).expect(403);
    assert!(answer.text().contains("public addresses only"), "{}", answer.text());
    assert_eq!(inside.requests().len(), 0);
    let listed = Web::cache(&[], &[("BTY_CACHE_ORIGINS", "images.example *.lan")]);
    let answer = listed.get(&path(&inside.url("/x"))).expect(403);
    assert!(answer.text().contains("cache.origins"), "{}", answer.text());
    assert_eq!(listed.request("HEAD", &path(&inside.url("/x")), &[], b"").status, 403);
    assert_eq!(
        listed.send("POST", "/cache/objects", &json!({ "url": inside.url("/x") })).status,
        403
    );
    assert_eq!(inside.requests().len(), 0);
}

#[test]
fn the_cache_of_a_server_contacts_only_origins_in_the_catalog() {
    let origin = Server::start(|_| Reply::whole(b"an image"));
    let stranger = Server::start(|_| Reply::whole(b"secret"));
    let listen = format!("127.0.0.1:{}", bty_tests::free_port());
    let env = [
        ("BTY_CACHE_EMBEDDED", "1"),
        ("BTY_CACHE_LISTEN", listen.as_str()),
        ("BTY_CACHE_REACH", "127.0.0.0/8"),
    ];
    let web = Web::with(&env);
    let refused = web.get(&path(&origin.url("/a.img"))).expect(403);
    assert!(refused.text().contains("cache.origins"), "{}", refused.text());
    assert_eq!(origin.requests().len(), 0);
    web.send("POST", "/catalog/entries", &json!({ "image_url": origin.url("/a.img") })).expect(201);
    assert_eq!(web.get(&path(&origin.url("/a.img"))).expect(200).body, b"an image");
    assert_eq!(web.get(&path(&origin.url("/b.img"))).expect(200).body, b"an image");
    assert_eq!(web.get(&path(&stranger.url("/x"))).status, 403);
    assert_eq!(web.request("HEAD", &path(&stranger.url("/x")), &[], b"").status, 403);
    assert_eq!(stranger.requests().len(), 0);
    // an operator may fetch any URL; then every client gets the object
    web.send("POST", "/cache/objects", &json!({ "url": stranger.url("/x") })).expect(202);
    assert_eq!(web.get(&path(&stranger.url("/x"))).expect(200).body, b"secret");
}

#[test]
fn moved_tags_are_noticed_and_an_unreachable_registry_is_tolerated() {
    let mut registry = Registry::start();
    let (old, new) = (pattern(LEN), pattern(LEN + 4)[4..].to_vec());
    push(&registry, "team/images:v1", &[layer(IMAGE, "disk.img", &old)]);
    let mut web =
        Web::cache(&[], &[("BTY_NETWORK_PLAIN_HTTP", "1"), ("BTY_CACHE_FRESH_S", "3600")]);
    let tag = path(&format!("oras://{}/team/images:v1", registry.host()));
    assert_eq!(web.get(&tag).expect(200).body, old);
    push(&registry, "team/images:v1", &[layer(IMAGE, "disk.img", &new)]);
    assert_eq!(web.get(&tag).expect(200).body, old, "fresh for an hour");
    wait_idle(&web);
    age(&mut web, Duration::from_secs(3600));
    assert_eq!(web.get(&tag).expect(200).body, new);
    assert!(web.get("/events").text().contains("cache.tag.moved"));
    registry.end();
    wait_idle(&web);
    age(&mut web, Duration::from_secs(3600));
    let stale = web.get(&tag).expect(200);
    assert_eq!((stale.header("x-cache"), &stale.body), (Some("stale"), &new));
    // the old bytes, requested by their digest, need no registry
    let digest = Digest::of(&old);
    let fixed = web
        .get(&path(&format!("oras://{}/team/images@sha256:{digest}", registry.host())))
        .expect(200);
    assert_eq!((fixed.header("x-cache"), &fixed.body), (Some("hit"), &old));
    assert_eq!(web.get(&path(&format!("oras://{}/team/images:v2", registry.host()))).status, 502);
}

#[test]
fn a_curated_host_fetches_only_what_an_operator_asks_for() {
    let origin = Nginx::start("");
    let url = origin.put("a.img", &pattern(LEN));
    let web = Web::cache(&["--curate"], &[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let token = web.command(&["token", "create", "ci", "--scope", "catalog"]).output().unwrap();
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let bearer = format!("Bearer {token}");
    let asked = |method: &str, path: &str, body: &Value| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        web.request(method, path, &headers, body.to_string().as_bytes())
    };
    let missed = web.get(&path(&url)).expect(404);
    assert!(missed.text().contains("cache miss (recorded)"), "{}", missed.text());
    assert_eq!(web.get("/cache").status, 401);
    assert_eq!(web.send("POST", "/cache/objects", &json!({ "url": url })).status, 401);
    let state = asked("GET", "/cache", &Value::Null).expect(200).json();
    assert_eq!(
        (&state["missed"][0]["address"], &state["missed"][0]["count"]),
        (&json!(url), &json!(1))
    );
    let begun = asked(
        "POST",
        "/cache/objects",
        &json!({ "url": url, "sha256": Digest::of(&pattern(LEN)).to_string() }),
    );
    assert!(matches!(begun.status, 200 | 202), "{}", begun.text());
    let key = begun.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(web.get(&path(&url)).expect(200).body.len(), LEN);
    let has_it = || asked("GET", "/cache", &Value::Null).json()["objects"][0]["key"] == json!(key);
    eventually(LIMIT, "the cache keeps the object", || has_it().then_some(()));
    assert_eq!(asked("DELETE", "/cache/misses", &Value::Null).status, 204);
    assert_eq!(asked("DELETE", &format!("/cache/objects/{key}"), &Value::Null).status, 204);
    assert_eq!(asked("DELETE", &format!("/cache/objects/{key}"), &Value::Null).status, 404);
    assert_eq!(asked("DELETE", "/cache/objects/x", &Value::Null).status, 400);
    assert_eq!(asked("DELETE", &format!("/cache/fills/{key}"), &Value::Null).status, 404);
    let state = asked("GET", "/cache", &Value::Null).json();
    assert_eq!((&state["objects"], &state["missed"]), (&json!([]), &json!([])));
}

#[test]
fn cancelling_a_fill_closes_the_connections_of_its_clients() {
    let gate = gate(pattern(LEN), LEN / 2);
    let web = Web::cache(&[], &[]);
    let mut client = Open::get(&web, &path(&gate.origin.url("/a.img")), "");
    let (_, begun) = client.read(LEN / 2);
    let state = wait(&web, "fetches something", |state| state["fills"][0]["key"].is_string());
    let key = state["fills"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(web.request("DELETE", &format!("/cache/fills/{key}"), &[], b"").status, 204);
    let (rest, is_well) = client.rest();
    assert!(!is_well && begun.len() + rest.len() < LEN);
    let state = wait_idle(&web);
    assert_eq!((&state["objects"], &state["used_bytes"]), (&json!([]), &json!(0)));
    assert!(web.get("/events").text().contains("cache.fill.cancelled"));
}

#[test]
fn the_page_of_the_cache_shows_its_objects_and_its_forms_work() {
    let origin = Nginx::start("");
    let url = origin.put("a.img", &pattern(LEN));
    let web = Web::cache(&[], &[]);
    let post = |body: &str| {
        let headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        web.request("POST", "/ui/cache", &headers, body.as_bytes())
    };
    assert!(web.get("/ui/cache").expect(200).text().contains("The cache is empty"));
    let escaped: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let begun = post(&format!("act=fetch&url={escaped}&sha256=")).expect(303);
    assert!(begun.header("location").unwrap().starts_with("/ui/cache?told="), "{begun:?}");
    let key = wait(&web, "keeps the object", |state| {
        !state["objects"].as_array().unwrap().is_empty()
    })["objects"][0]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let page = web.get("/ui/cache").expect(200).text();
    assert!(
        page.contains("a.img") && page.contains("293.0 KiB") && !page.contains("Unpin"),
        "{page}"
    );
    let _ = post(&format!("act=pin&key={key}")).expect(303);
    assert!(web.get("/ui/cache").text().contains("Unpin"));
    let _ = post(&format!("act=delete&key={key}")).expect(303);
    let failed = post(&format!("act=delete&key={key}")).expect(303);
    let shown = web.get(failed.header("location").unwrap()).expect(200).text();
    assert!(shown.contains("role=\"alert\"") && shown.contains("does not exist"), "{shown}");
    assert_eq!(web.get("/").expect(303).header("location"), Some("/ui/login"));
    assert_eq!(web.get("/ui/login").expect(303).header("location"), Some("/ui/cache"));
    let foreign =
        web.request("POST", "/ui/cache", &[("Sec-Fetch-Site", "cross-site")], b"act=forget");
    assert_eq!(foreign.status, 403);
}
