//! Broken transfers, and files that change meanwhile.

use super::*;

#[test]
fn resumes_where_a_reset_broke_the_transfer() {
    for step in [1, 511, 4096, 65_536, LEN - 1] {
        let len = LEN.min(step * 20);
        let server = after_probe(pattern(len), move |_, request, body| {
            Reply::file(request, body, "\"v1\"").reset_after(step)
        });
        assert_eq!(read(&server.url("/disk.img")).unwrap(), pattern(len), "{step} bytes a time");
        for request in server.requests() {
            assert_eq!(request.method, "GET");
            assert_eq!(request.header("accept-encoding"), Some("identity"));
            assert!(request.header("user-agent").unwrap().starts_with("bty/"));
            let is_resumed = request.header("range").is_some() && !request.is_probe();
            assert_eq!(request.header("if-range"), is_resumed.then_some("\"v1\""));
        }
    }
}

#[test]
fn resumes_after_a_stall_and_after_an_early_end() {
    let body = pattern(LEN);
    for number in 0..2 {
        let server = after_probe(body.clone(), move |n, request, body| {
            let reply = Reply::file(request, body, "\"v1\"");
            match (n, number) {
                (0, 0) => reply.stall_after(1000),
                (0, _) => reply.close_after(1000),
                _ => reply,
            }
        });
        let mut options = options();
        // the answers that do not stall must not take as long, also on a loaded machine
        options.stall_timeout = Duration::from_secs(1);
        let read = Client::new(options).read_small(&server.url("/"), LIMIT, &CancelToken::new());
        assert_eq!(read.unwrap(), body);
        assert_eq!(server.requests().len(), 3);
    }
}

#[test]
fn reads_at_an_offset_although_connections_break() {
    let server = after_probe(pattern(LEN), |_, request, body| {
        Reply::file(request, body, "\"v1\"").close_after(700)
    });
    assert_eq!(read_at(&server.url("/"), 12_345, 2_000).unwrap(), &pattern(LEN)[12_345..14_345]);
    let ranges: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.header("range").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        ranges,
        ["bytes=0-0", "bytes=12345-14344", "bytes=13045-14344", "bytes=13745-14344"]
    );
}

