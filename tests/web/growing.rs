//! Scaling beyond one host: the files of `deploy/growing`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bty_tests::command::tool;
use bty_tests::nginx::Nginx;
use bty_tests::registry::Registry;
use bty_tests::server::{Reply, Server};
use bty_tests::web::{Web, web_path};
use bty_tests::{Daemon, LIMIT, eventually, free_port, pattern};

const KERNEL: &str = "bty-netboot-pc-x86_64-v9.9.squashfs";
/// More than two slices of the nginx cache.
const LEN: usize = 20_000_000;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn conf(name: &str, changes: &[(&str, String)]) -> String {
    let conf = std::fs::read_to_string(file(name)).unwrap();
    changes.iter().fold(conf, |conf, (from, to)| {
        assert!(conf.contains(from), "{from} is in the file");
        conf.replace(from, to)
    })
}

/// A server with an artifact, a cache host, and an origin with an image.
struct Site {
    web: Web,
    cache: Web,
    origin: Server,
    bytes: Vec<u8>,
}

impl Site {
    fn start() -> Self {
        let bytes = pattern(LEN);
        let served = bytes.clone();
        let origin = Server::start(move |request| Reply::file(request, &served, "\"1\""));
        let (web, cache) = (Web::start(), Web::cache(&[], &[]));
        web.request("PUT", &format!("/boot/{KERNEL}"), &[], &bytes).expect(200);
        Self { web, cache, origin, bytes }
    }

    /// The path of the image on a cache host.
    fn image(&self) -> String {
        use base64::Engine as _;
        let address = format!("http://{}/demo.img", self.origin.host());
        format!("/b/{}/demo.img", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(address))
    }

    /// Fetches an artifact and an image from `base`: by two clients at once, by one after them, and
    /// by one that requests a range. Checks that scripts of machines are not cached.
    fn ask(&self, base: &str) {
        for path in [format!("/boot/{KERNEL}"), self.image()] {
            let url = format!("{base}{path}");
            std::thread::scope(|scope| {
                let clients: Vec<_> = (0..2).map(|_| scope.spawn(|| get(&url, &[]))).collect();
                for client in clients {
                    assert!(client.join().unwrap() == self.bytes, "{url}");
                }
            });
            assert!(get(&url, &[]) == self.bytes);
            assert!(
                get(&url, &["-r", "9000000-9000999"]) == self.bytes[9_000_000..9_001_000],
                "a part of {url}"
            );
        }
        // scripts of machines always come from the server
        for nonce in ["1", "2"] {
            let script = get(&format!("{base}/pxe/52-54-00-12-34-56?boot={nonce}"), &[]);
            assert!(script.starts_with(b"#!ipxe"));
        }
        let contacts = self.web.events("52:54:00:12:34:56");
        assert_eq!(
            contacts.iter().filter(|kind| *kind == "netboot.pxe.offered").count(),
            2,
            "{contacts:?}"
        );
    }
}

fn get(url: &str, options: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["-sSf", "--max-time", "60"])
        .args(options)
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The sum of the metric `name` over all lines that contain `what`.
fn counted(web: &Web, name: &str, what: &str) -> u64 {
    let text = web.get("/metrics").expect(200).text();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(what));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn nginx_before_it_keeps_artifacts_and_images() {
    let (site, port, kept) = (Site::start(), free_port(), tempfile::tempdir().unwrap());
    let conf = conf(
        "growing/nginx-cache.conf",
        &[
            ("/var/cache/nginx/bty", kept.path().display().to_string()),
            ("127.0.0.1:8080", format!("127.0.0.1:{}", site.web.port())),
            ("127.0.0.1:3000", format!("127.0.0.1:{}", site.cache.port())),
            ("listen 80", format!("listen 127.0.0.1:{port}")),
        ],
    );
    let _nginx = Nginx::with_servers(&conf, port);
    site.ask(&format!("http://127.0.0.1:{port}"));
    assert_eq!(
        counted(&site.web, "bty_http_requests_total", "route=\"/boot/"),
        1 + 1,
        "an upload, and one transfer"
    );
    assert_eq!(counted(&site.cache, "bty_cache_sent_bytes_total", ""), LEN as u64);
}

