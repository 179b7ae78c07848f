//! Reverse proxies, orchestrators and systemd units: the files of `deploy/`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bty_tests::nginx::Nginx;
use bty_tests::web::{Web, web_path};
use bty_tests::{Daemon, LIMIT, eventually, free_port};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// nginx with the published configuration in front of a server with a password; one port for
/// people, one for machines.
struct Site {
    web: Web,
    nginx: Nginx,
    tls: u16,
    plain: u16,
}

impl Site {
    fn start() -> Self {
        Self::with_user("\"\"")
    }

    /// Starts a site whose proxy names the user `user`, as nginx writes it.
    fn with_user(user: &str) -> Self {
        let web = Web::with(&[
            ("BTY_ADMIN_PASSWORD", "s3cret"),
            ("BTY_SERVER_TRUSTED_PROXY", "127.0.0.1/32"),
            ("BTY_SERVER_REMOTE_USER_PROXIES", "127.0.0.1"),
        ]);
        let (tls, plain) = (free_port(), free_port());
        let conf = std::fs::read_to_string(file("nginx/bty.conf")).unwrap();
        let changes = [
            ("127.0.0.1:8080", web.base().trim_start_matches("http://").to_owned()),
            ("listen 443 ssl", format!("listen 127.0.0.1:{tls} ssl")),
            ("listen 80", format!("listen 127.0.0.1:{plain}")),
            ("/etc/ssl/bty.pem", "CERTIFICATE".into()),
            ("/etc/ssl/private/bty.key", "KEY".into()),
            ("Remote-User \"\"", format!("Remote-User {user}")),
        ];
        let conf = changes.iter().fold(conf, |conf, (from, to)| {
            assert!(conf.contains(from), "{from} is in the file");
            conf.replace(from, to)
        });
        Self { web, nginx: Nginx::with_servers(&conf, tls), tls, plain }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.tls)
    }

    fn curl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("curl");
        // the client has another address than nginx
        command
            .args(["-sS", "--max-time", "60", "--interface", "127.0.0.2", "--cacert"])
            .arg(self.nginx.ca_file())
            .args(arguments);
        command
    }

    /// Logs in. Returns the session cookie and the whole response.
    fn log_in(&self) -> (String, String) {
        let origin = format!("Origin: {}", self.url(""));
        let output = self
            .curl(&["-i", "-H", &origin, "-d", "password=s3cret", &self.url("/ui/login")])
            .output()
            .unwrap();
        let head = text(&output);
        let cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap_or_else(|| panic!("{head}"));
        (cookie.split(';').next().unwrap().to_owned(), head.clone())
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn behind_nginx_people_have_tls_live_pages_and_large_uploads() {
    let site = Site::start();
    let (cookie, head) = site.log_in();
    assert!(head.contains("; Secure"), "the session is for TLS only: {head}");
    let cookie = format!("Cookie: {cookie}");

    hears(&site.web, site.curl(&["-N", "-H", &cookie, &site.url("/events/stream")]));

    let large = site.web.state().join("large");
    std::fs::File::create(&large).unwrap().set_len(80 << 20).unwrap();
    let name = "/boot/bty-netboot-pc-x86_64-v9.9.9.squashfs";
    let upload = [
        "-T",
        large.to_str().unwrap(),
        "-H",
        &cookie,
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        &site.url(name),
    ];
    assert_eq!(text(&site.curl(&upload).output().unwrap()), "200");
    assert_eq!(site.web.state().join("boot").join(&name[6..]).metadata().unwrap().len(), 80 << 20);

    // events have the address of the client, and scripts send machines to the address that they
    // requested
    let cookie_header = [("Cookie", cookie.trim_start_matches("Cookie: "))];
    let events = site
        .web
        .request("GET", "/events?kind=auth.login.succeeded", &cookie_header, b"")
        .expect(200)
        .json();
    assert_eq!(events["events"][0]["source_ip"], "127.0.0.2");
    let script = text(&site.curl(&[&site.url("/pxe-bootstrap.ipxe")]).output().unwrap());
    assert!(script.contains(&site.url("/pxe/")), "{script}");
}

#[test]
fn behind_caddy_people_have_tls_live_pages_and_large_uploads() {
    let web = Web::with(&[
        ("BTY_ADMIN_PASSWORD", "s3cret"),
        ("BTY_SERVER_TRUSTED_PROXY", "127.0.0.1/32"),
    ]);
    let (dir, tls) = (tempfile::tempdir().unwrap(), free_port());
    let conf = std::fs::read_to_string(file("caddy/Caddyfile")).unwrap();
    assert!(conf.contains("bty.example {") && conf.contains("127.0.0.1:8080"));
    // an internal CA, and no ports besides this one
    let own = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n";
    let conf = conf
        .replace("bty.example {", &format!("https://localhost:{tls} {{\n\ttls internal"))
        .replace("127.0.0.1:8080", web.base().trim_start_matches("http://"));
    let path = dir.path().join("Caddyfile");
    std::fs::write(&path, format!("{own}{conf}")).unwrap();
    let mut command = Command::new("caddy");
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&path)
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    command
        .env("XDG_DATA_HOME", dir.path())
        .env("XDG_CONFIG_HOME", dir.path())
        .env("HOME", dir.path());
    let _caddy = Daemon::start(&mut command, tls, "caddy");
    let url = |path: &str| format!("https://localhost:{tls}{path}");
    let ca = dir.path().join("caddy/pki/authorities/local/root.crt");
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "-sS",
            "--max-time",
            "60",
            "--retry",
            "5",
            "--retry-all-errors",
            "--http1.1",
        ]);
        command.args(["--interface", "127.0.0.2", "--cacert"]).arg(&ca).args(arguments);
        command
    };
    let origin = format!("Origin: {}", url(""));
    let head = text(
        &curl(&["-i", "-H", &origin, "-d", "password=s3cret", &url("/ui/login")]).output().unwrap(),
    );
    assert!(head.contains("; Secure"), "the session is for TLS only: {head}");
    let cookie =
        head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: ")).unwrap();
    let cookie = format!("Cookie: {}", cookie[12..].split(';').next().unwrap());
    hears(&web, curl(&["-N", "-H", &cookie, &url("/events/stream")]));

    let large = dir.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(80 << 20).unwrap();
    let name = "/boot/bty-netboot-pc-x86_64-v9.9.9.squashfs";
    let upload = [
        "-T",
        large.to_str().unwrap(),
        "-H",
        &cookie,
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        &url(name),
    ];
    assert_eq!(text(&curl(&upload).output().unwrap()), "200");
    let cookie = [("Cookie", cookie.trim_start_matches("Cookie: "))];
    let events =
        web.request("GET", "/events?kind=auth.login.succeeded", &cookie, b"").expect(200).json();
    assert_eq!(events["events"][0]["source_ip"], "127.0.0.2");
    let script = text(&curl(&[&url("/pxe-bootstrap.ipxe")]).output().unwrap());
    assert!(script.contains(&url("/pxe/")), "{script}");
}

