//! Power control: Wake-on-LAN by the server itself, everything else by the hook of the
//! configuration, which holds the credentials.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bty::Client;
use bty::client::Request;
use bty::text::count;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::blocking::blocking;
use crate::config::{Config, PowerHook, PowerOptions};
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::NewEvent;
use crate::domain::mac::Mac;
use crate::domain::machine::{ClientContext, Machine};
use crate::domain::power::{
    HookAnswer, OUTPUT_BYTES_MAX, PowerAction, PowerState, hook_request, is_at_work,
};
use crate::domain::time::Time;
use crate::domain::webhook::{WebhookSecret, signed_headers};
use crate::random::random_token;
use crate::services::event_log::EventLog;
use crate::services::machine_edits::MachineEdits;
use crate::services::machine_reads::MachineReads;
use crate::services::shutdown::Shutdown;
use crate::store::machines;

mod program;
mod wake;

/// Maximum number of machines in one request.
const MACHINES_MAX: usize = 1_000;

/// Maximum number of machines of all selections that wait for their turn.
const WAITING_MAX: usize = 4_000;

/// Switches machines. Clones share the limits.
#[derive(Clone)]
pub struct Power {
    config: Arc<Config>,
    client: Client,
    reads: MachineReads,
    edits: MachineEdits,
    events: EventLog,
    shutdown: Shutdown,
    /// Permits for calls of the hook.
    permits: Arc<Semaphore>,
    /// Machines with an action under way.
    busy: Arc<Mutex<HashSet<Mac>>>,
    waiting: Arc<AtomicUsize>,
}

/// An action for one machine.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerOrder {
    /// What to do.
    action: PowerAction,
    /// True to interrupt a machine that is carrying out an order, such as a flash.
    #[serde(default)]
    force: bool,
}

/// An action for several machines.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerSelection {
    /// What to do; not `status` and not `flash`.
    action: PowerAction,
    /// True to interrupt machines that are carrying out an order, such as a flash.
    #[serde(default)]
    force: bool,
    /// The machines, at most 1000.
    #[schema(value_type = Vec<String>)]
    machines: Vec<Mac>,
}

/// What an action did.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct PowerReport {
    /// MAC address of the machine.
    #[schema(value_type = String)]
    mac: Mac,
    /// The action.
    action: PowerAction,
    /// What carried it out: `hook` or `wake-on-lan`.
    via: &'static str,
    /// Whether the machine is on, if the hook says so.
    state: Option<PowerState>,
    /// What the hook said, or the interfaces on which packets were sent.
    output: String,
}

/// The machines that a selection switches, in the background. Their events have the results.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PowerQueue {
    /// Number of machines that will be switched.
    accepted: usize,
    /// Machines that are left out, each with the reason.
    skipped: Vec<Problem>,
}

