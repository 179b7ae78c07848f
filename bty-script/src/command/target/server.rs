//! Requests to the server: the plan, reports and progress.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bty::client::{Reply, Request};
use bty::{CancelToken, Client, Result};
use bty_script::plan::{self, Header, JsonPlan, Progress, Report};
use bty_script::terminal::Console;

use crate::output::Output;
use crate::session::Session;

/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of requests whose response does not matter: progress, and the last report of a process
/// that is about to exit.
const SHORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pauses between attempts double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Minimum interval between progress reports.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// The result of requesting the plan.
pub(super) enum PlanReply {
    /// A plan script, to be run on this machine.
    Script(String),
    /// A JSON plan, from a server without plan scripts.
    Json(JsonPlan),
    /// A response that is not a usable plan, and why. A retry would not help.
    Unusable(String),
    /// Somebody at the machine pressed Enter.
    Interrupted,
}

/// The connection of one machine to its server.
pub(super) struct Server {
    /// Address of the server, without a slash at the end.
    base: String,
    mac: String,
    /// Token of the boot cycle with which the machine was started; part of every URL.
    cycle: Option<String>,
    /// The boot cycle that reports name, from the header of the plan script; empty if that names
    /// none. `None` without a plan script: then reports have only the fields that every server
    /// understands.
    plan_cycle: Mutex<Option<String>>,
    client: Client,
    cancel: CancelToken,
    console: Arc<Console>,
    output: Output,
}