#[test]
fn the_kubernetes_manifest_limits_the_server() {
    let script = "import json, sys, yaml; \
                  json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(file("kubernetes/bty.yaml"))
        .output()
        .unwrap();
    let all: serde_json::Value = serde_json::from_str(&text(&output)).unwrap();
    let find = |kind: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|one| one["kind"] == kind)
            .unwrap_or_else(|| panic!("{kind}"))
    };
    let (server, service) = (&find("StatefulSet")["spec"], &find("Service")["spec"]);
    assert_eq!(
        (&server["replicas"], &server["selector"]["matchLabels"]),
        (&1.into(), &service["selector"])
    );
    let pod = &server["template"]["spec"];
    assert_eq!(
        (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["fsGroup"]),
        (&61069.into(), &61069.into())
    );
    let container = &pod["containers"][0];
    assert_eq!(container["image"], concat!("localhost/bty-web:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    // ports and volumes that are referenced are defined
    let ports: Vec<_> =
        container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    for port in service["ports"].as_array().unwrap() {
        assert!(ports.contains(&&port["targetPort"]), "{port}");
    }
    let volumes = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]);
    let volumes: Vec<_> =
        volumes.chain([&server["volumeClaimTemplates"][0]["metadata"]["name"]]).collect();
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(volumes.contains(&&mount["name"]), "{mount}");
    }
    // a published file must not contain a password: every site would have the same one
    assert!(
        container["envFrom"][0]["secretRef"]["name"] == "bty-web"
            && !all.to_string().contains("\"Secret\"")
    );
    assert_eq!(server["volumeClaimTemplates"][0]["spec"]["accessModes"][0], "ReadWriteOnce");
    // the server accepts the configuration
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("bty.toml");
    std::fs::write(&config, find("ConfigMap")["data"]["bty.toml"].as_str().unwrap()).unwrap();
    let mut check = Command::new(web_path());
    // in the cluster, this comes from the secret
    check.env("BTY_ADMIN_PASSWORD", "s3cret");
    check.args(["check-config", "--config"]).arg(&config);
    for variable in
        container["env"].as_array().unwrap().iter().filter(|one| one["name"] != "BTY_CONFIG_FILE")
    {
        check.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
    }
    let said = text(&check.output().unwrap());
    assert!(said.contains("the configuration is valid") && !said.contains("unknown key"), "{said}");
}

