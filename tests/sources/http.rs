//! Web servers: correct responses are read completely, faulty ones are an error, and no wrong byte
//! is ever accepted.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::testing::{Faults, MemoryHost, Request};
use bty::{CancelToken, Client, ClientOptions, Digest, DiskHost, Error, ErrorKind, Event, Image};
use bty_tests::disk::faulty_disk;
use bty_tests::images::{disk_image, filter, write};
use bty_tests::nginx::Nginx;
use bty_tests::server::{Reply, Request, Server};
use bty_tests::{eventually, pattern};

const LEN: usize = 300_000;
const LIMIT: u64 = 1 << 20;

type Script = fn(&Request, &[u8]) -> Reply;
type PartScript = fn(&[u8]) -> Reply;

/// Options with short timeouts, so that no test takes long.
pub(crate) fn options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.retry_delay = Duration::from_millis(5);
    options.stall_timeout = Duration::from_secs(30);
    options.attempts = 3;
    options
}

fn read(url: &str) -> bty::Result<Vec<u8>> {
    Client::new(options()).read_small(url, LIMIT, &CancelToken::new())
}

fn read_at(url: &str, offset: u64, len: usize) -> bty::Result<Vec<u8>> {
    let source = Client::new(options()).open(url, &CancelToken::new())?;
    let mut buf = vec![0; len];
    let filled = source.read_at(&mut buf, offset, &CancelToken::new())?;
    buf.truncate(filled);
    Ok(buf)
}

/// A server that answers the first request correctly; `script` answers the others, counted from 0.
fn after_probe(
    body: Vec<u8>,
    script: impl Fn(usize, &Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    let asked = Mutex::new(0);
    Server::start(move |request| {
        if request.is_probe() {
            return Reply::file(request, &body, "\"v1\"");
        }
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        script(*asked - 1, request, &body)
    })
}

#[track_caller]
fn assert_fails(outcome: bty::Result<Vec<u8>>, with: &str) -> Error {
    let error = outcome.expect_err(with);
    assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
    assert!(error.to_string().contains(with), "{error:?} does not say {with:?}");
    assert!(error.next_step().is_some(), "{error:?} gives no next step");
    assert!(error.path().is_some(), "{error:?} names no path");
    error
}

#[test]
fn reads_from_nginx_as_a_whole_and_at_offsets() {
    let nginx = Nginx::start("");
    let body = pattern(LEN);
    let url = nginx.put("disk%2B1.img", &body).replace('%', "%25");
    assert_eq!(read(&url).unwrap(), body);

    let source = Client::new(options()).open(&url, &CancelToken::new()).unwrap();
    assert_eq!((source.name(), source.len_bytes()), ("disk%2B1.img", Some(LEN as u64)));
    for (offset, len) in [
        (0, 1),
        (1, 4096),
        (LEN - 1, 1),
        (LEN - 1, 2),
        (LEN, 1),
        (LEN + 7, 1),
        (0, LEN + 1),
        (5, 0),
    ] {
        let expected = &body[offset.min(LEN)..(offset + len).min(LEN)];
        assert_eq!(read_at(&url, offset as u64, len).unwrap(), expected, "{len} bytes at {offset}");
    }
}

#[test]
fn reads_from_nginx_without_ranges_from_the_start_only() {
    let nginx = Nginx::start("max_ranges 0;");
    let body = pattern(LEN);
    let url = nginx.put("disk.img", &body);
    assert_eq!(read(&url).unwrap(), body);
    let error = assert_fails(read_at(&url, 1, 1), "cannot be read from the middle");
    assert!(error.next_step().unwrap().contains("download the file first"));
}

#[test]
fn reads_small_and_empty_files_from_nginx() {
    for settings in ["", "max_ranges 0;"] {
        let nginx = Nginx::start(settings);
        for len in [0, 1, 2] {
            assert_eq!(
                read(&nginx.put("small", &pattern(len))).unwrap(),
                pattern(len),
                "{len} {settings}"
            );
        }
        assert_fails(read(&nginx.put("there", b"").replace("there", "missing")), "404");
    }
}

#[test]
fn trusts_an_authority_that_is_given_and_no_other() {
    let nginx = Nginx::start_tls();
    let url = nginx.put("disk.img", b"over tls");
    let error = assert_fails(read(&url), "certificate is not trusted");
    assert!(error.next_step().unwrap().contains("clock"));
    assert!(!error.to_string().contains("attempts"), "it is not tried again: {error}");

    let mut options = options();
    options.ca_files.push(nginx.ca_file());
    assert_eq!(
        Client::new(options).read_small(&url, LIMIT, &CancelToken::new()).unwrap(),
        b"over tls"
    );
}

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
        assert!(error.to_string().contains("giving up after 3 attempts"), "{error}");
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
    assert_fails(read_at(&server.url("/"), 10, 10), "more bytes than it promised");
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
    assert!(error.next_step().unwrap().contains("--sha256"), "{error:?}");
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
        let options = OpenOptions { sha256, ..OpenOptions::default() };
        Image::open(
            &Client::new(self::options()),
            &server.url("/a.img"),
            &options,
            &CancelToken::new(),
        )
        .unwrap()
    };
    for sha256 in [None, Some(Digest::of(&body))] {
        let contents = image(&server, sha256).read_fully(&|_, _| {}, &CancelToken::new()).unwrap();
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
    assert!(error.to_string().contains("begins differently than when it was opened"), "{error}");
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
    let contents = image.read_fully(&|_, _| {}, &CancelToken::new()).unwrap();
    assert_eq!(
        (contents.disk_bytes, contents.source_sha256),
        (3 << 20, Digest::of(&std::fs::read(&qcow2).unwrap()))
    );
}

