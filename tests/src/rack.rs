//! A rack: a network namespace, the server, and a DHCP server with the configuration that the
//! server suggests.

use std::net::SocketAddr;
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

/// How the machines of a rack reach the server when they boot. Later they have addresses of both
/// kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The server's address, as in a URL.
    fn host(self) -> &'static str {
        if self == Self::Ipv4 { ADDRESS } else { "[fd77::1]" }
    }

    /// The address on which the server listens.
    fn any(self) -> &'static str {
        if self == Self::Ipv4 { "0.0.0.0" } else { "::" }
    }

    /// Lines of dnsmasq that give machines addresses.
    fn ranges(self) -> &'static str {
        match self {
            // iPXE waits for an IPv6 router
            Self::Ipv4 => "dhcp-range=fd77::,ra-only,64",
            Self::Ipv6 => "dhcp-range=fd77::50,fd77::99,64,1h",
        }
    }
}

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
        Self::with_lines(|told| section(told, what), files, env)
    }

    /// Like [`new`](Self::new), for UEFI machines that boot over IPv6.
    #[must_use]
    pub fn over_ipv6(files: &[&Path], env: &[(&str, &str)]) -> Self {
        Self::build(Family::Ipv6, |told| section(told, "dnsmasq"), files, env)
    }

    /// Creates a rack whose dnsmasq has lines derived from everything that the server suggests.
    #[must_use]
    pub fn with_lines(
        lines: impl FnOnce(&str) -> String + Send,
        files: &[&Path],
        env: &[(&str, &str)],
    ) -> Self {
        Self::build(Family::Ipv4, lines, files, env)
    }

    fn build(
        family: Family,
        lines: impl FnOnce(&str) -> String + Send,
        files: &[&Path],
        env: &[(&str, &str)],
    ) -> Self {
        let (ns, dir) = (Netns::new(), tempfile::tempdir().unwrap());
        for arguments in [
            "link add br0 type bridge forward_delay 0",
            "addr add 172.31.77.1/24 dev br0",
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
            let tftp = SocketAddr::new(family.any().parse().unwrap(), 69).to_string();
            let own = [
                ("BTY_SERVER_HOST", family.any()),
                ("BTY_ADMIN_OPEN", "1"),
                ("BTY_TFTP_EMBEDDED", "1"),
                ("BTY_TFTP_LISTEN", &tftp),
                ("BTY_TFTP_ROOT", seed),
                ("BTY_BOOT_SEED_DIR", seed),
            ];
            let web = Web::at(8080, &[&own, env].concat());
            let host = format!("{}:{}", family.host(), web.port());
            let told =
                web.request("GET", "/netboot/dhcp", &[("Host", &host)], b"").expect(200).text();
            let lines = lines(&told);
            let common = "port=0\ninterface=br0\nbind-interfaces\nno-ping\nleasefile-ro\n\
                          dhcp-range=172.31.77.50,172.31.77.99,1h\n\
                          enable-ra\nra-param=br0,3,60";
            let ranges = family.ranges();
            let config = format!("{common}\n{ranges}\n{lines}\n");
            std::fs::write(dir.path().join("dnsmasq.conf"), config).unwrap();
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

/// The lines that the server suggests below the heading that contains `what`; empty if there are
/// none.
#[must_use]
pub fn section(told: &str, what: &str) -> String {
    let mut sections = told.split("\n\n");
    let section = sections.find(|section| section.lines().next().unwrap().contains(what));
    section.unwrap_or_default().to_owned()
}

impl Drop for Rack {
    fn drop(&mut self) {
        let _ = self.dnsmasq.kill();
        let _ = self.dnsmasq.wait();
    }
}
