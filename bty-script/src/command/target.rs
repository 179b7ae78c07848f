//! `bty --mac MAC`: a machine in the live environment does what its server has planned.
//!
//! It posts its inventory, fetches the plan, runs it, and reports the end until the server has
//! acknowledged it. Whatever does not answer is asked again for as long as nobody is at the
//! machine; Enter leads to the wizard. A plan that cannot run ends in the wizard too, with the
//! reason, and never in a loop.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use bty::{CancelToken, Result};
use bty_script::engine::Interrupts;
use bty_script::error::Power;
use bty_script::plan::{self, Header, JsonPlan, Report};
use bty_script::world::World;
use bty_script::{HostError, Limits, ScriptError};

use crate::cli::Start;
use crate::console::Marks;
use crate::output::Output;
use crate::session::{Facts, Session};
use crate::{exit, power, wizard};

mod flasher;
mod inventory;
mod server;

use flasher::Watched;
use server::{Given, Server};

/// Does what the server of `start` has planned for `mac`.
pub(crate) fn run(
    mac: &str,
    start: &Start,
    session: &Session,
    output: &Output,
) -> Result<ExitCode> {
    let cycle = start.cycle.clone().or_else(|| cycle_of(&session.world.machine.cmdline()));
    let server = Arc::new(Server::new(&start.server, mac, cycle, session, output));
    let marks = Arc::new(Marks::default());
    marks.status(&format!("server-driven mode: server={} mac={mac}", server.base()));
    let target = Target { server, marks, start, session, output };
    let inventory = target.server.post_inventory(&session.world);
    let code = match target.server.fetch_plan()? {
        Given::Script(text) => target.script(&text),
        Given::Json(JsonPlan::Inventory) => {
            output.say("Plan: inventory + reboot");
            inventory.wait(&target.server);
            power::act(Power::Reboot, start.no_reboot, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Given::Json(JsonPlan::Exit) => {
            output.say("Plan: nothing to do");
            if start.boot_flashed {
                boot_flashed(start, output)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Given::Json(JsonPlan::Interactive { catalog }) => {
            output.say("Plan: interactive");
            let catalog =
                catalog.unwrap_or_else(|| format!("{}/catalog.toml", target.server.base()));
            target.wizard(Some(catalog), None)
        }
        Given::Json(flash) => match flash.script(mac).map(|script| script.render()) {
            Some(Ok(text)) => target.json_flash(&text),
            Some(Err(error)) => target.give_up(&format!("the plan cannot be run: {error}")),
            None => target.give_up("the plan has a mode that this bty does not know"),
        },
        Given::Unusable(reason) => target.give_up(&reason),
        Given::Interrupted => target.wizard(None, Some("the server was not waited for".into())),
    };
    inventory.stop();
    code
}

/// The token of the boot cycle, from the kernel command line.
fn cycle_of(cmdline: &str) -> Option<String> {
    let found = cmdline.split_whitespace().find_map(|word| word.strip_prefix("bty.cycle="));
    found.filter(|token| !token.is_empty()).map(str::to_owned)
}

/// Whoever was started by a medium comes here at every start, and has a disk to go on with.
fn boot_flashed(start: &Start, output: &Output) -> Result<()> {
    if let Err(error) = bty::boot::repeat_boot_next(bty::boot::EFIVARS.as_ref()) {
        output.say(&format!("staying here: {error}"));
        return Ok(());
    }
    output.say("going on with the flashed disk");
    power::act(Power::Reboot, start.no_reboot, output)
}

struct Target<'a> {
    server: Arc<Server>,
    marks: Arc<Marks>,
    start: &'a Start,
    session: &'a Session,
    output: &'a Output,
}

impl Target<'_> {
    /// Runs a plan script, after a look at whom it is for.
    fn script(&self, text: &str) -> Result<ExitCode> {
        let header = match Header::parse(text) {
            Ok(header) => header,
            Err(error) => return self.give_up(&format!("{error}")),
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
        self.server.use_cycle_of(&header);
        self.run_plan(&format!("{}.rhai", header.plan), text, true)
    }

    /// The same for a plan that came as JSON: its server knows no more than `done` and `failed`.
    fn json_flash(&self, text: &str) -> Result<ExitCode> {
        self.output.say("Plan: flash");
        self.run_plan("flash.rhai", text, false)
    }

    fn run_plan(&self, name: &str, text: &str, tells_progress: bool) -> Result<ExitCode> {
        let reporter = tells_progress.then(|| self.server.progress_reporter());
        let inner = Arc::clone(&self.session.world.flasher);
        let watched = Arc::new(Watched::new(inner, Arc::clone(&self.marks), reporter));
        let world = World { flasher: watched.clone(), ..self.session.world.clone() };
        let facts = Facts {
            mac: Some(self.server.mac().to_owned()),
            server: Some(self.server.base().to_owned()),
            ..Facts::default()
        };
        let engine = self.session.engine_of(world, facts, Interrupts::Script, Limits::operator());
        // a token of its own: after Ctrl-C there is still a server to tell, and a person to ask
        let ended = plan::run(&engine, name, text, &CancelToken::new());
        self.session.signals.release();
        self.session.watcher.clear();
        watched.end();
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => return self.failed(&error),
        };
        let flashed = watched.flashed();
        let is_flashed = !flashed.is_empty();
        self.server.report(&Report::done(flashed))?;
        match ended.power {
            Some(wish) => {
                match wish {
                    Power::Reboot if is_flashed => self.marks.mark("flash complete; rebooting"),
                    Power::Kexec if is_flashed => {
                        self.marks.mark("flash complete; starting its kernel");
                    }
                    _ => {}
                }
                self.session.console.restore();
                power::act(wish, self.start.no_reboot, self.output)?;
            }
            None => self.output.say("the plan is done"),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Shows why a plan failed, tells the server, and asks the person.
    fn failed(&self, error: &ScriptError) -> Result<ExitCode> {
        self.output.script_error(error);
        let report = Report::failed(&error.message);
        if self.session.signals.cancel().is_cancelled() {
            self.server.report_once(&report);
            return Ok(exit::script(error));
        }
        let told = self.server.report_in_background(&report);
        if !std::io::stdin().is_terminal() {
            told.wait();
            return Ok(exit::script(error));
        }
        self.wizard(None, Some(format!("the plan failed: {}", error.message)))
    }

    /// The same for a plan that cannot even begin.
    fn give_up(&self, reason: &str) -> Result<ExitCode> {
        let refused = HostError::new("refused", reason)
            .hint("look at the plan of this machine on the server");
        self.failed(&refused.into())
    }

    /// The wizard, with the server's catalog and a banner.
    fn wizard(&self, catalog: Option<String>, banner: Option<String>) -> Result<ExitCode> {
        let facts = Facts {
            catalog: catalog.or_else(|| Some(format!("{}/catalog.toml", self.server.base()))),
            mac: Some(self.server.mac().to_owned()),
            server: Some(self.server.base().to_owned()),
            banner,
        };
        wizard::run(self.session, facts, self.start.no_reboot, self.output)
    }
}
