//! A server behind a proxy at a path: `http://h/bty`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use bty_tests::command::tool;
use bty_tests::nginx::Nginx;
use bty_tests::web::Web;
use bty_tests::{Daemon, free_port};
use serde_json::json;

use super::pxe::{MAC, add_image};

const ROOT: &str = "/bty";

fn below(more: &[(&str, &str)]) -> Web {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}{ROOT}/");
    let env: Vec<_> =
        [("BTY_SERVER_PUBLIC_URL", url.as_str())].iter().chain(more).copied().collect();
    Web::at(port, &env)
}

/// The URLs on a page that browsers and htmx request.
fn links(page: &str) -> BTreeSet<String> {
    let names =
        ["href", "action", "formaction", "src", "data-hx-get", "data-hx-post", "data-follow"];
    let of = |name: &str| {
        let start = format!(" {name}=\"");
        page.split(&start)
            .skip(1)
            .filter_map(|rest| Some(rest.split('"').next()?.to_owned()))
            .collect::<Vec<_>>()
    };
    names.into_iter().flat_map(of).collect()
}

#[test]
fn every_link_of_every_page_leads_below_the_path() {
    let web = below(&[
        ("BTY_CACHE_EMBEDDED", "1"),
        ("BTY_CACHE_LISTEN", &format!("127.0.0.1:{}", free_port())),
    ]);
    let image = add_image(&web);
    let binding = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
        "labels": ["lab"],
    });
    web.send("PUT", &format!("/machines/{MAC}"), &binding).expect(200);
    web.request("PUT", "/boot/undionly.kpxe", &[], b"x").expect(200);
    web.send("POST", "/workers/backups", &json!({})).expect(202);
    let mut todo = vec![
        format!("{ROOT}/ui/dashboard"),
        format!("{ROOT}/ui/netboot/probe"),
        format!("{ROOT}/docs/api"),
    ];
    let mut seen: BTreeSet<String> = todo.iter().cloned().collect();
    let mut pages = 0;
    while let Some(path) = todo.pop() {
        let answer = web.get(&path);
        assert!(answer.status < 400, "{path}: {}", answer.status);
        if let Some(to) = answer.header("location") {
            assert!(to.starts_with("/bty/"), "{path} leads to {to}");
            continue;
        }
        if !answer.header("content-type").is_some_and(|media| media.starts_with("text/html")) {
            continue;
        }
        pages += 1;
        for link in links(&answer.text()) {
            let link = link.replace("&amp;", "&").replace("&#38;", "&");
            let is_elsewhere =
                link.starts_with('#') || link.starts_with('?') || link.contains("://");
            assert!(is_elsewhere || link.starts_with("/bty/"), "{path} has the link {link}");
            // streams never end, and forms are not fetched
            let is_page = link.starts_with("/bty/ui/") || link.starts_with("/bty/static/");
            let to = link.split('#').next().unwrap_or_default().to_owned();
            if is_page
                && !to.ends_with("/live")
                && !is_form(&to)
                && seen.len() < 150
                && seen.insert(to.clone())
            {
                todo.push(to);
            }
        }
    }
    assert!(pages > 15, "{pages} pages");
    let document = web.get("/bty/openapi.json").expect(200).json();
    assert_eq!(document["servers"][0]["url"], ROOT);
    let script = web.get("/bty/pxe-bootstrap.ipxe").expect(200).text();
    assert!(script.contains("/bty/pxe/${mac:hexhyp}"), "{script}");
    web.get("/bty/boot//undionly.kpxe").expect(200);
}

/// True for paths that accept only forms.
fn is_form(path: &str) -> bool {
    [
        "/add",
        "/preview",
        "/delete",
        "/check",
        "/roll-back",
        "/undo",
        "/logout",
        "/upload",
        "/configuration",
    ]
    .iter()
    .any(|end| path.ends_with(end))
}

