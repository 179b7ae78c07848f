//! What the cache host may fetch, and its controls.

use super::*;

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
    let (rest, _) = client.rest();
    assert!(begun.len() + rest.len() < LEN, "the response says that it has {LEN} bytes");
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