#[test]
fn varnish_before_it_keeps_artifacts_and_images() {
    let (site, port, dir) = (Site::start(), free_port(), tempfile::tempdir().unwrap());
    let conf = conf(
        "growing/varnish.vcl",
        &[
            ("\"8080\"", format!("\"{}\"", site.web.port())),
            ("\"3000\"", format!("\"{}\"", site.cache.port())),
        ],
    );
    let vcl = dir.path().join("bty.vcl");
    std::fs::write(&vcl, conf).unwrap();
    let mut command = Command::new("/usr/sbin/varnishd");
    command.args([
        "-F",
        "-j",
        "none",
        "-a",
        &format!("127.0.0.1:{port}"),
        "-s",
        "malloc,200m",
        "-n",
    ]);
    command
        .arg(dir.path().join("work"))
        .arg("-f")
        .arg(&vcl)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _varnish = Daemon::start(&mut command, port, "varnish");
    site.ask(&format!("http://127.0.0.1:{port}"));
    assert_eq!(
        counted(&site.web, "bty_http_requests_total", "route=\"/boot/"),
        1 + 1,
        "an upload, and one transfer"
    );
    assert_eq!(counted(&site.cache, "bty_cache_sent_bytes_total", ""), LEN as u64);
}

#[test]
fn a_mirror_of_a_registry_gives_images_that_it_has_fetched_once() {
    let mut registry = Registry::start();
    let disk = bty_tests::images::disk_image(3 << 20);
    let layer = crate::sources::oci::layer(crate::sources::oci::IMAGE, "disk.img", &disk);
    crate::sources::oci::push(&registry, "lab/disk:v1", &[layer]);
    let remote = [("https://ghcr.io", format!("http://{}", registry.host()))];
    let mirror = Registry::with(&conf("growing/registry-mirror.yml", &remote));
    let hex = bty::Digest::of(&disk).to_string();
    let hex = hex.trim_start_matches("sha256:");
    let flash = || {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk");
        std::fs::File::create(&target).unwrap().set_len(4 << 20).unwrap();
        let reference = format!("oras://{}/lab/disk:v1", mirror.host());
        let _ = bty_tests::command::bty(&[
            "--plain-http",
            "flash",
            &reference,
            target.to_str().unwrap(),
            "--yes",
        ])
        .expect(0);
        assert!(std::fs::read(&target).unwrap()[..disk.len()] == disk);
    };
    flash();
    // the mirror finishes its download after the client is done
    eventually(LIMIT, "the mirror keeps the blob", || mirror.blob_file(hex).exists().then_some(()));
    let pulls = eventually(LIMIT, "the registry logs the pull", || {
        Some(registry.pulls(hex)).filter(|pulls| *pulls > 0)
    });
    flash();
    assert_eq!(registry.pulls(hex), pulls, "nothing of it is fetched again");
    // the mirror serves its copy without the registry
    registry.end();
    flash();
}

#[test]
fn several_front_ends_lead_to_one_server() {
    let web = Web::with(&[("BTY_SERVER_TRUSTED_PROXY", "127.0.0.0/8")]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ipxe.efi"), pattern(200_000)).unwrap();
    let mut running = Vec::new();
    for (number, address) in ["127.0.0.2", "127.0.0.3"].into_iter().enumerate() {
        let (http, kept, metrics) = (free_port(), tempfile::tempdir().unwrap(), free_port());
        let tftp = std::net::UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap();
        let front = conf(
            "growing/nginx-cache.conf",
            &[
                ("/var/cache/nginx/bty", kept.path().display().to_string()),
                ("127.0.0.1:8080", format!("127.0.0.1:{}", web.port())),
                ("listen 80", format!("listen 127.0.0.1:{http}")),
            ],
        );
        let nginx = Nginx::with_servers(&front, http);
        let base = format!("http://127.0.0.1:{http}");
        let mut command = Command::new(web_path());
        command.args([
            "tftp",
            "--listen",
            &tftp.to_string(),
            "--root",
            dir.path().to_str().unwrap(),
            "--server-url",
            &base,
        ]);
        command.args(["--metrics", &format!("127.0.0.1:{metrics}")]).stderr(Stdio::null());
        running.push((Daemon::start(&mut command, metrics, "bty-web"), nginx, kept));
        // firmware loads iPXE, iPXE loads its script, and both point to this front end
        let fetched = |name: &str| {
            let out = dir.path().join(format!("{name}-{number}"));
            let port = tftp.port().to_string();
            tool(&["atftp", "-g", "-r", name, "-l", out.to_str().unwrap(), address, &port]);
            std::fs::read(out).unwrap()
        };
        assert!(fetched("ipxe.efi") == pattern(200_000));
        let script = String::from_utf8(fetched("autoexec.ipxe")).unwrap();
        assert!(script.contains(&base), "{script}");
        let bootstrap = String::from_utf8(get(&format!("{base}/pxe-bootstrap.ipxe"), &[])).unwrap();
        assert!(bootstrap.contains(&format!("{base}/pxe/")), "{bootstrap}");
        let _ = get(&format!("{base}/pxe/02-00-00-00-00-0{number}?boot=1"), &[]);
    }
    assert_eq!(
        web.get("/machines").json().as_array().map(Vec::len),
        Some(2),
        "one server knows both"
    );
}
