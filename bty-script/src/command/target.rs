//! `bty --mac MAC`: a machine in the live environment carries out the plan of its server.
//!
//! It sends its inventory, fetches the plan, runs it, and reports the result until the server
//! acknowledges it. Failed requests are retried until somebody at the machine presses Enter, which
//! starts the wizard. A plan that cannot run also ends in the wizard, with the reason, and never in
//! a loop.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use bty::{CancelToken, Result};
use bty_script::engine::InterruptTarget;
use bty_script::error::PowerAction;
use bty_script::plan::{self, Header, JsonPlan, Report};
use bty_script::world::World;
use bty_script::{HostError, Limits, ScriptError};

use crate::cli::Start;
use crate::console_log::ConsoleLog;
use crate::output::Output;
use crate::session::{ScriptFacts, Session};
use crate::{exit, power, wizard};

mod flasher;
mod inventory;
mod server;

use flasher::ReportingFlasher;
use inventory::InventoryUpload;
use server::{PlanReply, Server};

/// Carries out what the server of `start` has planned for the machine `mac`.
pub(crate) fn run(
    mac: &str,
    start: &Start,
    session: &Session,
    output: &Output,
) -> Result<ExitCode> {
    let cycle = start.cycle.clone().or_else(|| boot_cycle_token(&session.world.platform.cmdline()));
    let server = Arc::new(Server::new(&start.server, mac, cycle, session, output));
    let console_log = Arc::new(ConsoleLog::default());
    console_log.status(&format!("server-driven mode: server={} mac={mac}", server.base()));
    let target = Target { server, console_log, start, session, output };
    let inventory = InventoryUpload::start(Arc::clone(&target.server), &session.world);
    let code = match target.server.fetch_plan()? {
        PlanReply::Script(text) => target.script(&text),
        PlanReply::Json(JsonPlan::Inventory) => {
            output.say("Plan: inventory + reboot");
            inventory.wait(&target.server);
            power::perform(PowerAction::Reboot, start.no_reboot, output)?;
            Ok(ExitCode::SUCCESS)
        }
        PlanReply::Json(JsonPlan::Exit) => {
            output.say("Plan: nothing to do");
            if start.boot_flashed {
                boot_flashed(start, output)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        PlanReply::Json(JsonPlan::Interactive { catalog }) => {
            output.say("Plan: interactive");
            let catalog =
                catalog.unwrap_or_else(|| format!("{}/catalog.toml", target.server.base()));
            target.wizard(Some(catalog), None)
        }
        PlanReply::Json(flash) => match flash.script(mac).map(|script| script.render()) {
            Some(Ok(text)) => target.json_flash(&text),
            Some(Err(error)) => target.give_up(&format!("the plan cannot be run: {error:#}")),
            None => target.give_up("this version of bty does not know the mode of the plan"),
        },
        PlanReply::Unusable(reason) => target.give_up(&reason),
        PlanReply::Interrupted => {
            target.wizard(None, Some("the plan was not fetched: you pressed Enter".into()))
        }
    };
    inventory.stop();
    code
}

/// The boot cycle's token on the kernel command line.
fn boot_cycle_token(cmdline: &str) -> Option<String> {
    let found = cmdline.split_whitespace().find_map(|word| word.strip_prefix("bty.cycle="));
    found.filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Boots the flashed disk. A machine that boots from a stick or CD gets here on every boot, and
/// would otherwise stay in the live environment.
fn boot_flashed(start: &Start, output: &Output) -> Result<()> {
    if let Err(error) = bty::boot::repeat_boot_next(bty::boot::EFIVARS.as_ref()) {
        output.say(&format!("staying in the live environment: {error:#}"));
        return Ok(());
    }
    output.say("rebooting into the flashed disk");
    power::perform(PowerAction::Reboot, start.no_reboot, output)
}

struct Target<'a> {
    server: Arc<Server>,
    console_log: Arc<ConsoleLog>,
    start: &'a Start,
    session: &'a Session,
    output: &'a Output,
}

impl Target<'_> {
    /// Runs a plan script, if it is for this machine.
    fn script(&self, text: &str) -> Result<ExitCode> {
        let header = match Header::parse(text) {
            Ok(header) => header,
            Err(error) => return self.give_up(&format!("{error:#}")),
        };
        if header.machine != self.server.mac() {
            let reason = format!(
                "the plan is for {}, this machine is {}",
                header.machine,
                self.server.mac()
            );
            return self.give_up(&reason);
        }
        self.output.say(&format!("Plan: {} (revision {})", header.plan, header.revision));
        self.server.set_plan_cycle(&header);
        self.run_plan(&format!("{}.rhai", header.plan), text, true)
    }

    /// Runs a flash plan that came as JSON. A server that sends JSON understands only `done` and
    /// `failed`, no progress.
    fn json_flash(&self, text: &str) -> Result<ExitCode> {
        self.output.say("Plan: flash");
        self.run_plan("flash.rhai", text, false)
    }

    fn run_plan(&self, name: &str, text: &str, reports_progress: bool) -> Result<ExitCode> {
        let reporter = reports_progress.then(|| self.server.progress_reporter());
        let inner = Arc::clone(&self.session.world.flasher);
        let flasher =
            Arc::new(ReportingFlasher::new(inner, Arc::clone(&self.console_log), reporter));
        let world = World { flasher: flasher.clone(), ..self.session.world.clone() };
        let facts = ScriptFacts {
            mac: Some(self.server.mac().to_owned()),
            server: Some(self.server.base().to_owned()),
            ..ScriptFacts::default()
        };
        let engine =
            self.session.engine_for(world, facts, InterruptTarget::Script, Limits::operator());
        // a separate token: after Ctrl-C the failure still has to be reported
        let outcome = plan::run(&engine, name, text, &CancelToken::new());
        self.session.signals.route_to_program();
        self.session.progress.clear();
        flasher.end();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.failed(&error),
        };
        let flashed = flasher.flashed();
        let is_flashed = !flashed.is_empty();
        self.server.report(&Report::done(flashed))?;
        match outcome.power {
            Some(action) => {
                match action {
                    PowerAction::Reboot if is_flashed => {
                        self.console_log.announce("flash complete; rebooting");
                    }
                    PowerAction::Kexec if is_flashed => {
                        self.console_log.announce("flash complete; starting its kernel");
                    }
                    _ => {}
                }
                self.session.console.restore();
                power::perform(action, self.start.no_reboot, self.output)?;
            }
            None => self.output.say("the plan is complete"),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Shows why the plan failed, reports it to the server, and starts the wizard.
    fn failed(&self, error: &ScriptError) -> Result<ExitCode> {
        self.output.script_error(error);
        let report = Report::failed(&error.message);
        if self.session.signals.cancel().is_cancelled() {
            self.server.report_once(&report);
            return Ok(exit::script(error));
        }
        let pending = self.server.report_in_background(&report);
        if !std::io::stdin().is_terminal() {
            pending.wait();
            return Ok(exit::script(error));
        }
        self.wizard(None, Some(format!("the plan failed: {}", error.message)))
    }

    /// Handles a plan that cannot start for `reason`.
    fn give_up(&self, reason: &str) -> Result<ExitCode> {
        let refused =
            HostError::new("refused", reason).hint("check the plan of this machine on the server");
        self.failed(&refused.into())
    }

    /// Starts the wizard with `catalog`, by default that of the server.
    fn wizard(&self, catalog: Option<String>, banner: Option<String>) -> Result<ExitCode> {
        let facts = ScriptFacts {
            catalog: catalog.or_else(|| Some(format!("{}/catalog.toml", self.server.base()))),
            mac: Some(self.server.mac().to_owned()),
            server: Some(self.server.base().to_owned()),
            banner,
            ..ScriptFacts::default()
        };
        wizard::run(self.session, facts, self.start.no_reboot, self.output)
    }
}
