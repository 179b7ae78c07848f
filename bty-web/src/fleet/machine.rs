//! One simulated machine.

use std::time::{Duration, Instant};

use axum::http::Method;
use bty::client::Request;
use bty_script::plan::Header;
use serde_json::{Value, json};

use super::random::Random;
use super::report::Tally;
use crate::client::ServerClient;
use crate::domain::error::Result;

/// Content of the disk.
#[derive(Clone, Debug, PartialEq)]
enum DiskContent {
    Blank,
    Half,
    Whole,
}

/// What the iPXE script boots.
enum Offer {
    Disk,
    Live { token: String, artifacts: Vec<String> },
    Stalled,
    Other,
}

/// A machine, its disk, and its expectations of the server.
pub(super) struct SimulatedMachine {
    /// Address by which the server knows the machine.
    mac: String,
    /// Address of a second network card, by which every other boot comes.
    second_card: Option<String>,
    /// Address of the network card of this boot.
    card: String,
    serial: String,
    plan: &'static str,
    image: String,
    random: Random,
    faults: u32,
    disk: DiskContent,
    /// True if the server acknowledged a completion and the disk has not been booted since: the
    /// next boot must be from the disk.
    is_due: bool,
    /// True if the server acknowledged a flash since the machine was assigned.
    is_flashed: bool,
    /// Number of boots since the live environment last started.
    silent_boots: u32,
    /// True if some of the machines that lose power stay off until the server reports them as
    /// stalled.
    pub(super) waits_for_stall: bool,
    /// A report of an earlier boot that arrives during the next one.
    late: Option<Value>,
}

/// The outcome of a step.
enum StepEnd {
    Continue,
    /// The machine lost power.
    Crash,
}

/// Percentage of the machines that stay off after a power loss.
const STAYS_OFF_PERCENT: u32 = 20;

/// Time within which a machine that is off must be reported as stalled.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

const STALL_POLL: Duration = Duration::from_millis(100);
/// One of so many machines has two network cards.
const TWO_CARDS_EVERY: u32 = 16;

const PROGRESS: [u64; 3] = [10, 50, 90];

impl SimulatedMachine {
    pub(super) fn new(
        number: u32,
        plan: &'static str,
        image: &str,
        random: Random,
        faults: u32,
    ) -> Self {
        let [_, a, b, c] = number.to_be_bytes();
        Self {
            // locally administered, so no real machine has these addresses
            mac: format!("02:b7:f0:{a:02x}:{b:02x}:{c:02x}"),
            second_card: number
                .is_multiple_of(TWO_CARDS_EVERY)
                .then(|| format!("02:b7:f1:{a:02x}:{b:02x}:{c:02x}")),
            card: String::new(),
            serial: format!("SIM-{number}"),
            plan,
            image: image.to_owned(),
            random,
            faults,
            disk: DiskContent::Blank,
            is_due: false,
            is_flashed: false,
            silent_boots: 0,
            waits_for_stall: false,
            late: None,
        }
    }

    fn fails(&mut self) -> bool {
        self.random.happens(self.faults)
    }