impl Power {
    pub(crate) fn new(
        config: Arc<Config>,
        client: Client,
        reads: MachineReads,
        edits: MachineEdits,
        events: EventLog,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(config.power.parallel)),
            busy: Arc::default(),
            waiting: Arc::default(),
            config,
            client,
            reads,
            edits,
            events,
            shutdown,
        }
    }

    fn options(&self) -> &PowerOptions {
        &self.config.power
    }

    /// Switches a machine, and records what came of it.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when the machine is unknown.
    /// - [`ErrorKind::Conflict`] when there is no hook for the action, the machine is carrying out
    ///   an order, or another action for it is under way.
    /// - [`ErrorKind::Upstream`] when the hook fails.
    pub async fn switch(
        &self,
        who: &ClientContext,
        mac: &Mac,
        order: PowerOrder,
    ) -> Result<PowerReport> {
        self.check_hook(order.action)?;
        let machine = self.reads.get(mac).await?;
        check_interruption(&machine, order)?;
        self.perform(who, &machine, order).await
    }

    /// Switches several machines in the background, `power.stagger_ms` apart.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when a machine is unknown, or the action is for one machine only.
    /// - [`ErrorKind::Conflict`] when there is no hook for the action.
    /// - [`ErrorKind::Throttled`] when too many machines wait already.
    pub async fn switch_many(
        &self,
        who: ClientContext,
        selection: PowerSelection,
    ) -> Result<PowerQueue> {
        let PowerSelection { action, force, machines } = selection;
        check_selection(action, &machines)?;
        self.check_hook(action)?;
        let order = PowerOrder { action, force };
        let (mut accepted, mut skipped) = (Vec::new(), Vec::new());
        for machine in self.find_all(machines).await? {
            match check_interruption(&machine, order) {
                Ok(()) => accepted.push(machine),
                Err(error) => skipped.push(Problem::new(machine.mac.as_str(), error.detail)),
            }
        }
        let queue = PowerQueue { accepted: accepted.len(), skipped };
        let waiting = Waiting::begin(&self.waiting, accepted.len())?;
        let service = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = service.shutdown.stopped() => {}
                () = service.work_through(&who, accepted, order) => {}
            }
            drop(waiting);
        });
        Ok(queue)
    }

    /// Returns the machines of a selection, each once.
    async fn find_all(&self, macs: Vec<Mac>) -> Result<Vec<Machine>> {
        let mut known = HashSet::new();
        let macs: Vec<Mac> = macs.into_iter().filter(|mac| known.insert(mac.clone())).collect();
        let read = self.reads.db.read(move |conn| {
            let found = macs
                .into_iter()
                .map(|mac| machines::find(conn, &mac).map(|machine| (machine, mac)));
            found.collect::<Result<Vec<_>>>()
        });
        let (mut found, mut problems) = (Vec::<Machine>::new(), Vec::new());
        for (machine, mac) in read.await? {
            match machine {
                // it may already be there, by another of its network cards
                Some(machine) if found.iter().any(|other| other.mac == machine.mac) => {}
                Some(machine) => found.push(machine),
                None => problems.push(Problem::new(mac.as_str(), "the machine does not exist")),
            }
        }
        match problems.is_empty() {
            true => Ok(found),
            false => {
                Err(Error::invalid("the selection has unknown machines").with_problems(problems))
            }
        }
    }

    async fn work_through(&self, who: &ClientContext, machines: Vec<Machine>, order: PowerOrder) {
        let mut running = JoinSet::new();
        for (index, machine) in machines.into_iter().enumerate() {
            if index > 0 {
                tokio::time::sleep(self.options().stagger).await;
            }
            let (service, who) = (self.clone(), who.clone());
            // failures are recorded as events
            running.spawn(async move { service.perform(&who, &machine, order).await.is_ok() });
        }
        while running.join_next().await.is_some() {}
    }

    /// Refuses actions that need a hook if there is none.
    fn check_hook(&self, action: PowerAction) -> Result<()> {
        let needs_hook = !matches!(action, PowerAction::On | PowerAction::Wake);
        if needs_hook && self.options().hook.is_none() {
            let detail = format!(
                "cannot {} machines without a hook: set power.program or power.url in the \
                 configuration, and restart the server",
                action.verb()
            );
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        Ok(())
    }

    async fn perform(
        &self,
        who: &ClientContext,
        machine: &Machine,
        order: PowerOrder,
    ) -> Result<PowerReport> {
        let _turn = MachineTurn::take(&self.busy, &machine.mac)?;
        let begun = Instant::now();
        let result = tokio::select! {
            result = self.act(who, machine, order) => result,
            () = self.shutdown.stopped() => {
                Err(Error::new(ErrorKind::Busy, "the server is stopping"))
            }
        };
        self.record(who, &machine.mac, order.action, &result, begun.elapsed()).await;
        result
    }

    async fn act(
        &self,
        who: &ClientContext,
        machine: &Machine,
        order: PowerOrder,
    ) -> Result<PowerReport> {
        let mac = &machine.mac;
        match (order.action, &self.options().hook) {
            (PowerAction::Wake, _) | (PowerAction::On, None) => wake(mac, order.action).await,
            (PowerAction::Flash, _) => {
                let ordered = self.edits.order_again(who, mac, order.force).await?;
                self.call(&ordered, PowerAction::Netboot).await?;
                let report = self.call(&ordered, PowerAction::Cycle).await?;
                Ok(PowerReport { action: PowerAction::Flash, ..report })
            }
            (action, _) => self.call(machine, action).await,
        }
    }

    /// Records what came of an action. A status that was answered is not worth an event: programs
    /// ask for it often.
    async fn record(
        &self,
        who: &ClientContext,
        mac: &Mac,
        action: PowerAction,
        result: &Result<PowerReport>,
        took: Duration,
    ) {
        let name = action.as_str();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let event = match result {
            Ok(_) if action == PowerAction::Status => return,
            Ok(PowerReport { via, state, output, .. }) => {
                let details = json!({
                    "action": action, "via": via, "state": state, "output": output, "ms": ms,
                });
                let summary = format!("{mac}: power {name} by {via}");
                NewEvent::new("machine.power", mac.as_str(), summary).with(details)
            }
            Err(error) => {
                let details = json!({ "action": action, "reason": error.to_string(), "ms": ms });
                let summary = format!("{mac}: power {name} failed: {}", error.detail);
                NewEvent::new("machine.power.failed", mac.as_str(), summary).with(details)
            }
        };
        let event = event.caused_by(&who.author());
        if let Err(error) = self.events.record(event).await {
            tracing::warn!(%error, "cannot record a power action");
        }
    }

    /// Calls the hook, when fewer than `power.parallel` calls are under way.
    async fn call(&self, machine: &Machine, action: PowerAction) -> Result<PowerReport> {
        let failed = |why: String| {
            let detail = format!("cannot {} {}: {why}", action.verb(), machine.mac);
            Error::new(ErrorKind::Upstream, detail)
        };
        let _permit = self.permits.acquire().await.map_err(Error::internal)?;
        let request = hook_request(machine, action).to_string().into_bytes();
        let output = match &self.options().hook {
            None => return Err(failed("there is no hook".into())),
            Some(PowerHook::Program(program)) => {
                let timeout = self.options().timeout;
                let path = program.clone();
                let output = on_own_thread(move |is_cancelled| {
                    program::run(&path, &request, timeout, is_cancelled)
                });
                output.await?.map_err(|why| failed(format!("{} {why}", program.display())))?
            }
            Some(PowerHook::Url { url, secrets }) => {
                self.post(url, secrets, request).await.map_err(failed)?
            }
        };
        let HookAnswer { state, output } = HookAnswer::parse(&output);
        Ok(PowerReport { mac: machine.mac.clone(), action, via: "hook", state, output })
    }

    async fn post(
        &self,
        url: &str,
        secrets: &[WebhookSecret],
        body: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let mut request = Request::get(url);
        let id = format!("pwr_{}", random_token());
        request.headers = signed_headers(&id, Time::now(), &body, secrets);
        request.body = Some(("application/json", body));
        request.timeout = self.options().timeout;
        request.limit_bytes = 16 * OUTPUT_BYTES_MAX;
        let reply = self.client.exchange_async(&request).await.map_err(|e| format!("{e:#}"))?;
        match reply.is_success() {
            true => Ok(reply.body),
            false => Err(format!("the hook responded with {}: {}", reply.status, reply.excerpt())),
        }
    }
}