#[test]
fn the_log_in_works_whether_the_proxy_keeps_the_path_or_not() {
    let web = below(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for root in [ROOT, ""] {
        assert_eq!(
            web.get(&format!("{root}/")).expect(303).header("location"),
            Some("/bty/ui/login")
        );
        assert_eq!(
            web.get(&format!("{root}/ui/machines")).expect(303).header("location"),
            Some("/bty/ui/login")
        );
        let answer = web
            .request("POST", &format!("{root}/ui/login"), &[form], b"password=s3cret")
            .expect(303);
        assert_eq!(answer.header("location"), Some("/bty/ui/dashboard"));
        let set = answer.header("set-cookie").unwrap().to_owned();
        assert!(set.contains("Path=/bty;") || set.ends_with("Path=/bty"), "{set}");
        let cookie = ("Cookie", set.split(';').next().unwrap());
        web.request("GET", &format!("{root}/ui/machines"), &[cookie], b"").expect(200);
    }
}

/// The lines of a code block of the documentation.
fn documented(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/deploy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let start = format!("```{language}\n");
    page.split(&start).nth(1).unwrap().split("```").next().unwrap().to_owned()
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is in {text}");
    text.replace(from, to)
}

/// Logs in and boots a machine through a proxy at `base` in front of port `port`.
fn people_and_machines_get_through(base: &str, port: u16) {
    let url = format!("{base}{ROOT}");
    let env = [("BTY_SERVER_PUBLIC_URL", url.as_str()), ("BTY_ADMIN_PASSWORD", "s3cret")];
    let _web = Web::at(port, &env);
    let curl = |arguments: &[&str]| tool(&[&["curl", "-sSi"], arguments].concat());
    let origin = format!("Origin: {base}");
    let answer = curl(&["-d", "password=s3cret", "-H", &origin, &format!("{url}/ui/login")]);
    assert!(answer.contains("/bty/ui/dashboard"), "{answer}");
    let field = |line: &str| Some(line.split_once(": ")?.1.split(';').next()?.to_owned());
    let is_session = |line: &&str| line.to_ascii_lowercase().starts_with("set-cookie: ");
    let session = answer.lines().find(is_session).and_then(field).unwrap();
    let page = curl(&["-H", &format!("Cookie: {session}"), &format!("{url}/ui/machines")]);
    assert!(page.contains("200 OK") && page.contains("\"/bty/static/bty.js"), "{page}");
    let script = curl(&[&format!("{url}/pxe-bootstrap.ipxe")]);
    assert!(script.contains(&format!("{url}/pxe/")), "{script}");
    let boot = curl(&[&format!("{url}/pxe/52-54-00-12-34-56")]);
    assert!(boot.contains(&url) && boot.contains("bty.cycle="), "{boot}");
}

#[test]
fn nginx_serves_below_a_path_with_the_documented_lines() {
    let lines = documented("nginx");
    // it passes the path on, or removes it
    for end in ["", "/"] {
        let port = free_port();
        let to = format!("http://127.0.0.1:{port}{end};");
        let nginx = Nginx::start(&replaced(&lines, "http://bty;", &to));
        people_and_machines_get_through(&nginx.base(), port);
        let bare = tool(&["curl", "-sSi", &format!("{}{ROOT}", nginx.base())]);
        assert!(bare.contains(" 308 "), "{bare}");
    }
}

#[test]
fn caddy_serves_below_a_path_with_the_documented_lines() {
    let lines = documented("caddyfile");
    for handle in ["handle /bty*", "handle_path /bty*"] {
        let (port, front) = (free_port(), free_port());
        let lines = replaced(&lines, "127.0.0.1:8080", &format!("127.0.0.1:{port}"));
        let lines = replaced(&lines, "handle /bty*", handle);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Caddyfile");
        let site = format!("{{\n\tadmin off\n}}\nhttp://127.0.0.1:{front} {{\n{lines}\n}}\n");
        std::fs::write(&path, site).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path);
        command.stderr(Stdio::null()).stdout(Stdio::null());
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"] {
            command.env(name, dir.path());
        }
        let _caddy = Daemon::start(&mut command, front, "caddy");
        people_and_machines_get_through(&format!("http://127.0.0.1:{front}"), port);
    }
}