/// Checks that the command `listen` gets an event at once, and not only when a buffer is full.
fn hears(web: &Web, mut listen: Command) {
    let mut listening = listen.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines();
    let heard = std::thread::spawn(move || {
        lines.find_map(|line| line.ok().filter(|line| line.starts_with("data:")))
    });
    // the stream has only events after its start, so repeat until one arrives
    eventually(LIMIT, "an event is heard", || {
        if heard.is_finished() {
            return Some(());
        }
        let report = [("Content-Type", "application/json")];
        web.request("POST", "/pxe/525400999999/status", &report, br#"{"status":"done"}"#)
            .expect(404);
        None
    });
    assert!(heard.join().unwrap().unwrap().contains("\"kind\":"));
    listening.kill().unwrap();
    listening.wait().unwrap();
}

#[test]
fn only_the_proxy_itself_names_a_user() {
    for (user, status) in [("\"\"", "303"), ("alice", "200")] {
        let site = Site::with_user(user);
        for name in ["alice", "bob"] {
            let add = ["user", "add", name, "--role", "viewer", "--no-password"];
            assert!(site.web.command(&add).output().unwrap().status.success());
        }
        let page = |path: &str| {
            let asked = ["-H", "Remote-User: bob", "-w", "%{http_code}", &site.url(path)];
            text(&site.curl(&asked).output().unwrap())
        };
        let machines = page("/ui/machines");
        assert!(machines.ends_with(status), "{user}: {machines}");
        assert_eq!(machines.contains("alice"), user == "alice", "the page names its user");
        assert!(!machines.contains("bob"), "the client names nobody");
        assert!(page("/machines").ends_with("401"), "the API takes no names");
    }
}

#[test]
fn behind_nginx_machines_have_plain_http_and_nothing_that_needs_a_password() {
    let site = Site::start();
    let status = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", site.plain);
        text(&site.curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]).output().unwrap())
    };
    for path in [
        "/pxe-bootstrap.ipxe",
        "/pxe/52-54-00-12-34-56?boot=1",
        "/catalog.toml",
        "/images",
        "/healthz",
    ] {
        assert_eq!(status(path), "200", "{path}");
    }
    for path in ["/ui/login", "/machines", "/events", "/", "/pxe-bootstrap.ipxe.bak", "/settings"] {
        assert_eq!(status(path), "404", "{path}");
    }
}

/// The status of a request over plain HTTP at `port`, with an admin token. A body that is not empty
/// is sent as JSON.
fn plain_with_token(port: u16, token: &str, method: &str, path: &str, body: &str) -> String {
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--max-time",
        "60",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        method,
    ]);
    command.args(["-H", &format!("Authorization: Bearer {token}")]);
    if method == "HEAD" {
        command.arg("--head");
    } else if !body.is_empty() {
        command.args(["-H", "Content-Type: application/json", "-d", body]);
    }
    text(&command.arg(format!("http://127.0.0.1:{port}{path}")).output().unwrap())
}