async fn wake(mac: &Mac, action: PowerAction) -> Result<PowerReport> {
    let woken = mac.clone();
    let interfaces = blocking(move || wake::wake(&woken)).await??;
    let output = format!("sent on {}", interfaces.join(", "));
    Ok(PowerReport { mac: mac.clone(), action, via: "wake-on-lan", state: None, output })
}

/// Runs `work` on a thread of its own: a hook takes seconds, and the threads that may block are few
/// and serve machines. Sets the flag when the caller has gone.
async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Result<T> {
    struct Cancel(Arc<AtomicBool>);
    impl Drop for Cancel {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let cancel = Cancel(Arc::default());
    let (flag, (answer, answered)) = (Arc::clone(&cancel.0), oneshot::channel());
    let run = move || {
        // fails if the caller has gone
        let _ = answer.send(work(&flag));
    };
    std::thread::Builder::new().name("power".into()).spawn(run)?;
    answered.await.map_err(Error::internal)
}

fn check_selection(action: PowerAction, macs: &[Mac]) -> Result<()> {
    if matches!(action, PowerAction::Status | PowerAction::Flash) {
        let detail = format!(
            "{} is for one machine at a time: use POST /machines/{{mac}}/power",
            action.as_str()
        );
        return Err(Error::invalid(detail));
    }
    if macs.is_empty() || macs.len() > MACHINES_MAX {
        let found = count(macs.len(), "machine");
        return Err(Error::invalid(format!(
            "expected 1 to {MACHINES_MAX} machines, found {found}"
        )));
    }
    Ok(())
}

/// Refuses to interrupt a machine whose disk may be half written, unless that is forced.
fn check_interruption(machine: &Machine, order: PowerOrder) -> Result<()> {
    if order.action.interrupts() && !order.force && is_at_work(machine) {
        let detail = format!(
            "cannot {} {}: it is carrying out an order, and its disk may be half written; wait \
             for its report, or set force",
            order.action.verb(),
            machine.mac
        );
        return Err(Error::new(ErrorKind::Conflict, detail));
    }
    Ok(())
}

/// The right to switch one machine.
struct MachineTurn {
    busy: Arc<Mutex<HashSet<Mac>>>,
    mac: Mac,
}

impl MachineTurn {
    fn take(busy: &Arc<Mutex<HashSet<Mac>>>, mac: &Mac) -> Result<Self> {
        if !busy.lock().unwrap_or_else(PoisonError::into_inner).insert(mac.clone()) {
            let detail = format!("another power action for {mac} is under way; try again later");
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        Ok(Self { busy: Arc::clone(busy), mac: mac.clone() })
    }
}

impl Drop for MachineTurn {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.mac);
    }
}

