//! TFTP: real clients, hostile ones, and networks that lose packets.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bty_tests::command::tool;
use bty_tests::netns::Netns;
use bty_tests::tftp::Download;
use bty_tests::web::{Web, web_path};
use bty_tests::{LIMIT, eventually, free_port, pattern};
use serde_json::Value;

const LEN: usize = 300_001;

/// If no packet arrives for this long, none is expected to follow.
const QUIET: Duration = Duration::from_millis(200);

/// A running TFTP server.
struct Tftp {
    child: Child,
    dir: tempfile::TempDir,
    address: SocketAddr,
}

impl Tftp {
    fn start(listen: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ipxe.efi"), pattern(LEN)).unwrap();
        let (root, url) = (dir.path().to_str().unwrap(), "http://bty.lan:8080");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(web_path())
            .args([
                "tftp",
                "--listen",
                listen,
                "--root",
                root,
                "--server-url",
                url,
                "--allow",
                "empty.bin",
                "--allow",
                "exact.bin",
            ])
            .stderr(log)
            .spawn()
            .unwrap();
        let mut tftp = Self { child, dir, address: listen.parse().unwrap() };
        if tftp.address.ip().is_unspecified() {
            tftp.address.set_ip([127, 0, 0, 1].into());
        }
        std::fs::write(tftp.dir.path().join("empty.bin"), b"").unwrap();
        std::fs::write(tftp.dir.path().join("exact.bin"), pattern(1024)).unwrap();
        let client = tftp.client();
        client.socket.set_read_timeout(Some(QUIET)).unwrap();
        // request a missing file, so that no transfer starts
        eventually(LIMIT, "the TFTP server answers", || {
            client.request("nothing", "");
            client.socket.recv_from(&mut [0; 512]).ok()
        });
        tftp
    }

    fn client(&self) -> Client {
        self.client_at("127.0.0.1")
    }

    /// A client with an address of its own.
    fn client_at(&self, ip: &str) -> Client {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        Client { socket, server: self.address, from: self.address }
    }

    /// Number of its open files, including a socket per transfer.
    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Tftp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the TFTP server:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that sends arbitrary packets.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    /// Source of the last packet. The server uses another port for each transfer.
    from: SocketAddr,
}

impl Client {
    /// Sends a request; returns its size.
    fn request(&self, name: &str, options: &str) -> usize {
        let request =
            [b"\x00\x01".as_slice(), name.as_bytes(), b"\0octet\0", options.as_bytes()].concat();
        self.socket.send_to(&request, self.server).unwrap()
    }

    /// Sends a request and returns the first packet of the response.
    fn ask(&mut self, name: &str, options: &str) -> Vec<u8> {
        self.request(name, options);
        self.receive()
    }

    fn receive(&mut self) -> Vec<u8> {
        self.receive_within(LIMIT).expect("a packet comes")
    }

    fn receive_within(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut packet = vec![0; 65536];
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let (len, from) = self.socket.recv_from(&mut packet).ok()?;
        self.from = from;
        packet.truncate(len);
        Some(packet)
    }

    fn say(&self, code: u16, number: u16) {
        let packet = [code.to_be_bytes(), number.to_be_bytes()].concat();
        let packet = if code == 5 { [packet, b"no\0".to_vec()].concat() } else { packet };
        self.socket.send_to(&packet, self.from).unwrap();
    }

    /// Receives packets until none arrives for [`QUIET`].
    fn rest(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.receive_within(QUIET)).collect()
    }

    /// The packets that have arrived, without waiting.
    fn received(&mut self) -> Vec<Vec<u8>> {
        self.socket.set_nonblocking(true).unwrap();
        let packets = std::iter::from_fn(|| self.receive_within(QUIET)).collect();
        self.socket.set_nonblocking(false).unwrap();
        packets
    }
}

fn loopback() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Number of a DATA packet.
fn number(packet: &[u8]) -> u16 {
    assert_eq!(packet[..2], [0, 3], "{packet:?}");
    u16::from_be_bytes([packet[2], packet[3]])
}