impl Server {
    pub(super) fn new(
        url: &str,
        mac: &str,
        cycle: Option<String>,
        session: &Session,
        output: &Output,
    ) -> Self {
        let url = url.trim().trim_end_matches('/');
        let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        Self {
            base,
            mac: mac.to_owned(),
            cycle,
            plan_cycle: Mutex::default(),
            client: session.client.clone(),
            cancel: session.signals.cancel(),
            console: Arc::clone(&session.console),
            output: output.clone(),
        }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn mac(&self) -> &str {
        &self.mac
    }

    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// From now on reports name the boot cycle of this plan.
    pub(super) fn set_plan_cycle(&self, header: &Header) {
        *self.plan_cycle.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(header.cycle.clone());
    }

    fn url(&self, endpoint: &str) -> String {
        let cycle = self.cycle.as_ref().map(|cycle| format!("?cycle={cycle}")).unwrap_or_default();
        format!("{}/pxe/{}/{endpoint}{cycle}", self.base, self.mac)
    }

    /// Requests the plan until the server responds or somebody presses Enter.
    pub(super) fn fetch_plan(&self) -> Result<PlanReply> {
        let url = self.url("plan");
        let accept = format!("{}, application/json;q=0.5", plan::MEDIA_TYPE);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut request = Request::get(&url);
            (request.accept, request.timeout) = (&accept, REQUEST_TIMEOUT);
            let failure = match self.client.exchange(&request, &self.cancel) {
                Ok(reply) if is_transient(&reply) => format!("{url} answered {}", reply.status),
                Ok(reply) => return Ok(parse_reply(&url, &reply)),
                Err(error) => format!("{error:#}"),
            };
            self.cancel.check()?;
            self.output.warn(&format!(
                "plan fetch failed: {failure}; retrying in {:.1} s (press Enter for the wizard)",
                pause.as_secs_f32()
            ));
            if self.console.wait_for_enter(pause, &self.cancel) {
                return Ok(PlanReply::Interrupted);
            }
            self.cancel.check()?;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Posts `body` to `endpoint` until the server accepts it. `should_stop` waits for the pause
    /// that it gets, and returns true to stop early. Returns false if the server rejects the body
    /// for good, or if stopped.
    pub(super) fn post(
        &self,
        endpoint: &str,
        body: &serde_json::Value,
        should_stop: &dyn Fn(Duration) -> bool,
    ) -> bool {
        let url = self.url(endpoint);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut request = Request::post_json(&url, body);
            request.timeout = REQUEST_TIMEOUT;
            match self.client.exchange(&request, &self.cancel) {
                Ok(reply) if reply.is_success() => return true,
                Ok(reply) if !is_transient(&reply) => {
                    self.output.warn(&format!(
                        "{url} rejected the request: {} {}",
                        reply.status,
                        reply.excerpt()
                    ));
                    return false;
                }
                Ok(reply) => {
                    self.output.warn(&format!("{url} answered {}; retrying", reply.status));
                }
                Err(error) => self.output.warn(&format!("{error:#}; retrying")),
            }
            if should_stop(pause) {
                return false;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The report as JSON, with the boot cycle of the plan.
    fn body(&self, report: &Report) -> serde_json::Value {
        let cycle = self.plan_cycle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let report = match cycle {
            Some(cycle) => {
                Report { cycle: Some(cycle).filter(|c| !c.is_empty()), ..report.clone() }
            }
            None => report.basic(),
        };
        serde_json::to_value(report).unwrap_or_default()
    }

    /// Sends a report until the server acknowledges it or somebody presses Enter.
    pub(super) fn report(&self, report: &Report) -> Result<()> {
        let should_stop = |pause| {
            self.output.say("  (press Enter to continue without reporting)");
            self.console.wait_for_enter(pause, &self.cancel) || self.cancel.is_cancelled()
        };
        self.post("status", &self.body(report), &should_stop);
        self.cancel.check()
    }

    /// Sends a report in the background, until the server acknowledges it or the process exits.
    pub(super) fn report_in_background(self: &Arc<Self>, report: &Report) -> BackgroundReport {
        let server = Arc::clone(self);
        let body = self.body(report);
        let thread = thread::Builder::new().spawn(move || {
            let should_stop = |pause| {
                thread::sleep(pause);
                server.cancel.is_cancelled()
            };
            server.post("status", &body, &should_stop);
        });
        if thread.is_err() {
            self.report_once(report);
        }
        BackgroundReport(thread.ok())
    }

    /// Sends a report once, for a process that is about to exit.
    pub(super) fn report_once(&self, report: &Report) {
        let (url, body) = (self.url("status"), self.body(report));
        let mut request = Request::post_json(&url, &body);
        request.timeout = SHORT_TIMEOUT;
        let _ = self.client.exchange(&request, &CancelToken::new());
    }

    /// Sends progress once: the next report replaces a lost one.
    fn send_progress(&self, progress: Progress) {
        let (url, body) = (self.url("status"), self.body(&Report::progress(progress)));
        let mut request = Request::post_json(&url, &body);
        request.timeout = SHORT_TIMEOUT;
        let _ = self.client.exchange(&request, &self.cancel);
    }

    /// Starts a thread that sends the latest progress to the server. Updates never wait for it.
    pub(super) fn progress_reporter(self: &Arc<Self>) -> ProgressReporter {
        let mailbox: Arc<Mutex<ProgressMailbox>> = Arc::default();
        let (server, shared) = (Arc::clone(self), Arc::clone(&mailbox));
        let thread = thread::Builder::new().spawn(move || {
            let mut last_sent = None::<Instant>;
            loop {
                let pause = last_sent
                    .map_or(Duration::ZERO, |sent| PROGRESS_EVERY.saturating_sub(sent.elapsed()));
                let progress = {
                    let mut mailbox = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    if mailbox.is_over {
                        return;
                    }
                    // the first one is sent at once, so that even a short flash is visible
                    if pause.is_zero() { mailbox.progress.take() } else { None }
                };
                match progress {
                    Some(progress) => {
                        server.send_progress(progress);
                        last_sent = Some(Instant::now());
                    }
                    None => {
                        thread::park_timeout(if pause.is_zero() { PROGRESS_EVERY } else { pause });
                    }
                }
            }
        });
        // without a thread no progress is sent; the final report does not need it
        ProgressReporter { mailbox, thread: Mutex::new(thread.ok()) }
    }
}

/// True for responses that may change if the request is repeated later.
pub(super) fn is_transient(reply: &Reply) -> bool {
    reply.status >= 500 || matches!(reply.status, 408 | 425 | 429)
}

fn parse_reply(url: &str, reply: &Reply) -> PlanReply {
    if !reply.is_success() {
        return PlanReply::Unusable(format!(
            "plan fetch failed: {url} answered {} {}",
            reply.status,
            reply.excerpt()
        ));
    }
    if reply.content_type.as_deref() == Some(plan::MEDIA_TYPE) {
        return match String::from_utf8(reply.body.clone()) {
            Ok(text) => PlanReply::Script(text),
            Err(_) => PlanReply::Unusable("the plan script is not text".into()),
        };
    }
    let Ok(json) = reply.json() else {
        return PlanReply::Unusable(format!(
            "plan fetch failed: {url} answered {:?}, which is not a plan",
            reply.excerpt()
        ));
    };
    match serde_json::from_value(json.clone()) {
        Ok(plan) => PlanReply::Json(plan),
        Err(e) => match json.get("mode").and_then(|mode| mode.as_str()) {
            Some("flash") => PlanReply::Unusable(format!("the plan lacks an image or a disk: {e}")),
            Some(mode) => PlanReply::Unusable(format!("unknown plan mode {mode:?}")),
            None => PlanReply::Unusable("the plan has no mode".into()),
        },
    }
}

/// A report that a thread is sending.
pub(super) struct BackgroundReport(Option<JoinHandle<()>>);

impl BackgroundReport {
    /// Waits until the server has acknowledged or rejected the report.
    pub(super) fn wait(self) {
        let _ = self.0.map(JoinHandle::join);
    }
}

/// Holds only the latest progress, so that a slow server delays nothing and gets nothing old.
#[derive(Default)]
struct ProgressMailbox {
    progress: Option<Progress>,
    /// Tells the thread to end.
    is_over: bool,
}

/// Sends the progress of a flash to the server.
pub(super) struct ProgressReporter {
    mailbox: Arc<Mutex<ProgressMailbox>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ProgressReporter {
    pub(super) fn update(&self, progress: Progress) {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner).progress = Some(progress);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            thread.thread().unpark();
        }
    }

    /// Stops the thread, and waits until it has ended.
    pub(super) fn end(&self) {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