/// Checks which requests a plain HTTP port refuses and which it forwards, with a token that is
/// valid over TLS.
fn refuses_writes(web: &Web, port: u16) {
    let name = "/boot/bty-netboot-pc-x86_64-v9.9.9.squashfs";
    let token = web.command(&["token", "create", "ci", "--scope", "admin"]).output().unwrap();
    let token = text(&token).trim().to_owned();
    let bearer = format!("Bearer {token}");
    let own = [("Authorization", bearer.as_str())];
    let _ = web.request("PUT", name, &own, b"x").expect(200);
    let send =
        |method: &str, path: &str, body: &str| plain_with_token(port, &token, method, path, body);
    for (method, path) in [
        ("PUT", name),
        ("DELETE", name),
        ("POST", name),
        ("PUT", "/catalog.toml"),
        ("POST", "/images"),
        ("DELETE", "/pxe/525400123456"),
        ("PUT", "/pxe/525400123456/status"),
        ("PATCH", "/blob"),
        ("POST", "/pxe-bootstrap.ipxe"),
        ("OPTIONS", "/healthz"),
    ] {
        assert_eq!(send(method, path, "{}"), "403", "{method} {path}");
    }
    assert_eq!(
        std::fs::read(web.state().join("boot").join(&name[6..])).unwrap(),
        b"x",
        "nothing was written"
    );
    assert_eq!(send("GET", name, ""), "200");
    assert_eq!(send("HEAD", name, ""), "200");
    // reports of machines reach the server, which does not know this machine
    assert_eq!(send("POST", "/pxe/525400999999/status", r#"{"status":"done"}"#), "404");
    // requests that need the token fail, because it is not forwarded
    assert_ne!(send("GET", "/machines", ""), "200", "the token is not forwarded");
}

#[test]
fn plain_http_ports_of_proxies_refuse_writes_with_a_token() {
    let site = Site::start();
    refuses_writes(&site.web, site.plain);
}

#[test]
fn plain_http_ports_of_cache_proxies_refuse_writes_with_a_token() {
    let web = Web::with(&[
        ("BTY_ADMIN_PASSWORD", "s3cret"),
        ("BTY_SERVER_TRUSTED_PROXY", "127.0.0.1/32"),
    ]);
    let (port, kept) = (free_port(), tempfile::tempdir().unwrap());
    let conf = std::fs::read_to_string(file("growing/nginx-cache.conf")).unwrap();
    let conf = conf
        .replace("/var/cache/nginx/bty", &kept.path().display().to_string())
        .replace("127.0.0.1:8080", web.base().trim_start_matches("http://"))
        .replace("listen 80", &format!("listen 127.0.0.1:{port}"));
    let _nginx = Nginx::with_servers(&conf, port);
    refuses_writes(&web, port);

    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let conf = std::fs::read_to_string(file("growing/varnish.vcl")).unwrap();
    let vcl = dir.path().join("bty.vcl");
    std::fs::write(&vcl, conf.replace("\"8080\"", &format!("\"{}\"", web.port()))).unwrap();
    let mut command = Command::new("/usr/sbin/varnishd");
    command.args([
        "-F",
        "-j",
        "none",
        "-a",
        &format!("127.0.0.1:{port}"),
        "-s",
        "malloc,20m",
        "-n",
    ]);
    command
        .arg(dir.path().join("work"))
        .arg("-f")
        .arg(&vcl)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _varnish = Daemon::start(&mut command, port, "varnish");
    refuses_writes(&web, port);
    // the rules also apply to later requests on a connection
    let twice = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nPUT /boot/a.squashfs HTTP/1.1\r\n\
                 Host: h\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    std::io::Write::write_all(&mut stream, twice.as_bytes()).unwrap();
    let mut answers = String::new();
    let _ = std::io::Read::read_to_string(&mut stream, &mut answers);
    assert!(answers.contains("200 OK") && answers.contains(" 403 "), "{answers}");
}

#[test]
fn the_units_are_valid_and_limit_the_server() {
    for name in ["bty-web", "bty-cache", "bty-tftp"] {
        let dir = tempfile::tempdir().unwrap();
        let unit = dir.path().join(format!("{name}.service"));
        let text = std::fs::read_to_string(file(&format!("systemd/{name}.service"))).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/bty-web"), "{name}");
        std::fs::write(&unit, text.replace("/usr/bin/bty-web", web_path().to_str().unwrap()))
            .unwrap();
        let analyze = |arguments: &[&str]| {
            let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output();
            let output = output.expect("the Debian package systemd is installed");
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            (output.status.success(), said)
        };
        let (is_understood, said) = analyze(&["verify", "--man=no"]);
        assert!(is_understood && !said.contains(name), "{said}");
        // the exposure of the machine to the unit, from 0 to 100
        let (is_bounded, said) = analyze(&["security", "--offline=yes", "--threshold=25"]);
        assert!(is_bounded, "{said}");
    }
}

#[test]
fn health_reports_the_server_by_its_exit_code() {
    let mut web = Web::with(&[("BTY_ADMIN_PASSWORD", "s3cret")]);
    let health = |web: &Web, more: &[&str]| {
        let output = web.command(&[&["health"], more].concat()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(health(&web, &[]), (Some(0), String::new()));
    let cache = Web::cache(&[], &[]);
    assert_eq!(health(&web, &["--url", &cache.base()]), (Some(0), String::new()));
    let other = Nginx::start("");
    let page = other.put("healthz", b"<html>");
    let (code, said) = health(&web, &["--url", page.trim_end_matches("/healthz")]);
    assert_eq!(code, Some(1));
    assert!(said.contains("is not a bty server"), "{said}");
    web.end();
    let (code, said) = health(&web, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("refused"), "{said}");
}