#[test]
fn every_client_gets_every_byte() {
    let tftp = Tftp::start(&loopback());
    let dir = tempfile::tempdir().unwrap();
    let port = tftp.address.port().to_string();
    let out = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    tool(&["curl", "-sS", "-o", &out("curl"), &format!("tftp://127.0.0.1:{port}/ipxe.efi")]);
    tool(&[
        "curl",
        "-sS",
        "--tftp-blksize",
        "1468",
        "-o",
        &out("blksize"),
        &format!("tftp://127.0.0.1:{port}/boot/ipxe.efi"),
    ]);
    tool(&[
        "curl",
        "-sS",
        "--tftp-no-options",
        "-o",
        &out("plain"),
        &format!("tftp://127.0.0.1:{port}/ipxe.efi"),
    ]);
    tool(&[
        "curl",
        "-sS",
        "--tftp-blksize",
        "65464",
        "-o",
        &out("large"),
        &format!("tftp://127.0.0.1:{port}/ipxe.efi"),
    ]);
    for (name, option) in
        [("atftp", "blksize 1428"), ("window", "windowsize 16"), ("window-of-all", "windowsize 64")]
    {
        tool(&[
            "atftp",
            "--option",
            option,
            "-g",
            "-r",
            "ipxe.efi",
            "-l",
            &out(name),
            "127.0.0.1",
            &port,
        ]);
    }
    let hpa = format!(
        "cd {} && tftp -m binary 127.0.0.1 {port} -c get ipxe.efi && mv ipxe.efi hpa",
        dir.path().display()
    );
    tool(&["sh", "-c", &hpa]);
    for name in ["curl", "blksize", "plain", "large", "atftp", "window", "window-of-all", "hpa"] {
        assert!(std::fs::read(out(name)).unwrap() == pattern(LEN), "{name}");
    }
    // a file of whole blocks ends with an empty block, and an empty file is one empty block
    tool(&["curl", "-sS", "-o", &out("exact"), &format!("tftp://127.0.0.1:{port}/exact.bin")]);
    assert!(std::fs::read(out("exact")).unwrap() == pattern(1024));
    assert_eq!(tftp.client().ask("empty.bin", ""), [0, 3, 0, 1]);
    tool(&["curl", "-sS", "-o", &out("script"), &format!("tftp://127.0.0.1:{port}/autoexec.ipxe")]);
    let script = std::fs::read_to_string(out("script")).unwrap();
    assert!(script.contains("chain --replace http://bty.lan:8080/pxe-bootstrap.ipxe"), "{script}");
}

