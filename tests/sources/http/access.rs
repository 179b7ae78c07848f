//! Proxies, passwords, and addresses that may not be reached.

use super::*;

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
    assert_eq!(error.remedy(), Some(Remedy::Credentials), "{error:?}");
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
        assert!(format!("{error:#}").contains("may not be reached"), "{error}");
        assert!(!format!("{error:#}").contains("attempts"), "it is not tried again: {error}");
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
        format!("{error:#}").contains("127.0.0.2 is at an address that may not be reached"),
        "{error}"
    );
}

#[test]
fn a_proxy_may_be_at_an_address_that_its_clients_may_not_name() {
    let proxy = Server::start(|request| Reply::file(request, b"from the proxy", "\"v1\""));
    let at = proxy.host().replace("127.0.0.1", "localhost");
    let mut options = options();
    options.may_reach = Some(Arc::new(|ip: std::net::IpAddr| !ip.is_loopback()));
    options.http_proxy = Some(format!("http://{at}"));
    options.no_proxy = Some("localhost".to_owned());
    let client = Client::new(options);
    let read = |url: &str| client.read_small(url, LIMIT, &CancelToken::new());
    assert_eq!(read("http://origin.invalid/disk.img").unwrap(), b"from the proxy");
    let asked = proxy.requests().len();
    let error = read(&format!("http://{at}/disk.img")).unwrap_err();
    assert!(error.to_string().contains("may not be reached"), "{error}");
    assert_eq!(proxy.requests().len(), asked, "the host of the proxy is not reached without it");
}
