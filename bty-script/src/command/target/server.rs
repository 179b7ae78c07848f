//! The server's side of the conversation: what is asked, what is told, and how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bty::client::{Reply, Request};
use bty::{CancelToken, Client, Result};
use bty_script::plan::{self, Header, JsonPlan, Progress, Report};
use bty_script::terminal::Console;
use bty_script::world::World;

use super::inventory::Inventory;
use crate::output::Output;
use crate::session::Session;

/// How long one answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long an answer is waited for that nothing depends on: to progress, and to the last words of
/// a process that has to end.
const BRIEF_TIME: Duration = Duration::from_secs(3);
/// Pauses between attempts: from the first to the last, which repeats.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How often progress is told at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What came when the plan was asked for.
pub(super) enum Given {
    /// A plan script.
    Script(String),
    /// A plan of a server without plan scripts.
    Json(JsonPlan),
    /// An answer that asking again will not change, and why.
    Unusable(String),
    /// Somebody at the machine pressed Enter.
    Interrupted,
}

/// A server, and the machine that talks to it.
pub(super) struct Server {
    base: String,
    mac: String,
    cycle: Option<String>,
    /// The cycle that reports name: that of the plan script. Without one, reports say no more than
    /// every server understands.
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

    /// Reports name the cycle of this plan from now on.
    pub(super) fn use_cycle_of(&self, header: &Header) {
        *self.plan_cycle.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(header.cycle.clone());
    }

    fn url(&self, endpoint: &str) -> String {
        let cycle = self.cycle.as_ref().map(|cycle| format!("?cycle={cycle}")).unwrap_or_default();
        format!("{}/pxe/{}/{endpoint}{cycle}", self.base, self.mac)
    }

