//! `bty run`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bty::{CancelToken, Error, ErrorKind, Result};
use bty_script::engine::InterruptTarget;
use bty_script::terminal::{EchoTerminal, Terminal, TerminalSize};
use bty_script::world::{DryRunWorld, Effect, EffectLog, FilesBelow, SimulatedWorld, World};
use bty_script::{Limits, ScriptOutcome};

use crate::cli::{Network, Run};
use crate::output::Output;
use crate::session::{ScriptFacts, Session};
use crate::{exit, power};

pub(super) fn run(run: &Run, network: &Network, output: &Output) -> Result<ExitCode> {
    let session = Session::new(network, output)?;
    let (mut world, effects) = world(run, &session)?;
    if output.is_json() {
        world.terminal = Arc::new(JsonTerminal { screen: world.terminal, output: output.clone() });
    }
    let limits = Limits::operator().with_time(run.timeout.map(Duration::from_secs));
    let engine = session.engine_for(world, ScriptFacts::default(), InterruptTarget::Script, limits);
    let cancel = session.signals.cancel();
    let outcome =
        engine.compile_file(&run.file).and_then(|script| engine.run(&script, &run.args, &cancel));
    session.progress.clear();
    if let Some(effects) = effects {
        let power = outcome.as_ref().ok().and_then(|outcome| outcome.power);
        show_effects(&effects, power.map(|action| Effect::Power { action }), output);
        return finish(outcome, output);
    }
    if let Ok(ScriptOutcome { power: Some(action), .. }) = &outcome {
        session.console.restore();
        power::perform(*action, run.no_reboot, output)?;
    }
    finish(outcome, output)
}

/// A terminal for `--json`: output of `print` becomes a JSON event.
struct JsonTerminal {
    screen: Arc<dyn Terminal>,
    output: Output,
}

impl Terminal for JsonTerminal {
    fn size(&self) -> TerminalSize {
        self.screen.size()
    }

    fn print(&self, text: &str) {
        self.output.event("print", &serde_json::json!({ "text": text }));
    }

    fn say(&self, text: &str) {
        self.screen.say(text);
    }

    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> Result<Option<String>> {
        self.screen.read_line(prompt, cancel)
    }
}

/// The world that the script acts on, and the log of effects of a dry run.
fn world(run: &Run, session: &Session) -> Result<(World, Option<EffectLog>)> {
    let mut machine = session.world.clone();
    if let Some(dir) = &run.files {
        machine.files = Arc::new(FilesBelow::open(dir)?);
    }
    if !run.dry_run {
        return Ok((machine, None));
    }
    let Some(path) = &run.world else {
        let (world, effects) = DryRunWorld::wrap(&machine);
        return Ok((world, Some(effects)));
    };
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Usage, format!("reading {}", path.display())).because(e)
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let (mut world, effects, _) = SimulatedWorld::parse(&text)?;
    world.terminal = Arc::new(EchoTerminal::new(world.terminal, session.console.clone()));
    Ok((world, Some(effects)))
}

fn show_effects(effects: &EffectLog, last: Option<Effect>, output: &Output) {
    let all: Vec<Effect> = effects.list().into_iter().chain(last).collect();
    if !output.is_json() {
        let count = all.len();
        output.say(&match count {
            0 => "dry run: nothing was changed".to_owned(),
            1 => "dry run: nothing was changed; the script would do 1 thing:".to_owned(),
            _ => format!("dry run: nothing was changed; the script would do {count} things:"),
        });
    }
    for effect in &all {
        if output.is_json() {
            output.event("effect", effect);
        } else {
            output.print(&format!("  {effect}"));
        }
    }
}

/// Shows the error if the script failed, and returns the exit code.
fn finish(
    outcome: std::result::Result<ScriptOutcome, bty_script::ScriptError>,
    output: &Output,
) -> Result<ExitCode> {
    match outcome {
        Ok(outcome) => Ok(exit::outcome(&outcome)),
        Err(error) => {
            output.script_error(&error);
            Ok(exit::script(&error))
        }
    }
}
