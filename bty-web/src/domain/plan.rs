//! Plans: scripts that decide what a machine does at its next network boot.
//!
//! A plan defines `boot(m)`, and optionally `plan(m)`, `on(m, event)` and `declare()` for the
//! server and `run(p)` for the machine. Nine plans are bundled; the database keeps the revisions of
//! operators' plans. The server refuses to save a plan with problems ([`examine`]).

use bty_script::check::{self, Finding};
use bty_script::decide::{Decider, PlanCall};
use bty_script::{Engine, ImportRoot, Limits, ScriptContext};
use serde::{Deserialize, Serialize};

use crate::domain::time::Time;

pub mod bundled;
pub mod diff;
pub mod evaluate;
pub mod params;
pub mod rehearse;
pub mod render;
pub mod simulate;

pub use params::Declared;

/// One revision of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Plan {
    /// The name by which machines refer to it.
    pub name: String,
    /// Its revision number; zero for bundled plans.
    pub revision: i64,
    /// The script.
    pub source: String,
    /// The value of `declare()`.
    pub declared: Declared,
    /// True for bundled plans, which cannot be changed.
    pub is_bundled: bool,
    /// When this revision was saved.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub saved_at: Option<Time>,
    /// The note of the person who saved it.
    pub note: String,
}

impl Plan {
    /// False only for bundled plans that declare no need and run nothing on the machine. A
    /// simulation cannot rule out that an operator's script writes at some later time.
    #[must_use]
    pub fn may_write(&self) -> bool {
        !self.is_bundled || self.declared.runs || !self.declared.needs.is_empty()
    }

    /// Returns the first line of the documentation comment.
    #[must_use]
    pub fn title(&self) -> &str {
        let first = self.source.lines().find_map(|line| line.trim().strip_prefix("//!"));
        first.map_or("", str::trim)
    }
}

/// The result of examining a script.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The value of `declare()`.
    pub declared: Declared,
    /// Problems; a script with problems cannot be saved as a plan.
    pub findings: Vec<Finding>,
}

/// Maximum size of a script in bytes.
pub const SOURCE_BYTES_MAX: usize = 256 << 10;

const NAME_RULE: &str = "the name of a plan must consist of at most 64 of a-z, 0-9, -, . and _, \
                         and begin with a letter or digit";

/// Checks the name of a plan, which becomes part of URLs.
///
/// # Errors
/// The rule that `name` violates, as one sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    match name.chars().next() {
        Some(first)
            if first.is_ascii_alphanumeric() && name.chars().all(is_plain) && name.len() <= 64 =>
        {
            Ok(())
        }
        _ => Err(NAME_RULE.into()),
    }
}

/// Compiles and lints a script, and evaluates its `declare()`.
#[must_use]
pub fn examine(name: &str, source: &str) -> Examined {
    let mut found = Examined::default();
    let mut wrong = |message: String, hint: Option<&str>| {
        found.findings.push(Finding::new(message, hint.map(str::to_owned)));
    };
    if source.len() > SOURCE_BYTES_MAX {
        wrong(format!("the script is larger than {} KiB", SOURCE_BYTES_MAX >> 10), None);
        return found;
    }
    let decider = Decider::new(Engine::new(ScriptContext::compute_only(), Limits::server()));
    let file = format!("{name}.rhai");
    let script = match decider.engine().compile(&file, source, &ImportRoot::None) {
        Ok(script) => script,
        Err(error) => {
            found.findings.push(error.into());
            return found;
        }
    };
    if !script.has_function_named("boot") {
        wrong("boot(m) is not defined".into(), Some("fn boot(m) { boot_disk() }"));
    }
    for (function, arity) in [("boot", 1), ("plan", 1), ("on", 2), ("run", 1), ("declare", 0)] {
        if script.has_function_named(function) && !script.has_function(function, arity) {
            wrong(format!("wrong number of parameters of {function}; expected {arity}"), None);
        }
    }
    found.findings.extend(check::check(decider.engine(), &script));
    found.declared.runs = script.has_function("run", 1);
    if !found.findings.is_empty() {
        return found;
    }
    let question = PlanCall {
        name: &file,
        text: source,
        function: "declare",
        machine: None,
        args: Vec::new(),
        catalog: "",
    };
    match decider.decide(&question) {
        Ok(decision) if !decision.is_defined => {}
        Ok(decision) => match Declared::parse(&decision.value) {
            Ok(declared) => found.declared = Declared { runs: found.declared.runs, ..declared },
            Err(problems) => {
                found.findings.extend(
                    problems.into_iter().map(|p| Finding::new(format!("declare(): {p}"), None)),
                );
            }
        },
        Err(error) => found.findings.push(error.into()),
    }
    found
}

/// A plan in a list.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanSummary {
    /// Its name.
    pub name: String,
    /// The first line of its documentation comment.
    pub title: String,
    /// Number of its newest revision; zero for bundled plans.
    pub revision: i64,
    /// True for bundled plans.
    pub is_bundled: bool,
    /// Number of machines assigned to this plan.
    pub machines: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_of_parameters_is_one_finding() {
        for (source, function) in [
            ("fn boot() { boot_disk() }", "boot"),
            ("fn boot(a, b, c, d, e) { boot_disk() }", "boot"),
            ("fn boot(m) { boot_disk() } fn on(m) { }", "on"),
        ] {
            let messages: Vec<_> =
                examine("p", source).findings.into_iter().map(|found| found.message).collect();
            assert_eq!(messages.len(), 1, "{source}: {messages:?}");
            assert!(messages[0].contains(&format!("of {function};")), "{source}: {messages:?}");
        }
        let findings = examine("p", "fn plan(m) { }").findings;
        assert!(findings.iter().any(|found| found.message.contains("boot(m) is not defined")));
    }
}