    /// Assigns the plan and image, as an operator would.
    pub(super) async fn assign(&self, server: &ServerClient) -> Result<()> {
        let flashes = self.plan.starts_with("bty-flash");
        let assignment = json!({
            "boot_mode": self.plan, "labels": ["simulated"],
            "bty_image_ref": flashes.then_some(&self.image),
            "target_disk_serial": flashes.then_some(&self.serial),
        });
        let path = format!("/machines/{}", self.mac);
        server.send(Method::PUT, &path, Some(&assignment)).await?;
        match &self.second_card {
            Some(card) => {
                server.send(Method::PUT, &format!("{path}/macs/{card}"), None).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// Simulates one network boot.
    pub(super) async fn boot(&mut self, server: &ServerClient, tally: &Tally) -> Result<()> {
        tally.count(|report| report.boots += 1);
        let other = self.second_card.as_ref().filter(|_| self.card == self.mac);
        self.card = other.unwrap_or(&self.mac).clone();
        let nonce = self.random.nonce();
        let offer = self.contact(server, tally, &nonce).await?;
        if let Some(late) = self.late.take() {
            tally.count(|report| report.late += 1);
            // the response does not matter, but the server must not count the report
            self.post(server, tally, "status", &late, None).await?;
        }
        match offer {
            Offer::Disk => self.boot_disk(tally),
            Offer::Stalled => self.assign_again(server, tally).await?,
            Offer::Other => {}
            Offer::Live { token, artifacts } => {
                self.check_live(tally);
                if let StepEnd::Crash = self.live(server, tally, &token, &artifacts).await? {
                    tally.count(|report| report.crashes += 1);
                    if self.waits_for_stall && self.random.happens(STAYS_OFF_PERCENT) {
                        self.stay_off(server, tally).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Requests the iPXE script. Sometimes requests it twice: both responses must be equal.
    async fn contact(
        &mut self,
        server: &ServerClient,
        tally: &Tally,
        nonce: &str,
    ) -> Result<Offer> {
        let url = format!("{}/pxe/{}?boot={nonce}", server.base, self.card.replace(':', "-"));
        let script = self.get(server, tally, "contact", &url, "*/*").await?;
        if self.fails() {
            tally.count(|report| report.repeated += 1);
            let second = self.get(server, tally, "contact", &url, "*/*").await?;
            if second != script {
                self.violation(tally, "a repeated contact was answered differently");
            }
        }
        Ok(self.parse_offer(tally, &script))
    }

    fn parse_offer(&self, tally: &Tally, script: &str) -> Offer {
        if !script.starts_with("#!ipxe") {
            self.violation(tally, "a contact was not answered with a script");
        }
        let kernel = script.lines().find_map(|line| line.strip_prefix("kernel "));
        let Some(kernel) = kernel else {
            return match script {
                script if script.contains("echo bty: stalled: ") => Offer::Stalled,
                script if script.contains("sanboot") => Offer::Disk,
                _ => Offer::Other,
            };
        };
        let token = kernel
            .split(' ')
            .find_map(|word| word.strip_prefix("bty.cycle="))
            .unwrap_or_default()
            .to_owned();
        let initrd = script.lines().find_map(|line| line.strip_prefix("initrd --name initrd "));
        let address = |line: &str| {
            line.split(' ')
                .next()
                .unwrap_or_default()
                .replace("${bty-base}", "")
                .replace("${bty-arch}", "x86_64")
        };
        Offer::Live {
            token,
            artifacts: std::iter::once(kernel).chain(initrd).map(address).collect(),
        }
    }

    fn violation(&self, tally: &Tally, what: &str) {
        let text = format!("{} ({}): {what}", self.mac, self.plan);
        tally.count(|report| report.violations.push(text));
    }

    /// Stays off after a power loss until the server reports the machine as stalled.
    async fn stay_off(&self, server: &ServerClient, tally: &Tally) -> Result<()> {
        let begun = Instant::now();
        let path = format!("/machines/{}", self.mac);
        while server.get(&path).await?["stalled_at"].is_null() {
            if begun.elapsed() > STALL_TIMEOUT {
                self.violation(tally, "it lost power, but is not reported as stalled");
                return Ok(());
            }
            tokio::time::sleep(STALL_POLL).await;
        }
        tally.count(|report| report.silent += 1);
        Ok(())
    }

    /// Assigns a stalled machine again, as an operator would, which is a new order.
    async fn assign_again(&mut self, server: &ServerClient, tally: &Tally) -> Result<()> {
        tally.count(|report| report.stalled += 1);
        if self.silent_boots == 0 {
            self.violation(
                tally,
                "it is reported as stalled, although its live environment has started",
            );
        }
        (self.silent_boots, self.is_due, self.is_flashed) = (0, false, false);
        self.assign(server).await
    }

    fn boot_disk(&mut self, tally: &Tally) {
        let is_exit = self.plan == "ipxe-exit";
        if self.disk == DiskContent::Half && !is_exit {
            self.violation(tally, "a half-written disk is booted");
        }
        match self.plan {
            "bty-flash-once" if !self.is_flashed => {
                self.violation(tally, "the disk is booted before anything was flashed");
            }
            "bty-flash-always" | "bty-inventory" if !self.is_due => {
                self.violation(tally, "the disk is booted twice after one completion");
            }
            "bty-tui" => self.violation(tally, "the disk is booted instead of the wizard"),
            _ => {}
        }
        self.is_due = false;
    }

    fn check_live(&self, tally: &Tally) {
        match self.plan {
            "ipxe-exit" => {
                self.violation(tally, "the live environment is booted, but nobody ordered it");
            }
            "bty-flash-once" if self.is_flashed => {
                self.violation(tally, "it is flashed again, but was ordered to be flashed once");
            }
            "bty-flash-always" | "bty-inventory" if self.is_due => {
                self.violation(
                    tally,
                    "the live environment is booted instead of the disk after a completion",
                );
            }
            _ => {}
        }
    }

    async fn live(
        &mut self,
        server: &ServerClient,
        tally: &Tally,
        token: &str,
        artifacts: &[String],
    ) -> Result<StepEnd> {
        for artifact in artifacts {
            let url = format!("{}{artifact}", server.base);
            // the file need not exist: the server only has to see the request
            self.request_first_byte(server, tally, &url).await?;
        }
        if self.fails() {
            self.silent_boots += 1;
            return Ok(StepEnd::Crash);
        }
        self.silent_boots = 0;
        let posted =
            self.post(server, tally, "inventory", &inventory(&self.serial), Some(token)).await?;
        if posted != 204 {
            self.violation(tally, &format!("its inventory was answered with {posted}"));
        }
        let url = format!("{}/pxe/{}/plan?cycle={token}", server.base, self.card);
        let plan =
            self.get(server, tally, "plan", &url, "text/rhai, application/json;q=0.5").await?;
        if let Ok(header) = Header::parse(&plan) {
            if header.machine != self.card || header.cycle != token {
                self.violation(tally, "it got the plan of another machine or another boot cycle");
            }
            return self.flash(server, tally, token, &plan).await;
        }
        let json: Value = serde_json::from_str(&plan).unwrap_or_default();
        match (json["mode"].as_str(), self.plan) {
            (Some("inventory"), "bty-inventory") => {
                // posting the inventory completes this plan
                self.is_due = true;
                Ok(StepEnd::Continue)
            }
            (Some("interactive"), "bty-tui") => Ok(StepEnd::Continue),
            (mode, _) => {
                self.violation(tally, &format!("it got the mode {mode:?}"));
                Ok(StepEnd::Continue)
            }
        }
    }

    async fn flash(
        &mut self,
        server: &ServerClient,
        tally: &Tally,
        token: &str,
        plan: &str,
    ) -> Result<StepEnd> {
        let literal = plan.lines().find(|line| line.starts_with("const PLAN")).unwrap_or_default();
        if !self.plan.starts_with("bty-flash") {
            self.violation(tally, "it is flashed, but nobody ordered it");
        }
        if !literal.contains(&format!("\"serial\": \"{}\"", self.serial))
            || !literal.contains(&self.image)
        {
            self.violation(
                tally,
                "it is flashed with another image, or on another disk, than it is assigned",
            );
        }
        tally.count(|report| report.flashes += 1);
        self.disk = DiskContent::Half;
        for percent in PROGRESS {
            let total = 1_000_000_u64;
            let progress = json!({
                "phase": "write", "source_bytes": total * percent / 100, "source_total": total,
                "decoded_bytes": total * percent / 100,
                "decoded_total": total, "written_bytes": total * percent / 100, "verified_bytes": 0,
            });
            let body = json!({ "status": "progress", "cycle": token, "progress": progress });
            self.post(server, tally, "status", &body, None).await?;
            if self.fails() {
                return Ok(StepEnd::Crash);
            }
        }
        if self.fails() {
            let body = json!({ "status": "failed", "cycle": token, "reason": "a simulated fault" });
            self.deliver(server, tally, &body).await?;
            return Ok(StepEnd::Continue);
        }
        self.disk = DiskContent::Whole;
        let disk = json!({
            "path": "/dev/nvme0n1", "serial": self.serial, "image": "simulated", "sha256": null,
            "disk_bytes": 1_000_000, "verified_bytes": 1_000_000,
        });
        let body = json!({ "status": "done", "cycle": token, "disks": [disk] });
        if self.fails() {
            // power is lost before the report is sent; the report arrives during the next boot
            self.late = Some(body);
            return Ok(StepEnd::Crash);
        }
        self.deliver(server, tally, &body).await?;
        tally.count(|report| report.completed += 1);
        self.is_due = true;
        self.is_flashed = true;
        if self.fails() {
            tally.count(|report| report.late += 1);
            self.late = Some(body);
        }
        Ok(StepEnd::Continue)
    }

    /// Sends the report. Sometimes simulates a lost response and sends it again.
    async fn deliver(&mut self, server: &ServerClient, tally: &Tally, body: &Value) -> Result<()> {
        loop {
            let status = self.post(server, tally, "status", body, None).await?;
            if status != 204 {
                self.violation(tally, &format!("its report was answered with {status}"));
                return Ok(());
            }
            if !self.fails() {
                return Ok(());
            }
            tally.count(|report| report.repeated += 1);
        }
    }

    async fn get(
        &self,
        server: &ServerClient,
        tally: &Tally,
        what: &'static str,
        url: &str,
        accept: &str,
    ) -> Result<String> {
        let begun = Instant::now();
        let mut request = Request::get(url);
        request.accept = accept;
        let reply = server.exchange(request).await?;
        tally.time(what, begun);
        if !reply.is_success() {
            self.violation(tally, &format!("{what} was answered with {}", reply.status));
        }
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    async fn request_first_byte(
        &self,
        server: &ServerClient,
        tally: &Tally,
        url: &str,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut request = Request::get(url);
        request.headers.push(("range", "bytes=0-0".to_owned()));
        let reply = server.exchange(request).await?;
        tally.time("artifact", begun);
        if reply.status >= 500 {
            self.violation(tally, &format!("an artifact was answered with {}", reply.status));
        }
        Ok(())
    }

    async fn post(
        &self,
        server: &ServerClient,
        tally: &Tally,
        what: &'static str,
        body: &Value,
        token: Option<&str>,
    ) -> Result<u16> {
        let begun = Instant::now();
        let query = token.map_or_else(String::new, |token| format!("?cycle={token}"));
        let url = format!("{}/pxe/{}/{what}{query}", server.base, self.card);
        let reply = server.exchange(Request::post_json(&url, body)).await?;
        tally.time(what, begun);
        Ok(reply.status)
    }
}

/// Returns the inventory that a machine posts.
fn inventory(serial: &str) -> Value {
    json!({
        "disks": [{
            "path": "/dev/nvme0n1", "size": "64G", "size_bytes": 64_u64 << 30, "serial": serial,
            "tran": "nvme", "removable": false, "readonly": false,
        }],
        "lshw": {
            "id": "simulated", "class": "system", "vendor": "bty", "product": "Simulated 1",
            "children": [
                { "id": "memory", "class": "memory", "size": 8_u64 << 30 },
                { "id": "cpu:0", "class": "processor", "product": "Simulated" },
            ],
        },
    })
}
