//! A rack: a network namespace, the server, and a DHCP server with the configuration that the
//! server suggests.

use std::path::Path;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::netns::Netns;
use crate::qemu::ipxe;
use crate::web::Web;

/// Address of the server.
pub const ADDRESS: &str = "172.31.77.1";
/// Base URL of the server.
pub const BASE: &str = "http://172.31.77.1:8080";
/// MAC address of the first network card.
pub const MAC: &str = "52:54:00:aa:bb:01";

/// A rack with connections for two machines: `tap0` and `tap1`.
pub struct Rack {
    /// Network namespace of the server and the machines.
    pub ns: Netns,
    /// The server that boots the machines.
    pub web: Web,
    dnsmasq: Child,
    dir: TempDir,
}

impl Rack {
    /// Creates a rack whose dnsmasq has the lines that the server suggests below the heading that
    /// contains `what`, and further boot files.
    #[must_use]
    pub fn new(what: &str, files: &[&Path], env: &[(&str, &str)]) -> Self {
        let section = |told: &str| {
            let section =
                told.split("\n\n").find(|section| section.lines().next().unwrap().contains(what));
            section.unwrap_or_default().to_owned()
        };
        Self::with_lines(section, files, env)
    }

    /// Creates a rack whose dnsmasq has lines derived from everything that the server suggests.
    #[must_use]
    pub fn with_lines(
        lines: impl FnOnce(&str) -> String + Send,
        files: &[&Path],
        env: &[(&str, &str)],
    ) -> Self {
        let (ns, dir) = (Netns::new(), tempfile::tempdir().unwrap());
        for arguments in [
            "link add br0 type bridge forward_delay 0",
            "addr add 172.31.77.1/24 dev br0",
            // iPXE waits for an IPv6 router
            "addr add fd77::1/64 dev br0 nodad",
            "link set br0 up",
            "tuntap add tap0 mode tap",
            "link set tap0 master br0 up",
            "tuntap add tap1 mode tap",
            "link set tap1 master br0 up",
        ] {
            ns.ip(arguments);
        }
        let seed = dir.path().join("boot");
        std::fs::create_dir(&seed).unwrap();
        let programs = std::fs::read_dir(ipxe()).unwrap().map(|entry| entry.unwrap().path());
        for file in programs.chain(files.iter().map(|file| file.to_path_buf())) {
            std::fs::copy(&file, seed.join(file.file_name().unwrap())).unwrap();
        }
        let (web, dnsmasq) = ns.run(|| {
            let seed = seed.to_str().unwrap();
            let own = [
                ("BTY_SERVER_HOST", "0.0.0.0"),
                ("BTY_ADMIN_OPEN", "1"),
                ("BTY_TFTP_EMBEDDED", "1"),
                ("BTY_TFTP_LISTEN", "0.0.0.0:69"),
                ("BTY_TFTP_ROOT", seed),
                ("BTY_BOOT_SEED_DIR", seed),
            ];
            let web = Web::at(8080, &[&own, env].concat());
            let host = format!("{ADDRESS}:{}", web.port());
            let told =
                web.request("GET", "/netboot/dhcp", &[("Host", &host)], b"").expect(200).text();
            let lines = lines(&told);
            let common = "port=0\ninterface=br0\nbind-interfaces\nno-ping\nleasefile-ro\n\
                          dhcp-range=172.31.77.50,172.31.77.99,1h\n\
                          enable-ra\ndhcp-range=fd77::,ra-only,64\nra-param=br0,3,60\n";
            std::fs::write(dir.path().join("dnsmasq.conf"), format!("{common}{lines}\n")).unwrap();
            let of = |option: &str, name: &str| {
                format!("--{option}={}", dir.path().join(name).display())
            };
            let mut dnsmasq = Command::new("dnsmasq");
            dnsmasq
                .args(["-k", "--user=root", "--log-facility=-"])
                .args([of("conf-file", "dnsmasq.conf"), of("pid-file", "pid")]);
            let log = std::fs::File::create(dir.path().join("dnsmasq.log")).unwrap();
            (
                web,
                dnsmasq.stderr(log).spawn().expect("the Debian package dnsmasq-base is installed"),
            )
        });
        Self { ns, web, dnsmasq, dir }
    }

    /// A directory for the disks of machines.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        let _ = self.dnsmasq.kill();
        let _ = self.dnsmasq.wait();
    }
}
