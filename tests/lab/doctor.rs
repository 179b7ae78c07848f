//! Problems that `bty-lab doctor` finds.

use std::process::{Child, Command};

use bty_tests::command::Outcome;
use bty_tests::netns::Netns;
use bty_tests::{LIMIT, eventually};
use serde_json::Value;

use super::fake::{Host, UID};

/// Check and detail of all problems in the output of `bty-lab doctor --json`.
fn problems(run: &Outcome) -> Vec<(String, String)> {
    let all: Vec<Value> = serde_json::from_str(&run.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", run.stdout, run.stderr));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problems: Vec<_> = all.iter().filter(|finding| finding["level"] == "error").collect();
    assert!(
        problems.iter().all(|finding| finding["next"].is_string()),
        "each says what to do: {}",
        run.stdout
    );
    assert_eq!(run.code, i32::from(!problems.is_empty()));
    problems.iter().map(|finding| (text(&finding["check"]), text(&finding["detail"]))).collect()
}

fn has(found: &[(String, String)], check: &str, detail: &str) {
    assert!(
        found.iter().any(|(c, d)| c == check && d.contains(detail)),
        "{check}: {detail} is not in {found:#?}"
    );
}

/// Removes the problem that the live environment is missing: these tests do not install it.
fn without_live(mut found: Vec<(String, String)>) -> Vec<(String, String)> {
    found.retain(|(_, detail)| !detail.contains("netboot-pc"));
    found
}

#[test]
fn a_site_that_runs_is_well_and_each_fault_is_found_alone() {
    let host = Host::new();
    let _ = host.lab(&["deploy", "site"]).expect(0);
    let doctor = || host.lab(&["doctor", "site", "--json"]);
    let found = problems(&doctor());
    has(&found, "boot", "netboot-pc");
    assert_eq!(without_live(found), []);

    let site = host.dir().join("site");
    let sh = |script: &str| {
        assert!(host.ns.run(|| {
            Command::new("sh").args(["-ec", script]).current_dir(&site).status().unwrap().success()
        }));
    };
    sh("chmod 777 data/bty");
    has(&problems(&doctor()), "data", "other users of this host have access");
    sh("chmod 700 data/bty && chown 0 data/bty");
    has(
        &problems(&doctor()),
        "data",
        &format!("belongs to user 0, but its program runs as user {UID}"),
    );
    sh(&format!("chown {UID} data/bty && chmod 644 bty.toml"));
    has(&problems(&doctor()), "files", "every user of this host can read");
    sh("chmod 640 bty.toml && touch -d 2100-01-01 site.json");
    has(&problems(&doctor()), "clock", "earlier than the last change");
    sh("touch site.json && nft add table inet f && nft add chain inet f input \
         '{ type filter hook input priority 0; policy drop; }' && nft add rule inet f input iif lo \
         accept && nft add rule inet f input tcp dport 3000 accept");
    let found = problems(&doctor());
    has(&found, "firewall", "nftables blocks 8080/tcp");
    assert!(!found.iter().any(|(_, detail)| detail.contains("3000/tcp")), "{found:#?}");
    sh("nft delete table inet f && ip addr del 192.0.2.77/24 dev br0 && ip addr add \
         192.0.2.78/24 dev br0");
    let found = problems(&doctor());
    has(&found, "address", "no interface has HOST_ADDR 192.0.2.77; this host has 192.0.2.78");
    has(&found, "network", "the server does not answer at http://192.0.2.77:8080");
    sh("ip addr add 192.0.2.77/24 dev br0 && ip route add default via 192.0.2.1 && \
         ip link set br0 up");
    has(&problems(&doctor()), "resolver", "");
    sh("ip route del default && kill $(cat ../pids/bty-tftp)");
    let found = problems(&doctor());
    has(&found, "services", "bty-tftp is not healthy");
    has(&found, "boot", "TFTP at 192.0.2.77:69");
    sh("sed -i s/running/exited/ ../containers/bty-cache && rm bty.toml");
    let found = problems(&doctor());
    has(&found, "services", "bty-cache is not running: its container is exited");
    has(&found, "files", "bty.toml is missing");
}

#[test]
fn a_person_who_owns_the_site_by_a_number_is_found() {
    let host = Host::new();
    let _ = host.lab(&["init", "site"]).expect(0);
    let owners = || {
        let found = problems(&host.lab(&["doctor", "site", "--json"]));
        found
            .into_iter()
            .filter(|(check, _)| check == "owner")
            .map(|(_, detail)| detail)
            .collect::<Vec<_>>()
    };
    assert_eq!(owners(), [""; 0]);
    host.program(
        "getent",
        "case $2 in 1000) echo 'ada:x:1000:1000::/home/ada:/bin/sh' ;; *) exit 2 ;; esac",
    );
    assert_eq!(owners(), [""; 0], "she owns nothing of it");
    let own = |script: &str| {
        let dir = host.dir().join("site");
        assert!(
            Command::new("sh").args(["-ec", script]).current_dir(dir).status().unwrap().success()
        );
    };
    own("chown 1000:1000 data/bty bty.toml");
    let found = owners();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with(
        "site/data/bty belongs to user 1000, who is ada on this host and so controls the site"
    ));
    own(&format!("chown {UID}:{UID} data/bty bty.toml"));
    host.program("getent", &format!("echo 'bob:x:{UID}:{UID}::/home/bob:/bin/sh'"));
    assert_eq!(
        owners(),
        [format!(
            "user {UID}, to whom the site belongs, is bob on this host, who so controls the site"
        )]
    );
    host.program("getent", &format!("echo 'bty:x:{UID}:{UID}::/nonexistent:/usr/sbin/nologin'"));
    assert_eq!(owners(), [""; 0], "that user was made for this");
}

