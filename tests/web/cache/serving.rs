//! Responses of the cache host.

use super::*;

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
    assert_eq!(
        late.read(LEN / 2).1,
        body[..LEN / 2],
        "a client that joins gets at once what has arrived"
    );
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
        let (more, is_complete) = open.rest();
        begun.extend(more);
        (begun, is_complete)
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
    assert_eq!(
        hit.header("etag"),
        known.header("etag"),
        "a download that began during the fill can resume"
    );
    let asked: usize =
        transfers(&gate.origin).iter().filter(|request| request.range(LEN).is_none()).count();
    assert_eq!(asked, 1, "the origin sent the object once");
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
    assert_eq!(state["missed"], json!([]), "an object that is cached is not listed as missed");
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
        "bytes of two versions are never joined"
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
        ("/b/", 404),
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
