//! Power control: Wake-on-LAN packets, and hooks that are real programs and real servers.

use std::collections::HashSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use bty_tests::command::write_program;
use bty_tests::netns::Netns;
use bty_tests::server::{Reply, Server};
use bty_tests::web::{Answer, Web};
use bty_tests::{LIMIT, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::pxe::{MAC, add_image, token};

fn switch(web: &Web, body: &Value) -> Answer {
    web.send("POST", &format!("/machines/{MAC}/power"), body)
}

fn add(web: &Web, mac: &str) {
    web.send("PUT", &format!("/machines/{mac}"), &json!({})).expect(200);
}

/// The details of the machine's newest event of `kind`.
fn newest(web: &Web, kind: &str) -> Value {
    let listed = web.get(&format!("/events?limit=1&subject_id={MAC}&kind={kind}")).expect(200);
    listed.json()["events"][0].clone()
}

/// A hook that records its input in the file `calls` beside it, and then runs `script`.
struct Hook(TempDir);

impl Hook {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let calls = dir.path().join("calls");
        let text = format!("#!/bin/sh\ncat >>'{0}'; echo >>'{0}'\n{script}\n", calls.display());
        write_program(&dir.path().join("hook"), &text);
        Self(dir)
    }

    fn start(&self, env: &[(&str, &str)]) -> Web {
        let path = self.0.path().join("hook");
        let mut all = vec![("BTY_POWER_PROGRAM", path.to_str().unwrap())];
        all.extend(env);
        let web = Web::with(&all);
        add(&web, MAC);
        web
    }

    /// The requests that it has received.
    fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn actions(&self) -> Vec<String> {
        self.calls().iter().map(|call| call["action"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_program_switches_a_machine_and_its_output_is_in_the_event() {
    let hook = Hook::new("echo \"outlet 3 of $PATH\" | cut -c1-8; test -z \"$BTY_ADMIN_OPEN\"");
    let web = hook.start(&[("BTY_ADMIN_OPEN", "1")]);
    let labels = json!({ "labels": ["rack1", "bmc.10.0.0.5"] });
    web.send("PATCH", &format!("/machines/{MAC}"), &labels).expect(200);
    for action in ["on", "off", "cycle", "netboot"] {
        let report = switch(&web, &json!({ "action": action })).expect(200).json();
        assert_eq!(
            report,
            json!({ "mac": MAC, "action": action, "via": "hook", "state": null, "output": "outlet 3" })
        );
        let event = newest(&web, "machine.power");
        assert_eq!(event["details"]["action"], action);
        assert_eq!(event["details"]["output"], "outlet 3");
        assert_eq!(
            (&event["actor"], &event["source_ip"]),
            (&json!("operator"), &json!("127.0.0.1"))
        );
    }
    assert_eq!(hook.actions(), ["on", "off", "cycle", "netboot"]);
    let machine = &hook.calls()[0]["machine"];
    assert_eq!(machine["mac"], MAC);
    assert_eq!(machine["labels"], json!(["bmc.10.0.0.5", "rack1"]));
    switch(&web, &json!({ "action": "explode" })).expect(422);
    switch(&web, &json!({ "action": "on", "forced": true })).expect(422);
    web.send("POST", "/machines/020000000099/power", &json!({ "action": "on" })).expect(404);
}

#[test]
fn the_state_of_a_machine_is_asked_without_an_event() {
    let hook = Hook::new("echo '{\"state\": \"off\", \"message\": \"soft\"}'");
    let web = hook.start(&[]);
    let report = switch(&web, &json!({ "action": "status" })).expect(200).json();
    assert_eq!((&report["state"], &report["output"]), (&json!("off"), &json!("soft")));
    assert!(!web.events(MAC).iter().any(|kind| kind.starts_with("machine.power")));
    let output = web.command(&["power", "status", MAC]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{MAC}: status: off\n"));
}

#[test]
fn a_hook_that_fails_or_hangs_is_reported_with_its_reason() {
    let hook = Hook::new("echo no such BMC >&2; exit 3");
    let web = hook.start(&[]);
    let detail = switch(&web, &json!({ "action": "on" })).expect(502).json()["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(detail.starts_with(&format!("cannot switch on {MAC}: ")), "{detail}");
    assert!(detail.ends_with("hook failed (exit status: 3): no such BMC"), "{detail}");
    let event = newest(&web, "machine.power.failed");
    assert!(event["summary"].as_str().unwrap().ends_with("no such BMC"), "{event}");
    assert_eq!(web.get("/events").json()["unacknowledged_failures"], 1);
    let output = web.command(&["power", "on", MAC]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let hanging = Hook::new("sleep 1000");
    let web = hanging.start(&[("BTY_POWER_TIMEOUT_S", "1")]);
    let error = switch(&web, &json!({ "action": "off" })).expect(502).json();
    assert!(error["detail"].as_str().unwrap().ends_with("did not end within 1 s"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone").display().to_string();
    let web = Web::with(&[("BTY_POWER_PROGRAM", &gone)]);
    assert!(web.log().contains("is not an executable file"), "{}", web.log());
    add(&web, MAC);
    let error = switch(&web, &json!({ "action": "off" })).expect(502).json();
    assert!(error["detail"].as_str().unwrap().contains("cannot run"), "{error}");
}

#[test]
fn a_server_that_stops_ends_its_hook() {
    let hook = Hook::new("sleep 1000");
    let mut web = hook.start(&[("BTY_POWER_TIMEOUT_S", "300")]);
    let selection = json!({ "action": "cycle", "machines": [MAC] });
    web.send("POST", "/power", &selection).expect(202);
    eventually(LIMIT, "the hook runs", || (!hook.calls().is_empty()).then_some(()));
    let error = switch(&web, &json!({ "action": "off" })).expect(409).json();
    assert!(error["detail"].as_str().unwrap().contains("is under way"), "{error}");
    assert!(web.end() < LIMIT);
}

#[test]
fn flash_now_orders_the_plan_again_and_restarts_the_machine_into_the_network() {
    let hook = Hook::new("echo ok");
    let web = hook.start(&[]);
    let image = add_image(&web);
    let assignment = json!({
        "boot_mode": "bty-flash-once", "bty_image_ref": image, "target_disk_serial": "S1",
    });
    web.send("PUT", &format!("/machines/{MAC}"), &assignment).expect(200);
    let boot = |nonce: &str| web.get(&format!("/pxe/{MAC}?boot={nonce}")).expect(200).text();
    let flash = |nonce: &str| {
        let cycle = token(&boot(nonce));
        web.get(&format!("/pxe/{MAC}/plan?cycle={cycle}")).expect(200);
        cycle
    };
    let report = |cycle: &str| {
        let body = json!({
            "status": "done", "cycle": cycle,
            "disks": [{
                "path": "/dev/sda", "serial": "S1", "image": image, "sha256": "ab".repeat(32),
                "disk_bytes": 1, "verified_bytes": 1, "written_bytes": 4096,
            }],
        });
        web.send("POST", &format!("/pxe/{MAC}/status"), &body)
    };
    let first = flash("1");
    let refused = switch(&web, &json!({ "action": "cycle" })).expect(409).json();
    assert!(refused["detail"].as_str().unwrap().contains("may be half written"), "{refused}");
    switch(&web, &json!({ "action": "flash" })).expect(409);
    let skipped = web.send("POST", "/power", &json!({ "action": "off", "machines": [MAC] }));
    let skipped = skipped.expect(202).json();
    assert_eq!((&skipped["accepted"], &skipped["skipped"][0]["at"]), (&json!(0), &json!(MAC)));
    assert!(hook.calls().is_empty(), "a machine that is being flashed is left alone");
    let done = report(&first);
    assert!((200..300).contains(&done.status), "{}", done.text());
    assert!(!boot("2").contains("bty.cycle="), "it was flashed once");
    switch(&web, &json!({ "action": "flash" })).expect(200);
    assert_eq!(hook.actions(), ["netboot", "cycle"]);
    let second = flash("3");
    switch(&web, &json!({ "action": "cycle", "force": true })).expect(200);
    assert!((200..300).contains(&report(&second).status));
    let metrics = web.get("/metrics").expect(200).text();
    for line in [
        "bty_flashes_total{result=\"flashed\"} 2",
        "bty_flash_written_bytes_sum 8192.0",
        "bty_flash_duration_seconds_count 2",
        "bty_machine_states{state=\"flashed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn without_a_hook_only_wake_on_lan_works() {
    let web = Web::start();
    add(&web, MAC);
    for action in ["off", "cycle", "netboot", "status", "flash"] {
        let error = switch(&web, &json!({ "action": action })).expect(409).json();
        assert!(error["detail"].as_str().unwrap().contains("set power.program"), "{error}");
    }
    let select = |body: Value| web.send("POST", "/power", &body);
    select(json!({ "action": "cycle", "machines": [MAC] })).expect(409);
    select(json!({ "action": "wake", "machines": [] })).expect(422);
    select(json!({ "action": "flash", "machines": [MAC] })).expect(422);
    let unknown = select(json!({ "action": "wake", "machines": [MAC, "020000000099"] }));
    assert_eq!(unknown.expect(422).json()["problems"][0]["at"], "02:00:00:00:00:99");
    let path = "/ui/settings/configuration";
    let form = b"key=power.program&value=/bin/sh";
    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = web.request("POST", path, &kind, form).text();
    let shown = web.command(&["show-config"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("program = \"\"  # default"),
        "no page sets a program: {shown}\n{answer}"
    );
}

#[test]
fn wake_on_lan_reaches_every_network_for_every_machine_of_a_selection() {
    let (server, one, two) = (Netns::new(), Netns::new(), Netns::new());
    server.cable("lan0", &one, "lan0");
    server.cable("lan1", &two, "lan0");
    server.ip("address add 10.77.0.1/24 dev lan0");
    server.ip("address add 10.78.0.1/24 dev lan1");
    one.ip("address add 10.77.0.2/24 dev lan0");
    two.ip("address add 10.78.0.2/24 dev lan0");
    let listen = |ns: &Netns| ns.run(|| UdpSocket::bind("0.0.0.0:9").unwrap());
    let listeners = [listen(&one), listen(&two)];
    server.run(|| {
        let web = Web::with(&[("BTY_POWER_STAGGER_MS", "1")]);
        let macs = [MAC, "52:54:00:12:34:57", "52:54:00:12:34:58"];
        macs.iter().for_each(|mac| add(&web, mac));
        let report = switch(&web, &json!({ "action": "on" })).expect(200).json();
        assert_eq!(report["via"], "wake-on-lan");
        assert_eq!(report["output"], "sent on lan0, lan1");
        let mut command = web.command(&["power", "wake"]);
        let output = command.args(&macs[1..]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("2 accepted"), "{output:?}");
        for listener in &listeners {
            listener.set_read_timeout(Some(LIMIT)).unwrap();
            let mut woken = HashSet::new();
            while woken.len() < macs.len() {
                let mut packet = [0; 1500];
                let len = listener.recv(&mut packet).expect("a packet for each machine");
                woken.insert(target(&packet[..len]));
            }
            assert_eq!(woken, HashSet::from(macs.map(str::to_owned)));
        }
        for mac in macs {
            eventually(LIMIT, "an event", || {
                web.events(mac).contains(&"machine.power".into()).then_some(())
            });
        }
    });
}

/// The address that a Wake-on-LAN packet names.
fn target(packet: &[u8]) -> String {
    assert_eq!((packet.len(), &packet[..6]), (102, &[0xff; 6][..]));
    let mac = &packet[6..12];
    assert!(packet[6..].chunks(6).all(|chunk| chunk == mac), "{packet:?}");
    let digits: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}

#[test]
fn a_hook_can_be_a_web_address_that_verifies_signatures() {
    let secret = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4";
    let hook = Server::start(|request| match request.json()["action"].as_str() {
        Some("status") => Reply::whole(b"on"),
        Some("off") => Reply::status(500).body(b"the fuse has blown\n"),
        _ => Reply::whole(b"{\"message\": \"done\"}"),
    });
    let url = hook.url("/power");
    let env = [("BTY_POWER_URL", url.as_str()), ("BTY_POWER_SECRET", secret)];
    let web = Web::with(&env);
    add(&web, MAC);
    let refused = switch(&web, &json!({ "action": "status" })).expect(502).text();
    assert!(refused.contains("127.0.0.1"), "loopback needs cache.reach: {refused}");
    let web = Web::with(&[env[0], env[1], ("BTY_CACHE_REACH", "127.0.0.0/8")]);
    add(&web, MAC);
    assert_eq!(switch(&web, &json!({ "action": "status" })).expect(200).json()["state"], "on");
    assert_eq!(switch(&web, &json!({ "action": "on" })).expect(200).json()["output"], "done");
    let failed = switch(&web, &json!({ "action": "off" })).expect(502).text();
    assert!(failed.contains("the hook responded with 500: the fuse has blown"), "{failed}");
    let requests = hook.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!(request.json()["machine"]["mac"], MAC);
        assert!(request.header("webhook-signature").unwrap().starts_with("v1,"));
        assert!(request.header("webhook-id").unwrap().starts_with("pwr_"));
    }
}

// ---- the examples, each with a small simulator

/// The directory of an example: the example itself, its configuration, and simulated tools.
struct Example {
    dir: TempDir,
    program: PathBuf,
}

impl Example {
    fn new(name: &str, config: Option<&Value>, tools: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/power").join(name);
        let program = dir.path().join(name);
        write_program(&program, &std::fs::read_to_string(source).unwrap());
        if let Some(config) = config {
            std::fs::write(program.with_extension("json"), config.to_string()).unwrap();
        }
        for (tool, script) in tools {
            let record = "dir=$(dirname \"$0\"); echo \"$(basename \"$0\") $*\" >>\"$dir/calls\"";
            write_program(&dir.path().join(tool), &format!("#!/bin/sh\n{record}\n{script}\n"));
        }
        Self { dir, program }
    }

    /// Runs all actions of a machine, and returns the states that it had after each.
    fn run(&self) -> Vec<Value> {
        let path = format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        let program = self.program.to_str().unwrap();
        let web = Web::with(&[("BTY_POWER_PROGRAM", program), ("PATH", &path)]);
        add(&web, MAC);
        add(&web, "020000000099");
        let labels = json!({ "labels": ["place.rpi4-3"] });
        web.send("PATCH", &format!("/machines/{MAC}"), &labels).expect(200);
        let states = ["off", "on", "cycle", "netboot", "off", "cycle"].map(|action| {
            switch(&web, &json!({ "action": action })).expect(200);
            switch(&web, &json!({ "action": "status" })).expect(200).json()["state"].clone()
        });
        web.send("POST", "/machines/020000000099/power", &json!({ "action": "on" })).expect(502);
        states.into()
    }

    /// The calls of simulated tools that changed something.
    fn calls(&self) -> String {
        let dir = format!("{}/", self.dir.path().display());
        std::fs::read_to_string(self.dir.path().join("calls")).unwrap().replace(&dir, "DIR/")
    }
}

fn expected_states() -> Vec<Value> {
    ["off", "on", "on", "on", "off", "on"].map(Value::from).into()
}

#[test]
fn the_example_for_ipmi_switches_a_simulated_bmc() {
    let config = json!({
        "user": "bty", "password_file": "/etc/bty/power/ipmi.password",
        "machines": { MAC: "10.0.0.56" },
    });
    // a BMC refuses to cycle a machine that is off
    let bmc = "\
        state=$(cat \"$dir/state\" 2>/dev/null || echo off)\n\
        [ \"$1 $2 $3 $4\" = '-I lanplus -H 10.0.0.56' ] || exit 9\n\
        shift 8\n\
        case \"$*\" in\n\
        'chassis power status') echo \"Chassis Power is $state\" ;;\n\
        'chassis power on'|'chassis power off') echo \"$3\" >\"$dir/state\" ;;\n\
        'chassis power cycle') [ \"$state\" = on ] || { echo 'not supported' >&2; exit 1; } ;;\n\
        'chassis bootdev pxe') echo 'Set Boot Device to pxe' ;;\n\
        *) exit 9 ;;\n\
        esac";
    let example = Example::new("ipmi.py", Some(&config), &[("ipmitool", bmc)]);
    assert_eq!(example.run(), expected_states());
    let calls = example.calls();
    let full = "ipmitool -I lanplus -H 10.0.0.56 -U bty -f /etc/bty/power/ipmi.password chassis";
    assert!(calls.contains(&format!("{full} power cycle\n")), "{calls}");
    assert!(calls.contains(&format!("{full} bootdev pxe\n")), "{calls}");
}

#[test]
fn the_example_for_redfish_switches_a_simulated_bmc() {
    let config = json!({
        "credentials": "/etc/bty/power/redfish.credentials", "machines": { MAC: "10.0.0.56" },
    });
    let bmc = "\
        state=$(cat \"$dir/state\" 2>/dev/null || echo Off)\n\
        [ \"$1 $3 $4\" = '-c -r 10.0.0.56' ] || exit 9\n\
        shift 4\n\
        case \"$*\" in\n\
        '-1 Systems get') echo \"{\\\"PowerState\\\": \\\"$state\\\"}\" ;;\n\
        '-1 Systems reset On') echo On >\"$dir/state\" ;;\n\
        '-1 Systems reset ForceOff') echo Off >\"$dir/state\" ;;\n\
        '-1 Systems reset ForceRestart') [ \"$state\" = On ] || exit 1 ;;\n\
        '-1 Systems setBootOverride Once Pxe') ;;\n\
        *) exit 9 ;;\n\
        esac";
    let example = Example::new("redfish.py", Some(&config), &[("redfishtool", bmc)]);
    assert_eq!(example.run(), expected_states());
    assert!(example.calls().contains("-1 Systems setBootOverride Once Pxe\n"));
}

#[test]
fn the_example_for_snmp_switches_a_simulated_outlet() {
    let config = json!({ "conf_dir": "/etc/bty/power", "machines": { MAC: ["10.0.0.9", 3] } });
    let variable = "10.0.0.9 1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.3";
    let get = format!(
        "[ \"$SNMPCONFPATH\" = /etc/bty/power ] && [ \"$*\" = '-Oqv {variable}' ] || exit 9\n\
         cat \"$dir/state\""
    );
    // a reboot leaves the outlet on
    let set = format!(
        "case \"$*\" in\n\
         '-Oqv {variable} i 1'|'-Oqv {variable} i 3') echo 1 >\"$dir/state\" ;;\n\
         '-Oqv {variable} i 2') echo 2 >\"$dir/state\" ;;\n\
         *) exit 9 ;;\n\
         esac"
    );
    let tools = [("snmpget", get.as_str()), ("snmpset", set.as_str())];
    let example = Example::new("pdu_snmp.py", Some(&config), &tools);
    assert_eq!(example.run(), expected_states());
    assert!(example.calls().contains(&format!("snmpset -Oqv {variable} i 3\n")));
}

#[test]
fn the_example_for_http_switches_a_simulated_plug() {
    let is_on = std::sync::atomic::AtomicBool::new(false);
    let plug = Server::start(move |request| {
        use std::sync::atomic::Ordering::SeqCst;
        match request.target.as_str() {
            "/cm?cmnd=Power+On" => is_on.store(true, SeqCst),
            "/cm?cmnd=Power+Off" => is_on.store(false, SeqCst),
            "/cm?cmnd=Power" => {}
            _ => return Reply::status(404),
        }
        Reply::whole(if is_on.load(SeqCst) {
            b"{\"POWER\":\"ON\"}"
        } else {
            b"{\"POWER\":\"OFF\"}"
        })
    });
    let config = json!({ "off_seconds": 0, "machines": { MAC: plug.url("") } });
    let example = Example::new("pdu_http.py", Some(&config), &[]);
    assert_eq!(example.run(), expected_states());
}

#[test]
fn the_example_for_labgrid_switches_a_simulated_place() {
    let client = "\
        state=$(cat \"$dir/state\" 2>/dev/null || echo off)\n\
        [ \"$1 $2\" = '-p rpi4-3' ] || exit 9\n\
        shift 2\n\
        case \"$*\" in\n\
        acquire) [ ! -e \"$dir/lock\" ] && : >\"$dir/lock\" ;;\n\
        release) rm \"$dir/lock\" ;;\n\
        'power on'|'power off') echo \"$2\" >\"$dir/state\" ;;\n\
        'power cycle') echo on >\"$dir/state\" ;;\n\
        'power get') echo \"power for place rpi4-3 is $state\" ;;\n\
        *) exit 9 ;;\n\
        esac";
    let example = Example::new("labgrid.py", None, &[("labgrid-client", client)]);
    assert_eq!(example.run(), expected_states());
    let calls = example.calls();
    assert_eq!(calls.matches(" acquire").count(), calls.matches(" release").count(), "{calls}");
}