#[test]
fn a_chunked_body_ends_where_it_says() {
    let body = pattern(LEN);
    let served = body.clone();
    let server = Server::start(move |_| Reply::whole(&served).chunked());
    assert_eq!(read(&server.url("/")).unwrap(), body);

    let server = Server::start(move |request| {
        let reply = Reply::whole(&pattern(LEN)).chunked();
        if request.is_probe() { reply } else { reply.close_after(3000) }
    });
    assert_fails(read(&server.url("/")), "cannot be resumed");
}

#[test]
fn a_body_whose_end_cannot_be_told_is_refused() {
    let server = Server::start(|_| Reply::whole(b"maybe all").until_close());
    let error = assert_fails(read(&server.url("/")), "sends neither a length nor an end mark");
    assert!(error.next_step().unwrap().contains("--sha256"), "{error:?}");
}

#[test]
fn a_body_whose_end_cannot_be_told_is_taken_with_a_digest() {
    let body = pattern(LEN);
    let old = b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n".to_vec();
    for (sent, kind) in [(LEN, None), (LEN - 1, Some(ErrorKind::Integrity))] {
        let reply = [&old[..], &body[..sent]].concat();
        let server = Server::start(move |_| Reply::raw(&reply));
        let location = server.url("/").parse().unwrap();
        let client = Client::new(options());
        let source = client
            .open_expecting(&location, Digest::of(&body).into(), &CancelToken::new())
            .unwrap();
        assert_eq!(source.len_bytes(), None);
        let read = source.read_small(LIMIT, &CancelToken::new());
        assert_eq!(read.as_ref().err().map(Error::kind), kind);
        assert!(read.is_err() || read.unwrap() == body);
    }
}

#[test]
fn https_does_not_lead_to_http_unless_a_digest_is_given() {
    let body = pattern(1000);
    let served = body.clone();
    let plain = Server::start(move |request| Reply::file(request, &served, "\"v1\""));
    let port = bty_tests::free_port();
    let target = plain.url("");
    let conf = format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate CERTIFICATE; ssl_certificate_key KEY; return 302 {target}$request_uri; }}"
    );
    let nginx = Nginx::with_servers(&conf, port);
    let mut options = options();
    options.ca_files.push(nginx.ca_file());
    let (client, url) = (Client::new(options), format!("https://localhost:{port}/a.img"));
    let error = assert_fails(
        client.read_small(&url, LIMIT, &CancelToken::new()),
        "redirects from https to http",
    );
    assert!(error.next_step().unwrap().contains("--sha256"), "{error:?}");
    assert!(!error.to_string().contains("attempts"), "it is not tried again: {error}");
    assert!(plain.requests().is_empty());
    let digest = Digest::of(&body);
    let source =
        client.open_expecting(&url.parse().unwrap(), digest.into(), &CancelToken::new()).unwrap();
    assert_eq!(source.read_small(LIMIT, &CancelToken::new()).unwrap(), body);
}

