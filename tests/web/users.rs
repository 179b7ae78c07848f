//! Named users: the commands that manage them, log-ins, and their names in events.

use std::io::Write as _;
use std::process::{Output, Stdio};

use bty_tests::web::{Answer, Web};
use serde_json::json;

use super::pxe::MAC;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Runs `bty-web user` with `password` on standard input.
fn user(web: &Web, arguments: &[&str], password: &str) -> Output {
    let mut command = web.command(&[&["user"][..], arguments].concat());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // a command that fails before it reads closes the pipe
    let _ = writeln!(child.stdin.take().unwrap(), "{password}");
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn log_in(web: &Web, name: &str, password: &str) -> Answer {
    let form = format!("user={name}&password={password}");
    web.request("POST", "/ui/login", &[FORM], form.as_bytes())
}

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn users_are_managed_by_commands_and_their_passwords_are_never_arguments() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let added = user(&web, &["add", "alice", "--role", "operator"], "correct-horse");
    assert!(added.status.success(), "{added:?}");
    assert_eq!(said(&added), "added the user alice with the role operator\n");
    let refusals: [(&[&str], &str, &str); 9] = [
        (&["add", "Alice", "--role", "viewer"], "correct-horse", "exists"),
        (&["add", "bob", "--role", "root"], "correct-horse", "viewer, operator or admin"),
        (&["add", "bob", "--role", "viewer"], "short", "at least 8 characters"),
        (&["add", "bob", "--role", "viewer"], "", "empty"),
        (&["add", "admin", "--role", "viewer"], "correct-horse", "admin.password"),
        (&["add", "a b", "--role", "viewer"], "correct-horse", "invalid user name"),
        (&["role", "bob", "viewer"], "", "user bob"),
        (&["remove", "admin"], "", "admin.password"),
        (&["password", "bob"], "correct-horse", "user bob"),
    ];
    for (arguments, password, why) in refusals {
        let refused = user(&web, arguments, password);
        assert!(!refused.status.success() && said(&refused).contains(why), "{refused:?}");
    }
    assert!(
        user(&web, &["add", "carol", "--role", "viewer", "--no-password"], "").status.success()
    );
    let list = said(&user(&web, &["list"], ""));
    let rows: Vec<Vec<&str>> =
        list.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(
        rows,
        [
            ["Name", "Role", "Login"],
            ["alice", "operator", "password"],
            ["carol", "viewer", "proxy"]
        ]
    );
    log_in(&web, "carol", "").expect(200);

    let session = cookie(&log_in(&web, "ALICE", "correct-horse").expect(303));
    let get = |path: &str| web.request("GET", path, &[("Cookie", &session)], b"").status;
    assert_eq!((get("/machines"), get("/tokens")), (200, 403));
    assert!(user(&web, &["role", "alice", "admin"], "").status.success());
    assert_eq!(get("/tokens"), 200);
    assert!(user(&web, &["password", "alice"], "battery-staple").status.success());
    assert_eq!(get("/machines"), 401, "a new password ends sessions");
    log_in(&web, "alice", "correct-horse").expect(200);
    let session = cookie(&log_in(&web, "alice", "battery-staple").expect(303));
    assert!(user(&web, &["remove", "alice"], "").status.success());
    let gone = web.request("GET", "/machines", &[("Cookie", &session)], b"").status;
    assert_eq!(gone, 401, "a removed user has no session");
    log_in(&web, "alice", "battery-staple").expect(200);

    let admin = cookie(&log_in(&web, "admin", "s3cret").expect(303));
    let log = web.request("GET", "/events?limit=500", &[("Cookie", &admin)], b"").text();
    for secret in ["correct-horse", "battery-staple", "argon2"] {
        assert!(!log.contains(secret), "{secret} is in the log of events");
    }
}

#[test]
fn events_say_which_user_or_token_has_caused_them() {
    let web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    assert!(user(&web, &["add", "alice", "--role", "operator"], "correct-horse").status.success());
    let created = web.command(&["token", "create", "ci", "--scope", "admin"]).output().unwrap();
    let bearer = format!("Bearer {}", String::from_utf8(created.stdout).unwrap().trim());
    let alice = cookie(&log_in(&web, "alice", "correct-horse").expect(303));
    let admin = cookie(&log_in(&web, "", "s3cret").expect(303));
    let machine = format!("/machines/{MAC}");
    let body = json!({ "boot_mode": "ipxe-exit" }).to_string();
    let entry = json!({ "image_url": "http://127.0.0.1:9/a.img", "name": "a.img" }).to_string();
    for headers in [("Cookie", alice.as_str()), ("Authorization", &bearer), ("Cookie", &admin)] {
        let json = ("Content-Type", "application/json");
        web.request("PUT", &machine, &[headers, json], body.as_bytes()).expect(200);
    }
    let headers = [("Cookie", alice.as_str()), ("Content-Type", "application/json")];
    // there is no such image, which is recorded too
    let _ = web.request("POST", "/catalog/entries", &headers, entry.as_bytes());
    web.get(&format!("/pxe/{MAC}?boot=1")).expect(200);

    let events = |query: &str| {
        let path = format!("/events?{query}");
        let list = web.request("GET", &path, &[("Authorization", &bearer)], b"").expect(200);
        let events = list.json()["events"].as_array().unwrap().clone();
        let who = |event: &serde_json::Value| (event["actor"].clone(), event["actor_name"].clone());
        events.iter().map(who).collect::<Vec<_>>()
    };
    let by = |name: &str| (json!("operator"), json!(name));
    assert_eq!(
        events(&format!("subject_id={MAC}")),
        [(json!("pxe-client"), json!(null)), by("admin"), by("token ci"), by("alice")]
    );
    let of_alice = events("actor_name=ALICE");
    assert_eq!(of_alice.len(), 3, "a log-in, a machine, an image: {of_alice:?}");
    assert!(of_alice.iter().all(|who| *who == by("alice")));
    assert_eq!(events("kind=auth.login.succeeded"), [by("admin"), by("alice")]);
    let page = web
        .request("GET", "/ui/events?q=actor%3Aalice", &[("Cookie", &alice)], b"")
        .expect(200)
        .text();
    assert!(page.contains(MAC), "{page}");
}

#[test]
fn proxies_that_log_in_users_must_be_named_one_by_one() {
    let web = Web::start();
    for (proxies, why) in [
        ("1", "addresses of proxies"),
        ("0.0.0.0/0", "addresses of proxies"),
        ("10.0.0.1, ::/0", "addresses of proxies"),
        ("nginx", "addresses of proxies"),
        ("10.0.0.1", "it needs admin.password"),
    ] {
        let mut command = web.command(&["check-config"]);
        let output = command.env("BTY_SERVER_REMOTE_USER_PROXIES", proxies).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{proxies}");
        assert!(said(&output).contains(why), "{proxies}: {output:?}");
    }
}