#[test]
fn firewalld_and_ufw_are_asked_for_each_port() {
    let host = Host::new();
    let _ = host.lab(&["init", "site"]).expect(0);
    let firewall = || {
        let all: Vec<Value> =
            serde_json::from_str(&host.lab(&["doctor", "site", "--json"]).stdout).unwrap();
        let found = all.iter().filter(|finding| finding["check"] == "firewall");
        found.map(|finding| finding["detail"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    host.program(
        "ufw",
        "echo 'Status: active'; echo '8080/tcp ALLOW Anywhere'; echo '3000 ALLOW \
                         Anywhere'; echo '69/udp DENY Anywhere'",
    );
    assert_eq!(firewall(), ["ufw blocks 69/udp"]);
    host.program(
        "firewall-cmd",
        "case $1 in --state) echo running ;; --query-port=3000/tcp) exit 1 ;; esac",
    );
    assert_eq!(firewall(), ["firewalld blocks 3000/tcp"]);
}

/// A DHCP server on a network of machines.
struct Dhcp(Child);

impl Dhcp {
    fn start(ns: &Netns, lines: &[&str]) -> Self {
        let common = [
            "-k",
            "--user=root",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=eth1",
            "--bind-interfaces",
            "--leasefile-ro",
            "--pid-file",
            "--no-ping",
            "--log-facility=/dev/null",
        ];
        let child = ns.run(|| {
            Command::new("dnsmasq")
                .args(common)
                .arg("--dhcp-range=198.51.100.50,198.51.100.99,1h")
                .args(lines)
                .spawn()
                .unwrap()
        });
        let dhcp = Self(child);
        // UDP port 67 in the notation of the kernel
        let listens = || {
            ns.run(|| {
                std::fs::read_to_string("/proc/thread-self/net/udp").unwrap().contains(":0043 ")
            })
        };
        eventually(LIMIT, "dnsmasq listens", || listens().then_some(()));
        dhcp
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn dhcp_is_asked_as_machines_ask_and_what_it_says_is_judged() {
    let host = Host::new();
    let _ = host.lab(&["init", "site"]).expect(0);
    // another host: the kernel drops received packets with its own source address
    let machines = Netns::new();
    host.ns.cable("eth0", &machines, "eth1");
    machines.ip("addr add 198.51.100.1/24 dev eth1");
    let ask = || {
        let run = host.lab(&["doctor", "site", "--dhcp", "eth0", "--json"]);
        let all: Vec<Value> = serde_json::from_str(&run.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}{}", run.stdout, run.stderr));
        let dhcp = all.iter().filter(|finding| finding["check"] == "dhcp");
        dhcp.map(|finding| {
            format!(
                "{} {}",
                finding["level"].as_str().unwrap(),
                finding["detail"].as_str().unwrap()
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
    };
    let mut told = vec![format!("# no server\n{}", ask())];
    {
        let _dhcp = Dhcp::start(&machines, &[]);
        told.push(format!("# addresses only\n{}", ask()));
    }
    let right = [
        "--dhcp-match=set:ipxe,77,iPXE",
        "--dhcp-match=set:bios,93,0",
        "--dhcp-boot=tag:ipxe,http://192.0.2.77:8080/pxe-bootstrap.ipxe",
        "--dhcp-boot=tag:bios,tag:!ipxe,undionly.kpxe,,192.0.2.77",
        "--dhcp-boot=tag:!bios,tag:!ipxe,snponly.efi,,192.0.2.77",
    ];
    {
        let _dhcp = Dhcp::start(&machines, &right);
        told.push(format!("# as the server says\n{}", ask()));
    }
    {
        let _dhcp = Dhcp::start(&machines, &["--dhcp-boot=pxelinux.0,,198.51.100.200"]);
        told.push(format!("# somebody else's\n{}", ask()));
    }
    insta::assert_snapshot!("dhcp", told.join("\n\n"));
    let unknown = host.lab(&["doctor", "site", "--dhcp", "eth77"]).expect(1);
    assert!(
        unknown.stderr.contains("the network interface eth77 does not exist"),
        "{}",
        unknown.stderr
    );
}