#[test]
fn a_self_signed_certificate_that_was_given_is_known() {
    let nginx = Nginx::start_self_signed();
    let url = nginx.put("disk.img", b"pinned");
    let error = assert_fails(read(&url), "certificate is not trusted");
    assert!(error.next_step().unwrap().contains("--ca"), "{error:?}");
    assert!(!format!("{error:?}").contains("Error("), "no names of types: {error:?}");

    let mut options = options();
    options.ca_files.push(nginx.ca_file());
    let client = Client::new(options);
    assert_eq!(client.read_small(&url, LIMIT, &CancelToken::new()).unwrap(), b"pinned");
    let elsewhere = url.replace("localhost", "127.0.0.1");
    assert_fails(
        client.read_small(&elsewhere, LIMIT, &CancelToken::new()),
        "it is for another name",
    );

    let other = Nginx::start_self_signed();
    assert_fails(
        client.read_small(&other.put("disk.img", b"x"), LIMIT, &CancelToken::new()),
        "certificate is not trusted",
    );
}

#[test]
fn an_encoded_body_is_refused() {
    let server = Server::start(|_| Reply::whole(b"\x1f\x8b").header("Content-Encoding", "gzip"));
    assert_fails(read(&server.url("/")), "encoded as \"gzip\"");
    let server = Server::start(|_| Reply::whole(b"plain").header("Content-Encoding", "identity"));
    assert_eq!(read(&server.url("/")).unwrap(), b"plain");
}

#[test]
fn what_the_server_forbids_is_final_at_once() {
    for status in [400, 401, 403, 404, 410, 451] {
        let server = Server::start(move |_| Reply::status(status));
        assert_fails(read(&server.url("/x")), &status.to_string());
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[test]
fn what_may_pass_is_tried_again_and_told() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let server = Server::start(move |request| match request.number {
            0 | 1 => Reply::status(status),
            _ => Reply::file(request, b"at last", "\"v1\""),
        });
        let notices = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&notices);
        let mut options = options();
        options.observer = Arc::new(move |event: &Event| {
            if let Event::Notice { message } = event {
                kept.lock().unwrap().push(message.clone());
            }
        });
        let client = Client::new(options);
        assert_eq!(
            client.read_small(&server.url("/"), LIMIT, &CancelToken::new()).unwrap(),
            b"at last"
        );
        let notices = notices.lock().unwrap();
        assert_eq!(notices.len(), 2);
        assert!(
            notices[0].contains(&status.to_string()) && notices[0].contains("trying again in"),
            "{notices:?}"
        );
    }
}

#[test]
fn waits_as_long_as_the_server_asks() {
    let server = Server::start(|request| match request.number {
        0 => Reply::status(429).header("Retry-After", "1"),
        _ => Reply::file(request, b"x", "\"v1\""),
    });
    let begun = Instant::now();
    assert_eq!(read(&server.url("/")).unwrap(), b"x");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn follows_redirects_and_stays_with_the_mirror_it_was_given() {
    let body = pattern(LEN);
    let served = body.clone();
    let mirror =
        Server::start(move |request| Reply::file(request, &served, "\"v1\"").close_after(200_000));
    let target = mirror.url("/mirror/disk.img");
    let server = Server::start(move |_| Reply::status(302).header("Location", &target));
    assert_eq!(read(&server.url("/disk.img")).unwrap(), body);
    assert_eq!(mirror.requests().len(), 3);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn asks_again_where_to_go_when_a_redirection_expires() {
    let body = pattern(LEN);
    let served = body.clone();
    let mirror =
        Server::start(move |request| match (request.target.as_str(), request.is_probe()) {
            ("/0", true) | ("/1", _) => Reply::file(request, &served, "\"v1\""),
            _ => Reply::status(403),
        });
    let base = mirror.url("");
    let server = Server::start(move |request| {
        Reply::status(307).header("Location", &format!("{base}/{}", request.number))
    });
    assert_eq!(read(&server.url("/")).unwrap(), body);
}

#[test]
fn a_redirect_loop_ends() {
    let server = Server::start(|_| Reply::status(302).header("Location", "/again"));
    assert_fails(read(&server.url("/")), "too many redirects");
    assert!(server.requests().len() <= 11);
}

#[test]
fn nobody_there_is_tried_a_few_times() {
    // no other test gets this port, as could happen with the port of a stopped server
    let error = assert_fails(read("http://127.0.0.1:9/"), "cannot connect");
    assert!(error.to_string().contains("giving up after 3 attempts"), "{error}");
}

#[test]
fn malformed_replies_are_errors() {
    for raw in [
        &b""[..],
        b"\0\0\0\0\0\0\0\0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nab",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/18446744073709551615\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
    ] {
        let server = Server::start(move |_| Reply::raw(raw));
        let error = read(&server.url("/")).expect_err(&String::from_utf8_lossy(raw));
        assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
    }
}

#[test]
fn cancelling_ends_a_stalled_transfer_soon() {
    let server = after_probe(pattern(LEN), |_, request, body| {
        Reply::file(request, body, "\"v1\"").stall_after(1000)
    });
    let mut options = options();
    options.stall_timeout = Duration::from_secs(300);
    let cancel = CancelToken::new();
    let source = Client::new(options).open(&server.url("/"), &cancel).unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| source.read_small(LIMIT, &cancel).unwrap_err());
        let has_begun =
            || server.requests().iter().any(|request| !request.is_probe()).then_some(());
        eventually(bty_tests::LIMIT, "the transfer begins", has_begun);
        cancel.cancel();
        let begun = Instant::now();
        let error = reading.join().unwrap();
        assert!(error.is_cancelled(), "{error:?}");
        // the server ends the transfer after a minute
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    });
}

