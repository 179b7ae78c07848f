//! Bodies, redirections and errors of servers.

use super::*;

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
    let error = assert_fails(read(&server.url("/")), "sends no length");
    assert_eq!(error.remedy(), Some(Remedy::Sha256), "{error:?}");
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
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate CERTIFICATE; ssl_certificate_key \
         KEY; return 302 {target}$request_uri; }}"
    );
    let nginx = Nginx::with_servers(&conf, port);
    let mut options = options();
    options.ca_files.push(nginx.ca_file());
    let (client, url) = (Client::new(options), format!("https://localhost:{port}/a.img"));
    let error = assert_fails(
        client.read_small(&url, LIMIT, &CancelToken::new()),
        "redirects from https to http",
    );
    assert_eq!(error.remedy(), Some(Remedy::Sha256), "{error:?}");
    assert!(!format!("{error:#}").contains("attempts"), "it is not tried again: {error}");
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
    assert_eq!(error.remedy(), Some(Remedy::CaFiles), "{error:?}");
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
fn a_refused_first_connection_fails_at_once() {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&notices);
    let observer = move |event: &Event| kept.lock().unwrap().push(event.clone());
    let client = Client::new(options().observer(observer));
    // no other test gets this port, as could happen with the port of a stopped server
    let read = client.read_small("http://127.0.0.1:9/", LIMIT, &CancelToken::new());
    let error = assert_fails(read, "cannot connect");
    assert_eq!(*notices.lock().unwrap(), [], "it is not tried again");
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    let kind = cause.map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::ConnectionRefused));
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
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/18446744073709551615\r\n\
          Content-Length: 1\r\n\r\na",
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
