//! Plan scripts, which a server sends to machines at network boot, and the machines' reports.
//!
//! A plan script is a rhai script that starts with a header and the value of the plan as the
//! constant `PLAN`; the source of the plan follows, and defines `run(p)`. The machine calls
//! `run(PLAN)`. In version 1:
//!
//! ```text
//! //! bty plan script 1
//! //! machine: 52:54:00:12:34:56
//! //! plan: bty-flash-once
//! //! revision: 3
//! //! cycle: 5f0c2a9e…
//! const PLAN = #{"image": #{"src": "https://…", "sha256": "…"}, "disk": #{"serial": "…"}};
//! …the source…
//! ```
//!
//! The first line has the version; a machine refuses a newer one. Machines ignore unknown header
//! lines, so more can be added. `machine` is the MAC address that the plan is for; other machines
//! refuse it. `cycle` is the token of the boot cycle, which reports repeat. The media type is
//! `text/rhai`. The value of the plan is a quoted literal: whatever a label or an address contains,
//! it never becomes code.

use std::fmt::Write as _;

use bty::CancelToken;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::{Engine, ImportRoot, ScriptOutcome};
use crate::error::{Cause, HostError, ScriptError};

mod json;
mod literal;
mod report;

pub use json::JsonPlan;
pub use literal::literal;
pub use report::{FlashedDisk, Progress, Report};

/// The version that [`PlanScript::render`] writes, and the newest that [`Header::parse`] accepts.
pub const VERSION: u32 = 1;

/// The media type of a plan script.
pub const MEDIA_TYPE: &str = "text/rhai";

const FIRST_LINE: &str = "//! bty plan script ";

/// The header of a plan script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// MAC address of the machine: lower case, with colons.
    pub machine: String,
    /// Name of the plan.
    pub plan: String,
    /// Revision of the plan's source.
    pub revision: u64,
    /// Token of the boot cycle; empty when the server has none.
    pub cycle: String,
}

/// The parts of a plan script.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanScript {
    /// Machine, plan and boot cycle.
    pub header: Header,
    /// The argument of `run`.
    pub value: Value,
    /// Source of the plan, which defines `run(p)`.
    pub source: String,
}

impl PlanScript {
    /// The text of the script.
    ///
    /// # Errors
    /// Kind `usage`: a header field contains a control character, or `value` a number that scripts
    /// cannot represent.
    pub fn render(&self) -> Result<String, HostError> {
        let mut text = format!("{FIRST_LINE}{VERSION}\n");
        let Header { machine, plan, revision, cycle } = &self.header;
        for (name, value) in [
            ("machine", machine),
            ("plan", plan),
            ("revision", &revision.to_string()),
            ("cycle", cycle),
        ] {
            if value.chars().any(char::is_control) {
                return Err(HostError::usage(format!(
                    "the {name} of a plan must be a single line, not {value:?}"
                )));
            }
            let _ = writeln!(text, "//! {name}: {value}");
        }
        let _ = writeln!(text, "const PLAN = {};", literal(&self.value)?);
        text.push_str(&self.source);
        Ok(text)
    }
}

impl Header {
    /// Parses the header of a plan script.
    ///
    /// # Errors
    /// Kind `format`: the text is not a plan script, or has a newer version.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bad = |why: &str| HostError::new("format", format!("not a plan script: {why}"));
        let mut lines = text.lines();
        let first = lines
            .next()
            .and_then(|line| line.strip_prefix(FIRST_LINE))
            .ok_or_else(|| bad("the first line is wrong"))?;
        let version: u32 = first.trim().parse().map_err(|_| bad("the version is missing"))?;
        if version > VERSION {
            let message = format!(
                "the plan script has version {version}, but this bty supports only {VERSION}"
            );
            return Err(HostError::new("format", message).hint("boot a newer live environment"));
        }
        let mut header = Self::default();
        for line in lines {
            let Some((name, value)) =
                line.strip_prefix("//! ").and_then(|line| line.split_once(": "))
            else {
                // the line of an empty value has no space after the colon
                if line.starts_with("//! ") { continue } else { break }
            };
            match name {
                "machine" => header.machine = value.trim().to_ascii_lowercase(),
                "plan" => header.plan = value.to_owned(),
                "revision" => {
                    header.revision =
                        value.parse().map_err(|_| bad("the revision is not a number"))?;
                }
                "cycle" => header.cycle = value.to_owned(),
                _ => {}
            }
        }
        if header.machine.is_empty() {
            return Err(bad("the machine is missing"));
        }
        Ok(header)
    }
}

/// Normalizes a MAC address to lower case with colons. `None` if `text` is not a MAC address.
#[must_use]
pub fn canonical_mac(text: &str) -> Option<String> {
    let bare: String = text.trim().chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    let is_mac = bare.len() == 12 && bare.chars().all(|c| c.is_ascii_hexdigit());
    let pairs =
        || bare.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_ascii_lowercase());
    is_mac.then(|| pairs().collect::<Vec<_>>().join(":"))
}

/// Runs a plan script: calls `run(PLAN)`.
///
/// # Errors
/// - [`Cause::Syntax`]: the script does not compile
/// - [`Cause::Script`]: the script does not define `run(p)`, or has another bug
/// - the other causes: `run` failed; see [`Engine::run`]
pub fn run(
    engine: &Engine,
    name: &str,
    text: &str,
    cancel: &CancelToken,
) -> Result<ScriptOutcome, ScriptError> {
    let script = engine.compile(name, text, &ImportRoot::Bundled)?;
    if !script.has_function("run", 1) {
        let mut error = ScriptError::new(Cause::Script, "the plan does not define run(p)");
        error.hint = Some("add fn run(p) { … } with what the machine should do".into());
        return Err(error);
    }
    // as one script, so that statements outside functions run only once
    engine.run(
        &engine.compile(name, &format!("{text}\nrun(PLAN)"), &ImportRoot::Bundled)?,
        &[],
        cancel,
    )
}

#[cfg(test)]
mod tests;