/// Machines of a selection that wait for their turn.
struct Waiting {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Waiting {
    fn begin(all: &Arc<AtomicUsize>, own: usize) -> Result<Self> {
        let add = |waiting: usize| Some(waiting + own).filter(|sum| *sum <= WAITING_MAX);
        if all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            let detail = format!(
                "more than {WAITING_MAX} machines wait to be switched; try again when their events \
                 have been recorded"
            );
            return Err(Error::new(ErrorKind::Throttled, detail));
        }
        Ok(Self { all: Arc::clone(all), own })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_one_power_action_at_a_time() {
        let (busy, mac) = (Arc::default(), "52:54:00:12:34:56".parse().unwrap());
        let turn = MachineTurn::take(&busy, &mac).unwrap();
        assert_eq!(MachineTurn::take(&busy, &mac).err().unwrap().kind, ErrorKind::Conflict);
        drop(turn);
        assert!(MachineTurn::take(&busy, &mac).is_ok());
    }

    #[test]
    fn only_so_many_machines_wait() {
        let all = Arc::default();
        let first = Waiting::begin(&all, WAITING_MAX).unwrap();
        assert_eq!(Waiting::begin(&all, 1).err().unwrap().kind, ErrorKind::Throttled);
        drop(first);
        assert!(Waiting::begin(&all, 1).is_ok());
    }

    #[test]
    fn status_and_flash_are_for_one_machine() {
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        for action in [PowerAction::Status, PowerAction::Flash] {
            assert!(check_selection(action, std::slice::from_ref(&mac)).is_err());
        }
        assert!(check_selection(PowerAction::Wake, &[]).is_err());
        assert!(check_selection(PowerAction::Wake, &[mac]).is_ok());
    }
}