#[test]
fn gives_up_when_nothing_arrives_any_more() {
    for reset in [true, false] {
        let server = after_probe(pattern(LEN), move |_, request, body| {
            let reply = Reply::file(request, body, "\"v1\"");
            if reset { reply.reset_after(0) } else { reply.close_after(0) }
        });
        let error = read(&server.url("/")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(format!("{error:#}").contains("giving up after 3 attempts"), "{error}");
        assert_eq!(server.requests().len(), 1 + 3);
    }
}

#[test]
fn a_broken_transfer_without_ranges_says_that_it_cannot_be_resumed() {
    let server = Server::start(|_| Reply::whole(&pattern(LEN)).close_after(LEN - 1));
    assert_fails(read(&server.url("/")), "cannot be resumed");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn never_splices_two_versions() {
    let cut =
        |request: &Request, body: &[u8]| Reply::file(request, body, "\"v1\"").close_after(1000);
    let cases: [(&str, Script); 6] = [
        ("another version sent whole", |_, body| Reply::whole(body).header("ETag", "\"v2\"")),
        ("another version sent in part", |_, body| {
            Reply::part(body, 1000, LEN).header("ETag", "\"v2\"")
        }),
        ("ranges no longer obeyed", |_, body| Reply::whole(body).header("ETag", "\"v1\"")),
        ("grown", |_, body| {
            let range = format!("bytes 1000-{}/{}", LEN - 1, LEN + 1);
            Reply::status(206).header("Content-Range", &range).body(&body[1000..])
        }),
        ("shrunk", |_, _| Reply::status(416).header("Content-Range", "bytes */999")),
        ("not even a version", |_, body| Reply::whole(body)),
    ];
    for (case, later) in cases {
        let server = after_probe(pattern(LEN), move |n, request, body| {
            if n == 0 { cut(request, body) } else { later(request, body) }
        });
        let error = assert_fails(read(&server.url("/")), "changed while it was read");
        assert_eq!(error.offset(), Some(1000), "{case}");
        assert_eq!(server.requests().len(), 3, "{case} is final");
    }
}

#[test]
fn refuses_ranges_that_were_not_asked_for() {
    let cases: [(&str, PartScript); 6] = [
        ("one byte early", |body| Reply::part(body, 999, LEN)),
        ("one byte late", |body| Reply::part(body, 1001, LEN)),
        ("no range", |body| Reply::status(206).body(&body[1000..])),
        ("nonsense", |body| {
            Reply::status(206).header("Content-Range", "bytes 9-1/x").body(&body[1000..])
        }),
        ("wrong length", |body| {
            let range = format!("bytes 1000-{}/{LEN}", LEN - 1);
            Reply::status(206).header("Content-Range", &range).body(&body[999..])
        }),
        ("416 without a total", |_| Reply::status(416)),
    ];
    for (case, later) in cases {
        let server = after_probe(pattern(LEN), move |n, request, body| {
            if n == 0 {
                Reply::file(request, body, "\"v1\"").close_after(1000)
            } else {
                later(body)
            }
        });
        let error = assert_fails(read(&server.url("/")), "requested the bytes from 1000 on");
        assert_eq!(error.offset(), Some(1000), "{case}");
    }
}

#[test]
fn a_part_that_is_longer_than_promised_is_an_error() {
    let server = after_probe(pattern(LEN), |_, _, body| {
        Reply::status(206)
            .header("Content-Range", &format!("bytes 10-19/{LEN}"))
            .body(&body[10..21])
            .chunked()
    });
    assert_fails(read_at(&server.url("/"), 10, 10), "more bytes than it announced");
}

#[test]
fn a_part_that_is_shorter_than_asked_for_is_continued() {
    let server = after_probe(pattern(LEN), |_, request, body| {
        let (start, end) = request.range(LEN).unwrap_or((0, LEN));
        Reply::part(body, start, end.min(start + 400))
    });
    assert_eq!(read_at(&server.url("/"), 10, 1000).unwrap(), &pattern(LEN)[10..1010]);
    assert_eq!(server.requests().len(), 1 + 3);
}

#[test]
fn a_whole_of_another_length_than_at_first_is_an_error() {
    let server = after_probe(pattern(LEN), |_, _, body| Reply::whole(&body[1..]));
    assert_fails(read(&server.url("/")), "changed while it was read");
}

#[test]
fn parts_that_are_read_one_by_one_are_of_the_version_that_was_opened() {
    let server = after_probe(pattern(LEN), |_, request, body| Reply::file(request, body, "\"v2\""));
    assert_fails(read_at(&server.url("/"), 5, 5), "its version is different now");
}

/// A server like a cluster whose members differ: each response has another `ETag`, and breaks off
/// after `step` bytes.
fn mirrors(body: &[u8], step: usize) -> Server {
    let body = body.to_vec();
    Server::start(move |request| {
        let tag = format!("\"mirror-{}\"", request.number % 3);
        let reply = Reply::file(request, &body, &tag);
        if request.is_probe() { reply } else { reply.close_after(step) }
    })
}

#[test]
fn mirrors_that_tag_the_same_bytes_otherwise_are_read_as_one_transfer_or_with_a_digest() {
    let body = pattern(LEN);
    let whole = mirrors(&body, LEN);
    assert_eq!(read(&whole.url("/")).unwrap(), body, "one transfer, from one of them");

    let broken = mirrors(&body, 70_000);
    let error = assert_fails(read(&broken.url("/")), "changed while it was read");
    assert_eq!(error.remedy(), Some(Remedy::Sha256), "{error:?}");
    let expecting = |digest: Digest| {
        let location = broken.url("/").parse().unwrap();
        let source =
            Client::new(options()).open_expecting(&location, digest.into(), &CancelToken::new())?;
        source.read_small(LIMIT, &CancelToken::new())
    };
    assert_eq!(expecting(Digest::of(&body)).unwrap(), body);
    assert_eq!(expecting(Digest::of(b"another")).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn an_image_of_mirrors_is_opened_and_its_beginning_is_looked_at_again() {
    let mut body = pattern(LEN);
    body[510..512].copy_from_slice(&[0x55, 0xaa]);
    let server = mirrors(&body, LEN);
    let image = |server: &Server, sha256: Option<Digest>| {
        let options = OpenOptions::default().sha256(sha256);
        Image::open(
            &Client::new(self::options()),
            &server.url("/a.img"),
            &options,
            &CancelToken::new(),
        )
        .unwrap()
    };
    for sha256 in [None, Some(Digest::of(&body))] {
        let contents = image(&server, sha256).read_fully(&(), &CancelToken::new()).unwrap();
        assert_eq!(contents.source_sha256, Digest::of(&body));
    }
    let disk = faulty_disk(LEN.next_multiple_of(512), 512, Faults::default());
    let host = MemoryHost::with(&disk);
    let flash = |image: &Image| {
        let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
        plan.execute(image, &host, &(), &CancelToken::new())
    };
    assert!(flash(&image(&server, None)).unwrap().is_success());
    assert!(disk.content().starts_with(&body));

    // another file of the same length, after it was examined
    let changing = Server::start(move |request| {
        let mut file = body.clone();
        file[0] = u8::from(request.number > 1);
        Reply::file(request, &file, "W/\"x\"")
    });
    let error = flash(&image(&changing, None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(format!("{error:#}").contains("begins differently than when it was opened"), "{error}");
    assert!(disk.content()[..512].iter().all(|&byte| byte == 0), "it does not boot");
}

#[test]
fn a_qcow2_of_mirrors_is_downloaded_first() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk_image(3 << 20);
    let raw = write(dir.path(), "a.img", &disk);
    let qcow2 = dir.path().join("a.qcow2");
    let _ = filter(
        &["qemu-img", "convert", "-O", "qcow2", raw.to_str().unwrap(), qcow2.to_str().unwrap()],
        b"",
    );
    let server = mirrors(&std::fs::read(&qcow2).unwrap(), usize::MAX);
    let notices = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&notices);
    let mut options = options();
    options.observer =
        Arc::new(move |event: &Event| kept.lock().unwrap().push(format!("{event:?}")));
    let client = Client::new(options);
    let image =
        Image::open(&client, &server.url("/a.qcow2"), &OpenOptions::default(), &CancelToken::new())
            .unwrap();
    assert!(
        notices
            .lock()
            .unwrap()
            .iter()
            .any(|n| n.contains("copying it to the spool directory first")),
        "{notices:?}"
    );
    let contents = image.read_fully(&(), &CancelToken::new()).unwrap();
    assert_eq!(
        (contents.disk_bytes, contents.source_sha256),
        (3 << 20, Digest::of(&std::fs::read(&qcow2).unwrap()))
    );
}
