//! Access control: passwords, sessions, tokens and scopes.

use bty_tests::web::{Answer, Web};
use serde_json::json;

use super::pxe::MAC;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn log_in(web: &Web, password: &str) -> Answer {
    web.request("POST", "/ui/login", &[FORM], format!("password={password}").as_bytes())
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn without_a_password_everybody_has_access_and_every_page_warns() {
    let web = Web::start();
    assert!(web.get("/ui/machines").expect(200).text().contains("No admin password is set"));
    assert!(web.log().contains("no admin password is set"));
    web.get("/machines").expect(200);
}

#[test]
fn a_session_starts_with_the_password_survives_restarts_and_can_be_ended() {
    let mut web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    assert_eq!(web.get("/machines").expect(401).json(), json!({ "detail": "login required" }));
    assert_eq!(web.get("/ui/machines").expect(303).header("location"), Some("/ui/login"));
    assert!(log_in(&web, "wrong").expect(200).text().contains("Invalid user name or password."));
    let answer = log_in(&web, "s3cret").expect(303);
    let set = answer.header("set-cookie").unwrap();
    assert!(
        set.starts_with("bty-token=")
            && set.contains("HttpOnly")
            && set.contains("SameSite=Strict"),
        "{set}"
    );
    assert!(!set.contains("Secure"), "it was asked by http");
    let secure = web
        .request("POST", "/ui/login", &[FORM, ("X-Forwarded-Proto", "https")], b"password=s3cret")
        .expect(303);
    assert!(!secure.header("set-cookie").unwrap().contains("Secure"), "nobody's proxy is believed");
    let own = cookie(&answer);
    let with = |web: &Web, method: &str, path: &str, body: &str| {
        web.request(method, path, &[("Cookie", &own), FORM], body.as_bytes())
    };
    let page = with(&web, "GET", "/ui/machines", "").expect(200).text();
    web.restart();
    with(&web, "GET", "/machines", "").expect(200);
    let forged = own.replace(|c: char| c.is_ascii_digit(), "0");
    web.request("GET", "/machines", &[("Cookie", &forged)], b"").expect(401);
    with(&web, "POST", "/ui/logout", "csrf=wrong").expect(403);
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    with(&web, "POST", "/ui/logout", &format!("csrf={csrf}")).expect(303);
    with(&web, "GET", "/machines", "").expect(401);
    let other = cookie(&log_in(&web, "s3cret").expect(303));
    web.request("DELETE", "/sessions", &[("Cookie", &other)], b"").expect(200);
    web.request("GET", "/machines", &[("Cookie", &other)], b"").expect(401);
}

#[test]
fn another_site_cannot_use_a_session() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let own = cookie(&log_in(&web, "s3cret"));
    let put = |headers: &[(&str, &str)]| {
        let mut all = vec![("Cookie", own.as_str()), ("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        web.request("PUT", &format!("/machines/{MAC}"), &all, b"{}").status
    };
    assert_eq!(put(&[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(put(&[("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(put(&[("Origin", "http://evil.example")]), 403);
    assert_eq!(put(&[("Origin", "null")]), 403);
    assert_eq!(put(&[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://evil.example")]), 200);
    assert_eq!(put(&[("Host", "bty.lan"), ("Origin", "http://bty.lan")]), 200);
    assert_eq!(put(&[]), 200, "programs do not say where they are");
    // also on a server without a password
    let open = Web::start();
    let answer = open.request("DELETE", "/sessions", &[("Sec-Fetch-Site", "cross-site")], b"");
    assert_eq!(answer.status, 403);
}

#[test]
fn wrong_passwords_delay_the_next_attempt() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    for _ in 0..5 {
        log_in(&web, "guess").expect(200);
    }
    let answer = log_in(&web, "s3cret").expect(429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert!(answer.text().contains("too many wrong passwords"));
}

#[test]
fn a_server_without_a_password_starts_only_if_configured() {
    let web = Web::start();
    let start = |env: &[(&str, &str)]| {
        let mut command = web.command(&["check-config"]);
        let output = command.envs(env.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = start(&[("BTY_ADMIN_PASSWORD", "")]);
    assert!(code == Some(2) && said.contains("admin.password: the value is empty"), "{said}");
    let (code, said) = start(&[("BTY_SERVER_HOST", "0.0.0.0")]);
    assert!(code == Some(2) && said.contains("set admin.open = 1"), "{said}");
    assert_eq!(start(&[("BTY_SERVER_HOST", "0.0.0.0"), ("BTY_ADMIN_OPEN", "1")]).0, Some(0));
    // the server refuses to start with the same message
    let mut serve = web.command(&[]);
    let output = serve.env("BTY_SERVER_HOST", "0.0.0.0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("set admin.open = 1"), "{output:?}");
}

#[test]
fn an_open_server_rejects_foreign_host_names() {
    let web = Web::with(&[("BTY_SERVER_PUBLIC_URL", "http://bty.lan:8080")]);
    let at = |host: &str, path: &str| web.request("GET", path, &[("Host", host)], b"").status;
    for path in ["/machines", "/ui/machines", "/events"] {
        assert_eq!(at("evil.example", path), 403, "{path}");
        for host in ["127.0.0.1:8080", "[::1]", "localhost", "bty.lan"] {
            assert_eq!(at(host, path), 200, "{host}{path}");
        }
    }
    assert_eq!(
        at("evil.example", &format!("/pxe/{MAC}")),
        200,
        "machines may call it as they like"
    );
    let told = web.request("GET", "/machines", &[("Host", "evil.example")], b"").text();
    assert!(told.contains("server.public_url"), "it names the way out: {told}");
}

#[test]
fn simulating_a_script_needs_the_permission_to_save_one() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let create = |scope: &str| {
        let output = web.command(&["token", "create", "test", "--scope", scope]).output().unwrap();
        format!("Bearer {}", String::from_utf8(output.stdout).unwrap().trim())
    };
    let (read, plans) = (create("read"), create("plans"));
    let simulate = |token: &str, path: &str, source: Option<&str>| {
        let binding = json!({ "boot_mode": "ipxe-exit" });
        let body =
            json!({ "plan": "own", "source": source, "binding": binding, "boots": 2 }).to_string();
        let headers = [("Authorization", token), ("Content-Type", "application/json")];
        web.request("POST", path, &headers, body.as_bytes()).status
    };
    let source = Some("//! Own\nfn boot(m) { boot_disk() }\n");
    for path in [format!("/machines/{MAC}/simulate"), "/simulate".to_owned()] {
        assert_eq!(simulate(&read, &path, source), 403, "{path}");
        assert_eq!(simulate(&plans, &path, source), 200, "{path}");
        assert_eq!(simulate(&read, &path, None), 200, "{path}");
    }
}

#[test]
fn simulations_do_not_delay_machines() {
    let web = Web::with(&[("BTY_TUNING_SCRIPT_WORKERS", "1")]);
    let slow = "//! Slow\nfn boot(m) { loop {} }\n";
    let body =
        json!({ "plan": "slow", "boots": 50, "binding": { "boot_mode": "slow" }, "source": slow })
            .to_string();
    let head = format!(
        "POST /machines/{MAC}/simulate HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", web.port())).unwrap();
            std::io::Write::write_all(&mut stream, (head.clone() + &body).as_bytes()).unwrap();
            stream
        })
        .collect();
    // each loop ends after 250 ms, but all of them together would take minutes
    let begun = std::time::Instant::now();
    assert!(web.get(&format!("/pxe/{MAC}")).expect(200).text().contains("#!ipxe"));
    web.get("/healthz").expect(200);
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    drop(clients);
}

#[test]
fn tokens_allow_exactly_what_their_scopes_say() {
    let mut web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let create = |scopes: &[&str]| {
        let mut arguments = vec!["token", "create", "test"];
        for scope in scopes {
            arguments.extend(["--scope", scope]);
        }
        let output = web.command(&arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (machines, read, admin) = (create(&["machines"]), create(&["read"]), create(&["admin"]));
    let status = |token: &str, method: &str, path: &str, body: &[u8]| {
        let bearer = format!("Bearer {token}");
        web.request(
            method,
            path,
            &[("Authorization", &bearer), ("Content-Type", "application/json")],
            body,
        )
        .status
    };
    let path = format!("/machines/{MAC}");
    assert_eq!(
        (status(&read, "GET", "/machines", b""), status(&read, "PUT", &path, b"{}")),
        (200, 403)
    );
    assert_eq!(
        (status(&machines, "PUT", &path, b"{}"), status(&machines, "GET", "/events", b"")),
        (200, 200)
    );
    assert_eq!(status(&machines, "PUT", "/settings", b"{}"), 403);
    assert_eq!(
        (status(&machines, "GET", "/tokens", b""), status(&machines, "POST", "/tokens", b"{}")),
        (403, 403)
    );
    assert_eq!(
        (status("made-up", "GET", "/machines", b""), status("", "GET", "/machines", b"")),
        (401, 401)
    );
    assert_eq!(
        status(&admin, "POST", "/tokens", br#"{"name":"ci","scopes":["catalog"],"days":1}"#),
        201
    );
    assert_eq!(status(&admin, "POST", "/tokens", br#"{"name":"ci","scopes":["root"]}"#), 422);
    assert_eq!(status(&admin, "DELETE", "/tokens/1", b""), 204);
    assert_eq!(status(&machines, "GET", "/machines", b""), 401, "revoked");
    web.headers.push(("Authorization".into(), format!("Bearer {admin}")));
    let list = web.get("/tokens").expect(200);
    assert!(!list.text().contains(&read), "a token is shown once");
    let log = web.get("/events?limit=500").text();
    assert!(!log.contains(&read) && !log.contains("s3cret"), "no secret in the log of events");
    for token in [&read, &machines, &admin] {
        let db = std::fs::read(web.state().join("state.db")).unwrap();
        assert!(
            !db.windows(token.len()).any(|window| window == token.as_bytes()),
            "no token in the database"
        );
    }
}

#[test]
fn every_answer_has_its_headers_and_nothing_is_loaded_from_elsewhere() {
    let web = Web::start();
    for path in ["/ui/machines", "/docs/api", "/machines", "/nowhere", "/pxe-bootstrap.ipxe"] {
        let answer = web.get(path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        for outside in ["http://cdn", "https://", "//unpkg", "style=\"", "<script>"] {
            let found = answer.text().contains(outside);
            assert!(!found || outside == "https://", "{path} has {outside}");
        }
    }
    let docs = web.get("/docs/api").text();
    assert!(!docs.contains("src=\"http") && !docs.contains("href=\"http"));
    assert_eq!(web.get("/openapi.json").json()["info"]["title"], "bty");
}

#[test]
fn a_refused_login_behind_a_proxy_names_the_setting_to_change() {
    let mut web =
        Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret"), ("BTY_SERVER_TRUSTED_PROXY", "127.0.0.0/8")]);
    let origin = ("Origin", "http://bty.example");
    let log_in = |web: &Web, more: &[(&str, &str)]| {
        let fields: Vec<_> =
            [FORM, origin, ("Accept", "text/html,*/*;q=0.8")].iter().chain(more).copied().collect();
        web.request("POST", "/ui/login", &fields, b"password=s3cret")
    };
    for _ in 0..3 {
        let page = log_in(&web, &[]).expect(403);
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        let text = page.text();
        let host = web.base().replace("http://", "");
        for part in [
            "Origin: http://bty.example",
            &host,
            "server.public_url",
            "server.trusted_proxy",
            "127.0.0.1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!(
        web.log().matches("server.trusted_proxy").count(),
        1,
        "once a minute: {}",
        web.log()
    );
    let json =
        web.request("POST", "/ui/login", &[FORM, origin], b"password=s3cret").expect(403).json();
    assert!(json["detail"].as_str().unwrap().contains("another site"), "{json}");
    log_in(&web, &[("X-Forwarded-Host", "bty.example")]).expect(303);
    web = Web::with(&[
        ("BTY_ADMIN_PASSWORD", "s3cret"),
        ("BTY_SERVER_PUBLIC_URL", "http://bty.example/"),
    ]);
    log_in(&web, &[]).expect(303);
}

#[test]
fn browsers_cannot_contact_the_server_for_a_machine() {
    let web = Web::start();
    let contact = format!("/pxe/{}?boot=b", MAC.replace(':', "-"));
    for header in [
        ("Sec-Fetch-Mode", "no-cors"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Referer", "http://evil.example/"),
    ] {
        for path in [&contact, &format!("/pxe/{MAC}/plan")] {
            let refused = web.request("GET", path, &[header], b"").expect(403);
            assert!(refused.text().contains("not for browsers"), "{}", refused.text());
        }
    }
    assert_eq!(web.get("/machines").expect(200).json(), json!([]), "none was discovered");
    web.get(&contact).expect(200);
}

#[test]
fn a_catalog_token_cannot_read_files_on_the_server() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let created = web.command(&["token", "create", "ci", "--scope", "catalog"]).output().unwrap();
    let token = String::from_utf8(created.stdout).unwrap().lines().next().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let ask = |path: &str, body: &str| {
        web.request(
            "POST",
            path,
            &[("Authorization", &bearer), ("Content-Type", "application/json")],
            body.as_bytes(),
        )
    };
    let answers = ["/etc/passwd", "/gone", "file:///etc/passwd", "FILE:///gone"]
        .map(|source| ask(&format!("/catalog/import?source={source}"), "").expect(403).text());
    assert!(
        answers.iter().all(|text| *text == answers[0] && text.contains("admin")),
        "{answers:?}"
    );
    let image = r#"{"image_url": "http://127.0.0.1:9/a.img", "sha_url": "/etc/passwd"}"#;
    assert!(ask("/catalog/entries", image).expect(422).text().contains("not a file on the server"));
    // nor does an import access services of this host
    let inside = bty_tests::server::Server::start(|_| bty_tests::server::Reply::whole(b"secret"));
    let refused = ask(&format!("/catalog/import?source={}", inside.url("/c.toml")), "").expect(400);
    assert!(refused.text().contains("may not be reached"), "{}", refused.text());
    assert_eq!(inside.requests().len(), 0);
}