    /// Asks for the plan until there is an answer.
    pub(super) fn fetch_plan(&self) -> Result<Given> {
        let url = self.url("plan");
        let accept = format!("{}, application/json;q=0.5", plan::MEDIA_TYPE);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut request = Request::get(&url);
            (request.accept, request.timeout) = (&accept, ANSWER_TIME);
            let fault = match self.client.exchange(&request, &self.cancel) {
                Ok(reply) if is_passing(&reply) => format!("{url} answered {}", reply.status),
                Ok(reply) => return Ok(understand(&url, &reply)),
                Err(error) => error.to_string(),
            };
            self.cancel.check()?;
            self.output.warn(&format!(
                "plan fetch failed: {fault}; next try in {:.1} s (Enter: wizard)",
                pause.as_secs_f32()
            ));
            if self.console.wait_for_enter(pause, &self.cancel) {
                return Ok(Given::Interrupted);
            }
            self.cancel.check()?;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Sends `body` to `endpoint` until the server has taken it; false when it said that it never
    /// will. `is_over` ends it early.
    pub(super) fn post(
        &self,
        endpoint: &str,
        body: &serde_json::Value,
        is_over: &dyn Fn(Duration) -> bool,
    ) -> bool {
        let url = self.url(endpoint);
        let mut pause = FIRST_PAUSE;
        loop {
            let mut request = Request::post_json(&url, body);
            request.timeout = ANSWER_TIME;
            match self.client.exchange(&request, &self.cancel) {
                Ok(reply) if reply.is_success() => return true,
                Ok(reply) if !is_passing(&reply) => {
                    self.output.warn(&format!(
                        "{url} refused: {} {}",
                        reply.status,
                        reply.excerpt()
                    ));
                    return false;
                }
                Ok(reply) => {
                    self.output.warn(&format!("{url} answered {}, trying again", reply.status));
                }
                Err(error) => self.output.warn(&format!("{error}, trying again")),
            }
            if is_over(pause) {
                return false;
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    fn body(&self, report: &Report) -> serde_json::Value {
        let cycle = self.plan_cycle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let report = match cycle {
            Some(cycle) => {
                Report { cycle: Some(cycle).filter(|c| !c.is_empty()), ..report.clone() }
            }
            None => report.plain(),
        };
        serde_json::to_value(report).unwrap_or_default()
    }

    /// Reports until the server has acknowledged, or somebody presses Enter.
    pub(super) fn report(&self, report: &Report) -> Result<()> {
        let is_over = |pause| {
            self.output.say("  (Enter: go on without the server)");
            self.console.wait_for_enter(pause, &self.cancel) || self.cancel.is_cancelled()
        };
        self.post("status", &self.body(report), &is_over);
        self.cancel.check()
    }

    /// The same beside other work, until the process ends.
    pub(super) fn report_in_background(self: &Arc<Self>, report: &Report) -> Told {
        let server = Arc::clone(self);
        let body = self.body(report);
        let told = thread::Builder::new().spawn(move || {
            let is_over = |pause| {
                thread::sleep(pause);
                server.cancel.is_cancelled()
            };
            server.post("status", &body, &is_over);
        });
        if told.is_err() {
            self.report_once(report);
        }
        Told(told.ok())
    }

    /// One attempt, for a process that has to end.
    pub(super) fn report_once(&self, report: &Report) {
        let (url, body) = (self.url("status"), self.body(report));
        let mut request = Request::post_json(&url, &body);
        request.timeout = BRIEF_TIME;
        let _ = self.client.exchange(&request, &CancelToken::new());
    }

    /// Posts the inventory beside other work.
    pub(super) fn post_inventory(self: &Arc<Self>, world: &World) -> Inventory {
        Inventory::start(Arc::clone(self), world)
    }

    /// One attempt: lost progress is no loss.
    fn tell_progress(&self, progress: Progress) {
        let (url, body) = (self.url("status"), self.body(&Report::progress(progress)));
        let mut request = Request::post_json(&url, &body);
        request.timeout = BRIEF_TIME;
        let _ = self.client.exchange(&request, &self.cancel);
    }

    /// Somebody who tells the server how far it is: the newest state, now and then; nothing waits
    /// for it.
    pub(super) fn progress_reporter(self: &Arc<Self>) -> Reporter {
        let newest: Arc<Mutex<Newest>> = Arc::default();
        let (server, shared) = (Arc::clone(self), Arc::clone(&newest));
        let thread = thread::Builder::new().spawn(move || {
            let mut told = None::<Instant>;
            loop {
                let pause = told
                    .map_or(Duration::ZERO, |told| PROGRESS_EVERY.saturating_sub(told.elapsed()));
                let newest = {
                    let mut newest = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    if newest.is_over {
                        return;
                    }
                    // the first one is told at once, so that even a short flash is seen
                    if pause.is_zero() { newest.progress.take() } else { None }
                };
                match newest {
                    Some(progress) => {
                        server.tell_progress(progress);
                        told = Some(Instant::now());
                    }
                    None => {
                        thread::park_timeout(if pause.is_zero() { PROGRESS_EVERY } else { pause });
                    }
                }
            }
        });
        // without a thread nothing is told until the end, which needs none
        Reporter { newest, thread: Mutex::new(thread.ok()) }
    }
}

/// True for answers that may be others in a while.
pub(super) fn is_passing(reply: &Reply) -> bool {
    reply.status >= 500 || matches!(reply.status, 408 | 425 | 429)
}

fn understand(url: &str, reply: &Reply) -> Given {
    if !reply.is_success() {
        return Given::Unusable(format!(
            "plan fetch failed: {url} answered {} {}",
            reply.status,
            reply.excerpt()
        ));
    }
    if reply.content_type.as_deref() == Some(plan::MEDIA_TYPE) {
        return match String::from_utf8(reply.body.clone()) {
            Ok(text) => Given::Script(text),
            Err(_) => Given::Unusable("the plan script is not text".into()),
        };
    }
    let Ok(json) = reply.json() else {
        return Given::Unusable(format!(
            "plan fetch failed: {url} answered no plan but {:?}",
            reply.excerpt()
        ));
    };
    match serde_json::from_value(json.clone()) {
        Ok(plan) => Given::Json(plan),
        Err(e) => match json.get("mode").and_then(|mode| mode.as_str()) {
            Some("flash") => Given::Unusable(format!("the plan names no image or no disk: {e}")),
            Some(mode) => Given::Unusable(format!("unknown plan mode {mode:?}")),
            None => Given::Unusable("the plan has no mode".into()),
        },
    }
}

/// A report that is on its way.
pub(super) struct Told(Option<JoinHandle<()>>);

impl Told {
    /// Waits until it was acknowledged or refused.
    pub(super) fn wait(self) {
        let _ = self.0.map(JoinHandle::join);
    }
}

#[derive(Default)]
struct Newest {
    progress: Option<Progress>,
    is_over: bool,
}

/// Tells a server how far a flash is.
pub(super) struct Reporter {
    newest: Arc<Mutex<Newest>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reporter {
    pub(super) fn tell(&self, progress: Progress) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).progress = Some(progress);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            thread.thread().unpark();
        }
    }

    /// No progress is told after this.
    pub(super) fn end(&self) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
