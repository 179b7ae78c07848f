//! Plan scripts: what a server gives to a machine at its network boot, and how the machine answers.
//!
//! A plan script is a rhai script with a header, the value of the plan as the constant `PLAN`, and
//! the source of the script, which defines `run(p)`. The machine calls `run(PLAN)`. Version 1, one
//! item a line:
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
//! The first line names the version: a machine refuses a newer one. Further header lines are
//! ignored, so that they can be added. `machine` is the MAC address that the plan was made for; a
//! machine with another one refuses it. `cycle` is the token of the boot cycle; reports carry it.
//! It is served as `text/rhai`. Values are data: whatever a label or an address contains, it is a
//! quoted literal and never code.

use std::fmt::Write as _;

use bty::CancelToken;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::{Ended, Engine, Root};
use crate::error::{Cause, HostError, ScriptError};

mod json;
mod literal;
mod report;

pub use json::JsonPlan;
pub use literal::literal;
pub use report::{FlashedDisk, Progress, Report};

/// The version that is written, and the newest that is understood.
pub const VERSION: u32 = 1;

/// The media type of a plan script.
pub const MEDIA_TYPE: &str = "text/rhai";

const FIRST_LINE: &str = "//! bty plan script ";

/// Who a plan script is for, and where it comes from.
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

/// A plan script in its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanScript {
    /// Who it is for.
    pub header: Header,
    /// The plan: what `run` is called with.
    pub value: Value,
    /// The source, which defines `run(p)`.
    pub source: String,
}

impl PlanScript {
    /// The script as it is served.
    ///
    /// # Errors
    /// `usage` when a header field holds more than one line, or the plan a number that no script
    /// can hold.
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
                    "the {name} of a plan is one line: {value:?}"
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
    /// The header of a rendered plan script.
    ///
    /// # Errors
    /// `format` when it is no plan script, or one of a newer version.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bad = |why: &str| HostError::new("format", format!("that is no plan script: {why}"));
        let mut lines = text.lines();
        let first = lines
            .next()
            .and_then(|line| line.strip_prefix(FIRST_LINE))
            .ok_or_else(|| bad("its first line is missing"))?;
        let version: u32 = first.trim().parse().map_err(|_| bad("it has no version"))?;
        if version > VERSION {
            let message =
                format!("the plan script has version {version}, this bty understands {VERSION}");
            return Err(HostError::new("format", message).hint("boot a newer live environment"));
        }
        let mut header = Self::default();
        for line in lines {
            let Some((name, value)) =
                line.strip_prefix("//! ").and_then(|line| line.split_once(": "))
            else {
                // an empty value leaves no blank behind its colon
                if line.starts_with("//! ") { continue } else { break }
            };
            match name {
                "machine" => header.machine = value.trim().to_ascii_lowercase(),
                "plan" => header.plan = value.to_owned(),
                "revision" => {
                    header.revision =
                        value.parse().map_err(|_| bad("its revision is no number"))?;
                }
                "cycle" => header.cycle = value.to_owned(),
                _ => {}
            }
        }
        if header.machine.is_empty() {
            return Err(bad("it does not say for which machine it is"));
        }
        Ok(header)
    }
}

/// A MAC address as it is written in a header: lower case, with colons. `None` when it is none.
#[must_use]
pub fn canonical_mac(text: &str) -> Option<String> {
    let bare: String = text.trim().chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
    let is_mac = bare.len() == 12 && bare.chars().all(|c| c.is_ascii_hexdigit());
    let pairs =
        || bare.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_ascii_lowercase());
    is_mac.then(|| pairs().collect::<Vec<_>>().join(":"))
}

/// Runs a rendered plan script: `run(PLAN)`.
///
/// # Errors
/// When it cannot be compiled, has no `run(p)`, or fails.
pub fn run(
    engine: &Engine,
    name: &str,
    text: &str,
    cancel: &CancelToken,
) -> Result<Ended, ScriptError> {
    let script = engine.compile(name, text, &Root::Bundled)?;
    if !script.has_function("run", 1) {
        let mut error = ScriptError::new(Cause::Script, "the plan does not define run(p)");
        error.hint = Some("write what the machine is to do into fn run(p) { … }".into());
        return Err(error);
    }
    // one run of one script, so that its statements outside functions happen once
    engine.run(&engine.compile(name, &format!("{text}\nrun(PLAN)"), &Root::Bundled)?, &[], cancel)
}

#[cfg(test)]
mod tests;