#[test]
fn asks_a_proxy_except_for_hosts_that_are_excepted() {
    let proxy = Server::start(|request| Reply::file(request, b"from the proxy", "\"v1\""));
    let mut through = options();
    through.http_proxy = Some(format!("http://user:secret@{}", proxy.host()));
    let client = Client::new(through.clone());
    let url = "http://origin.invalid/disk.img";
    assert_eq!(client.read_small(url, LIMIT, &CancelToken::new()).unwrap(), b"from the proxy");
    for request in proxy.requests() {
        assert_eq!(request.target, url);
        assert_eq!(request.header("proxy-authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    }

    let direct = Server::start(|request| Reply::file(request, b"direct", "\"v1\""));
    through.no_proxy = Some("example.com, 127.0.0.0/8".to_owned());
    let client = Client::new(through);
    assert_eq!(client.read_small(&direct.url("/"), LIMIT, &CancelToken::new()).unwrap(), b"direct");
}

#[test]
fn no_host_is_asked_through_a_proxy_when_all_are_excepted() {
    let direct = Server::start(|request| Reply::file(request, b"direct", "\"v1\""));
    let port = direct.host().rsplit_once(':').unwrap().1.to_owned();
    for excepted in ["*".to_owned(), "127.0.0.1".to_owned(), format!("127.0.0.1:{port}")] {
        let mut options = options();
        options.http_proxy = Some("http://127.0.0.1:9".to_owned());
        options.no_proxy = Some(excepted.clone());
        let client = Client::new(options);
        assert_eq!(
            client.read_small(&direct.url("/"), LIMIT, &CancelToken::new()).unwrap(),
            b"direct",
            "{excepted}"
        );
    }
}

#[test]
fn a_proxy_that_wants_a_password_is_asked_once() {
    for url in ["http://origin.invalid/disk.img", "https://origin.invalid/disk.img"] {
        let proxy =
            Server::start(|_| Reply::status(407).header("Proxy-Authenticate", "Basic realm=x"));
        let mut options = options();
        options.http_proxy = Some(format!("http://{}", proxy.host()));
        options.https_proxy.clone_from(&options.http_proxy);
        let error = Client::new(options).read_small(url, LIMIT, &CancelToken::new()).unwrap_err();
        assert!(error.next_step().unwrap().contains("proxy's user and password"), "{error:?}");
        assert_eq!(proxy.requests().len(), 1, "{error:?}");
    }
}

/// A client with a netrc that has a user and a password for this machine.
fn with_netrc(machine: &str) -> ClientOptions {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("machine {machine} login user password secret\n")).unwrap();
    let mut options = options();
    options.credentials.add_netrc(file.path()).unwrap();
    options
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[test]
fn a_netrc_logs_in_where_it_names_the_host_and_nowhere_else() {
    let body = pattern(1000);
    let served = body.clone();
    let server = Server::start(move |request| match request.header("authorization") {
        Some(BASIC) => Reply::file(request, &served, "\"v1\""),
        _ => Reply::status(401).header("WWW-Authenticate", "Basic realm=x"),
    });
    let url = server.url("/disk.img");
    let read =
        |options: ClientOptions| Client::new(options).read_small(&url, LIMIT, &CancelToken::new());
    assert_eq!(read(with_netrc("127.0.0.1")).unwrap(), body);
    let error = assert_fails(read(with_netrc("localhost")), "401");
    assert!(error.next_step().unwrap().contains("--login"), "{error:?}");
    let mut wrong = options();
    wrong.credentials.add("127.0.0.1", "user", "SECRET");
    let error = assert_fails(read(wrong), "401");
    assert!(error.next_step().unwrap().contains("password is wrong"), "{error:?}");
    assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
}

#[test]
fn a_password_never_goes_where_a_redirection_leads() {
    let asked = |request: &Request| request.header("authorization").map(str::to_owned);
    let body = pattern(50_000);
    let served = body.clone();
    let other =
        Server::start(move |request| Reply::file(request, &served, "\"v1\"").close_after(20_000));
    // to another port of the same host, and to another name of the same host
    for target in [other.url("/x"), other.url("/x").replace("127.0.0.1", "user2:secret2@localhost")]
    {
        let server = Server::start(move |_| Reply::status(302).header("Location", &target));
        let client = Client::new(with_netrc("127.0.0.1"));
        assert_eq!(client.read_small(&server.url("/"), LIMIT, &CancelToken::new()).unwrap(), body);
        assert!(server.requests().iter().all(|request| asked(request).as_deref() == Some(BASIC)));
        assert!(
            other.requests().iter().all(|request| asked(request).is_none()),
            "{:?}",
            other.requests()
        );
    }
    // a redirect to another host and back: another host chose the path, so the request has no
    // credentials
    let home = Arc::new(Mutex::new(String::new()));
    let back = Arc::clone(&home);
    let away = Server::start(move |_| Reply::status(302).header("Location", &back.lock().unwrap()));
    let target = away.url("/");
    let server = Server::start(move |request| match request.target.as_str() {
        "/" => Reply::status(302).header("Location", &target),
        "/near" => Reply::status(302).header("Location", "/there"),
        _ => Reply::file(request, b"x", "\"v1\""),
    });
    *home.lock().unwrap() = server.url("/returned");
    let client = Client::new(with_netrc("127.0.0.1"));
    client.read_small(&server.url("/"), LIMIT, &CancelToken::new()).unwrap();
    client.read_small(&server.url("/near"), LIMIT, &CancelToken::new()).unwrap();
    for request in server.requests() {
        let is_named = request.target != "/returned";
        assert_eq!(asked(&request).is_some(), is_named, "{}", request.target);
    }
}

#[test]
fn works_on_a_thread_of_a_foreign_runtime() {
    let body = pattern(LEN);
    let served = body.clone();
    let server = Server::start(move |request| Reply::file(request, &served, "\"v1\""));
    let foreign = tokio::runtime::Builder::new_current_thread().build().unwrap();
    foreign.block_on(async { assert_eq!(read(&server.url("/")).unwrap(), body) });
}

#[test]
fn credentials_in_an_address_are_sent_but_not_shown() {
    let server = Server::start(|_| Reply::status(403));
    let url = server.url("/disk.img").replace("http://", "http://user:secret@");
    let error = assert_fails(read(&url), "403");
    assert!(!format!("{error:?} {:?}", error.path()).contains("secret"), "{error:?}");
    assert_eq!(server.requests()[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
}

#[test]
fn addresses_that_may_not_be_reached_are_not_asked_also_not_by_a_redirection() {
    let inside = Server::start(|_| Reply::whole(b"secret"));
    let address = inside.url("/x");
    let name = address.replace("127.0.0.1", "localhost");
    let mut options = options();
    options.may_reach = Some(Arc::new(|ip: std::net::IpAddr| !ip.is_loopback()));
    let client = Client::new(options);
    for url in [&address, &name] {
        let error = client.open(url, &CancelToken::new()).unwrap_err();
        assert!(error.to_string().contains("may not be reached"), "{error}");
        assert!(!error.to_string().contains("attempts"), "it is not tried again: {error}");
    }
    assert_eq!(inside.requests().len(), 0);
    // 127.0.0.2 simulates the address that a redirect leads to
    let elsewhere = address.replace("127.0.0.1", "127.0.0.2");
    let outside = Server::start(move |_| Reply::status(302).header("Location", &elsewhere));
    let mut options = self::options();
    options.may_reach =
        Some(Arc::new(|ip: std::net::IpAddr| ip != std::net::IpAddr::from([127, 0, 0, 2])));
    let error = Client::new(options).open(&outside.url("/x"), &CancelToken::new()).unwrap_err();
    assert!(
        error.to_string().contains("127.0.0.2 is at an address that may not be reached"),
        "{error}"
    );
}