#[test]
fn options_are_answered_within_limits() {
    let tftp = Tftp::start(&loopback());
    let ask = |options: &str| {
        String::from_utf8_lossy(&tftp.client().ask("ipxe.efi", options)[2..]).into_owned()
    };
    let mut told = String::new();
    for options in [
        "tsize\x000\0blksize\x001468\0windowsize\x008\0",
        "blksize\x0065464\0windowsize\x0065535\0",
        "timeout\x003\0tsize\x000\0",
        "timeout\x00255\0tsize\x000\0",
        "BLKSIZE\x00512\0",
        "blksize\x007\0windowsize\x000\0tsize\x000\0unknown\x001\0",
    ] {
        told.push_str(&format!(
            "{} -> {}\n",
            options.replace('\0', " "),
            ask(options).replace('\0', " ")
        ));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn other_requests_are_refused_once_with_a_shorter_packet() {
    let tftp = Tftp::start(&loopback());
    std::fs::write(tftp.dir.path().join("secret.txt"), b"secret").unwrap();
    let mut clients = Vec::new();
    for name in [
        "secret.txt",
        "../../../../etc/passwd",
        "/etc/shadow",
        "log",
        "",
        "no-such-boot-program.efi",
    ] {
        let mut client = tftp.client();
        let answer = client.ask(name, "");
        assert_eq!(answer[..4], [0, 5, 0, 1], "{name:?}: {answer:?}");
        clients.push((format!("{name:?} is answered again"), client));
    }
    // a write request
    let mut client = tftp.client();
    client.socket.send_to(b"\x00\x02ipxe.efi\0octet\0", client.server).unwrap();
    assert_eq!(client.receive()[..2], [0, 5]);
    assert!(std::fs::read(tftp.dir.path().join("ipxe.efi")).unwrap() == pattern(LEN));
    // invalid packets get no response
    for nonsense in [
        b"".as_slice(),
        b"\x00",
        b"\x00\x01",
        b"\x00\x01x",
        b"\x00\x09\x00\x00",
        b"\x00\x04\x00\x01",
        b"\x00\x01ipxe.efi\0octet\0blksize",
        &[0xff; 1400],
    ] {
        let client = tftp.client();
        client.socket.send_to(nonsense, client.server).unwrap();
        clients.push((format!("{nonsense:?} is answered"), client));
    }
    assert_eq!(tftp.client().ask("ipxe.efi", "tsize\x000\0")[..2], [0, 6], "it still serves");
    std::thread::sleep(QUIET);
    for (what, mut client) in clients {
        assert_eq!(client.received().len(), 0, "{what}");
    }
}

#[test]
fn a_client_that_only_asks_for_the_size_can_ask_again_from_the_same_port() {
    let tftp = Tftp::start(&loopback());
    let mut client = tftp.client();
    assert_eq!(client.ask("ipxe.efi", "tsize\x000\0")[..2], [0, 6]);
    let during = tftp.open_files();
    // the server waits 5 s for a client that has not answered yet, and 12 s for one that has
    let ended = || {
        let what = "the transfer ends when the client says so";
        eventually(Duration::from_secs(4), what, || (tftp.open_files() < during).then_some(()));
    };
    client.say(5, 8);
    ended();
    let again = client.ask("ipxe.efi", "blksize\x001468\0");
    assert_eq!(&again[2..9], b"blksize", "{:?}", String::from_utf8_lossy(&again));
    client.say(4, 0);
    assert_eq!(number(&client.receive()), 1);
    client.say(5, 0);
    ended();
    assert!(
        client.received().iter().all(|packet| number(packet) == 1),
        "only what was sent before that"
    );
    assert_eq!(client.rest().len(), 0, "nothing after the client has said no");
}

#[test]
fn a_window_with_a_lost_first_block_is_resent_at_once() {
    let tftp = Tftp::start(&loopback());
    let mut client = tftp.client();
    let _ = client.ask("ipxe.efi", "blksize\x001468\0windowsize\x008\0timeout\x005\0");
    // A network on which a round trip takes a second: the server sends a window again by itself
    // after 4 round trips or 5 s.
    std::thread::sleep(Duration::from_secs(1));
    client.say(4, 0);
    let window =
        |client: &mut Client| -> Vec<u16> { (0..8).map(|_| number(&client.receive())).collect() };
    assert_eq!(window(&mut client), [1, 2, 3, 4, 5, 6, 7, 8]);
    let begun = Instant::now();
    client.say(4, 0);
    assert_eq!(window(&mut client), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(begun.elapsed() < Duration::from_secs(3), "not only after 4 s");
    // blocks in the middle were lost: the server continues after the last acknowledged one
    client.say(4, 4);
    assert_eq!(window(&mut client), [5, 6, 7, 8, 9, 10, 11, 12]);
    // repeated acknowledgements do not each trigger a whole window
    for _ in 0..50 {
        client.say(4, 4);
    }
    let more = client.rest().len();
    assert!(more <= 64, "{more} packets");
}

/// The server ignores requests that are repeated within 200 ms. A client cannot see when that time
/// is over.
const REPEATS_AFTER: Duration = Duration::from_millis(220);

#[test]
fn malformed_packets_never_crash_the_tftp_server() {
    let tftp = Tftp::start(&loopback());
    let mut client = tftp.client_at("127.0.0.2");
    let whole =
        b"\x00\x01ipxe.efi\0octet\0blksize\x001468\0tsize\x000\0windowsize\x004\0timeout\x001\0";
    // a request truncated after each byte, a request with each byte changed, and garbage with every
    // opcode
    let mut packets: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
    for at in 0..whole.len() {
        for byte in [0, b'9', 0x7f, 0xff] {
            let mut packet = whole.to_vec();
            packet[at] = byte;
            packets.push(packet);
        }
    }
    packets
        .extend((0..=u8::MAX).map(|code| [vec![0, code], pattern(usize::from(code) * 7)].concat()));
    packets.push([whole.as_slice(), &b"blksize\x00999999999999999999999\0".repeat(1500)].concat());
    for packet in &packets {
        client.socket.send_to(packet, tftp.address).unwrap();
    }
    client.rest();
    let (server, name) = (tftp.address, "ipxe.efi");
    let download = Download { server, name, block: 1468, window: 4, loss: 0.0, seed: 1 };
    assert!(download.run().unwrap() == pattern(LEN), "who asks rightly is served as before");
    assert!(!tftp.log().contains("panicked"), "{}", tftp.log());
}

#[test]
fn a_lost_first_packet_is_resent_for_a_repeated_request() {
    let tftp = Tftp::start(&loopback());
    let mut client = tftp.client();
    // one response to each request, also to a repeated one
    for _ in 0..3 {
        assert_eq!(client.ask("ipxe.efi", "blksize\x001468\0")[..2], [0, 6]);
        std::thread::sleep(REPEATS_AFTER);
    }
    // but a bounded number, because the source address may be spoofed
    let begun = Instant::now();
    for _ in 0..100 {
        client.request("ipxe.efi", "");
    }
    let answers = client.rest().len();
    let most = 2 + begun.elapsed().as_millis() / 200;
    assert!(answers as u128 <= most, "{answers} answers to 100 requests, {most} at most");
    std::thread::sleep(REPEATS_AFTER);
    assert_eq!(client.ask("ipxe.efi", "blksize\x001468\0")[..2], [0, 6]);
    assert_eq!(client.rest().len(), 0);
    client.say(4, 0);
    assert_eq!(number(&client.receive()), 1);
    // after an acknowledgement, a repeated request is a late duplicate
    client.request("ipxe.efi", "blksize\x001468\0");
    assert_eq!(number(&client.receive()), 1, "the transfer goes on");
}

#[test]
fn a_spoofed_flood_gets_a_bounded_response_and_blocks_no_client() {
    let tftp = Tftp::start(&loopback());
    let (mut sent, mut received) = (0, 0);
    let before = tftp.open_files();
    let clients: Vec<Client> = (0..200).map(|_| tftp.client_at("127.0.0.2")).collect();
    for client in &clients {
        sent += client.request("ipxe.efi", "blksize\x001468\0");
    }
    let mut other = tftp.client();
    assert_eq!(other.ask("ipxe.efi", "tsize\x000\0")[..2], [0, 6], "meanwhile");
    // these clients never acknowledge: the server gives up after 5 s
    eventually(LIMIT, "all transfers are given up", || (tftp.open_files() <= before).then_some(()));
    for mut client in clients {
        received += client.received().iter().map(Vec::len).sum::<usize>();
    }
    assert!(received < sent, "{received} bytes for {sent}");
    assert!(received > 0);
    assert_eq!(
        tftp.client_at("127.0.0.2").ask("ipxe.efi", "tsize\x000\0")[..2],
        [0, 6],
        "afterwards"
    );
    // threads and files stay bounded with thousands of requests for missing files
    for _ in 0..3000 {
        tftp.client().request("x", "");
    }
    let files = tftp.open_files();
    assert!(files < 1200, "{files} files are open");
}

#[test]
fn a_host_with_several_addresses_responds_from_the_requested_one() {
    let ns = Netns::new();
    ns.ip("addr add 10.99.0.1/24 dev lo");
    ns.ip("addr add 10.99.0.2/24 dev lo");
    ns.run(|| {
        let tftp = Tftp::start("0.0.0.0:6969");
        let from = |to: &str| {
            let listens = || tftp.log().contains(&format!("address={to}:6969")).then_some(());
            eventually(LIMIT, &format!("the server listens at {to}"), listens);
            let mut client = Client {
                server: format!("{to}:6969").parse().unwrap(),
                ..tftp.client_at("0.0.0.0")
            };
            assert_eq!(client.ask("ipxe.efi", "")[..2], [0, 3], "{to}: {}", tftp.log());
            client.from.ip().to_string()
        };
        for to in ["10.99.0.1", "10.99.0.2", "127.0.0.1"] {
            assert_eq!(from(to), to);
        }
        // an address that is added later
        ns.ip("addr add 10.99.0.3/24 dev lo");
        assert_eq!(from("10.99.0.3"), "10.99.0.3");
    });
}

#[test]
fn lost_packets_are_survived_and_cost_little() {
    let tftp = Tftp::start(&loopback());
    for window in [1, 4, 16] {
        for seed in 0..3 {
            // loss in both directions
            let download = Download {
                server: tftp.address,
                name: "ipxe.efi",
                block: 1468,
                window,
                loss: 0.03,
                seed,
            };
            assert!(download.run().unwrap() == pattern(LEN), "window {window}, seed {seed}");
        }
    }
}

#[test]
fn the_server_serves_boot_programs_itself_and_shows_that_it_does() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let web = Web::with(&[("BTY_TFTP_EMBEDDED", "1"), ("BTY_TFTP_LISTEN", &listen)]);
    let health = || web.get("/netboot/health").expect(200).json();
    let healthy =
        |what: &str, is: fn(&Value) -> bool| eventually(LIMIT, what, || Some(health()).filter(is));
    let told =
        healthy("the TFTP server is reachable", |health| health["tftp"]["is_reachable"] == true);
    assert_eq!(told["tftp"]["has_file"], false, "there is none yet");
    web.request("PUT", "/boot/ipxe.efi", &[], b"boot program").expect(200);
    let told = healthy("the boot program is offered", |health| health["tftp"]["has_file"] == true);
    assert_eq!(told["programs"][0]["name"], "ipxe.efi");
    assert!(told["mismatch"].as_str().unwrap().contains("is missing"), "{told}");
    let script = tool(&["curl", "-sS", &format!("tftp://{listen}/autoexec.ipxe")]);
    let base = web.base();
    assert!(script.contains(&format!("chain --replace {base}/pxe-bootstrap.ipxe")), "{script}");
    assert_eq!(
        web.get("/boot/autoexec.ipxe").expect(200).text(),
        script,
        "HTTP Boot gets the same"
    );
    let named = web.request("GET", "/boot/autoexec.ipxe", &[("Host", "bty.lan:99")], b"").text();
    assert!(named.contains("http://bty.lan:99/"), "{named}");
    let metrics = web.get("/metrics").text();
    assert!(metrics.contains("bty_tftp_transfers_total{outcome=\"unknown\"}"), "{metrics}");
    // the event is recorded concurrently with the transfer
    let first = || {
        web.get("/events?kind=tftp.client.first&limit=500").json()["events"]
            .as_array()
            .unwrap()
            .clone()
    };
    let first = eventually(LIMIT, "the client is an event", || {
        Some(first()).filter(|first| !first.is_empty())
    });
    assert_eq!(first.len(), 1, "a client is new once");
    assert_eq!(first[0]["source_ip"], "127.0.0.1");
    let other = Web::with(&[
        ("BTY_NETBOOT_TFTP_PROBE_HOST", "127.0.0.1"),
        ("BTY_TFTP_LISTEN", "127.0.0.1:1"),
    ]);
    assert_eq!(other.get("/netboot/health").expect(200).json()["tftp"]["is_reachable"], false);
}

#[test]
fn a_port_in_use_is_reported_with_the_next_step() {
    let taken = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = Command::new(web_path())
        .args(["tftp", "--listen", &listen, "--root", "/"])
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot listen on 127.0.0.1"),
        "{output:?}"
    );
    let output =
        Command::new(web_path()).args(["tftp", "--root", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
