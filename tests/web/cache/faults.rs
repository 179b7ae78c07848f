//! Faults of origins, and fills that are interrupted.

use super::*;

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
fn a_client_that_could_not_see_the_end_of_a_body_is_refused() {
    let body = pattern(LEN);
    let served = body.clone();
    let origin = Server::start(move |_| Reply::whole(&served).chunked());
    let web = Web::cache(&[], &[]);
    let path = path(&origin.url("/a.img"));
    let old_client = || {
        let mut stream = TcpStream::connect(("127.0.0.1", web.port())).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let refused = String::from_utf8(old_client()).unwrap();
    assert!(refused.contains(" 400 ") && refused.contains("use HTTP/1.1"), "{refused}");
    assert!(web.get(&path).expect(200).body == body);
    wait_idle(&web);
    assert!(old_client().ends_with(&body), "the length is known now");
}
