//! Plans: list, read, check, save, roll back, delete.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::NewEvent;
use crate::domain::machine::ClientContext;
use crate::domain::plan::evaluate::{DecisionContext, PlanEvaluator};
use crate::domain::plan::{self, Examined, Plan, PlanSummary, bundled, examine, rehearse};
use crate::domain::time::Time;
use crate::services::access::Principal;
use crate::services::machines::Machines;
use crate::services::snapshot::{Snapshot, Snapshots};
use crate::store::{self, Database};

pub use crate::store::plans::Revision;

/// Reads and changes plans.
#[derive(Clone)]
pub struct PlanEdits {
    db: Database,
    snapshots: Arc<Snapshots>,
    machines: Arc<Machines>,
}

impl PlanEdits {
    pub(crate) fn new(db: Database, snapshots: Arc<Snapshots>, machines: Arc<Machines>) -> Self {
        Self { db, snapshots, machines }
    }

    /// Returns all plans: bundled ones first, then those of operators, by name.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn list(&self) -> Result<Vec<PlanSummary>> {
        let counts = self.db.read(store::machines::count_by_plan).await?;
        let snapshot = self.snapshots.current();
        let mut own: Vec<&Plan> = snapshot.plans.values().map(Arc::as_ref).collect();
        own.sort_by(|a, b| a.name.cmp(&b.name));
        let all = bundled::all().iter().chain(own).map(|plan| PlanSummary {
            name: plan.name.clone(),
            title: plan.title().to_owned(),
            revision: plan.revision,
            is_bundled: plan.is_bundled,
            machines: counts.iter().find(|(name, _)| *name == plan.name).map_or(0, |(_, n)| *n),
        });
        Ok(all.collect())
    }

    /// Returns the plan `name` at `revision`, or at the newest one. Bundled plans have revision 0.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such plan or revision.
    pub async fn get(&self, name: &str, revision: Option<i64>) -> Result<Plan> {
        let found = match revision {
            None => self.snapshots.current().plan(name).cloned(),
            Some(0) => bundled::find(name).cloned(),
            Some(revision) => {
                let name = name.to_owned();
                self.db.read(move |conn| store::plans::revision(conn, &name, revision)).await?
            }
        };
        found.ok_or_else(|| unknown_plan(name))
    }

    /// Returns the number of machines assigned to the plan `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn count_machines(&self, name: &str) -> Result<i64> {
        let counts = self.db.read(store::machines::count_by_plan).await?;
        Ok(counts.into_iter().find(|(plan, _)| plan == name).map_or(0, |(_, machines)| machines))
    }

    /// Returns the revisions of a plan, newest first. Deleted plans keep theirs.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there has never been such a plan.
    pub async fn revisions(&self, name: &str) -> Result<Vec<Revision>> {
        let wanted = name.to_owned();
        let found = self.db.read(move |conn| store::plans::revisions(conn, &wanted)).await?;
        if found.is_empty() && bundled::find(name).is_none() {
            return Err(unknown_plan(name));
        }
        Ok(found)
    }

    /// Returns the differences between two revisions as a unified diff.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when one of the revisions does not exist.
    pub async fn diff(&self, name: &str, from: i64, to: i64) -> Result<String> {
        let before = self.get(name, Some(from)).await?;
        let after = self.get(name, Some(to)).await?;
        Ok(plan::diff::lines(&before.source, &after.source))
    }

    /// Checks a script without saving it.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the check panics.
    pub async fn check(&self, source: &str) -> Result<PlanCheck> {
        let (examined, problems) = self.examine("plan", source).await?;
        Ok(PlanCheck { problems, declared: examined.declared })
    }

    /// Examines a script, and rehearses it if it has no errors. Returns all problems.
    async fn examine(&self, name: &str, source: &str) -> Result<(Examined, Vec<Problem>)> {
        let (name, source) = (name.to_owned(), source.to_owned());
        let (snapshot, evaluator) = (self.snapshots.current(), self.machines.evaluator());
        let work = move || {
            let examined = examine(&name, &source);
            let mut found = problems(&examined);
            if found.is_empty() {
                let plan = Plan {
                    name,
                    revision: 0,
                    source,
                    declared: examined.declared.clone(),
                    is_bundled: false,
                    saved_at: None,
                    note: String::new(),
                };
                found = rehearsal_problems(&plan, &snapshot, &*evaluator);
            }
            (examined, found)
        };
        blocking(work).await
    }

    /// Saves a script as the newest revision of the plan `name`.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when the name, the note or the script is invalid.
    /// - [`ErrorKind::Conflict`] when the plan is bundled, or was saved since `base_revision`.
    pub async fn put(
        &self,
        who: &ClientContext,
        principal: &Principal,
        name: &str,
        script: PlanScript,
    ) -> Result<Plan> {
        self.save(who, principal, name, script, "plan.saved").await
    }

    /// Saves an earlier revision as the newest one.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when there is no such revision.
    /// - The errors of [`put`](Self::put).
    pub async fn roll_back(
        &self,
        who: &ClientContext,
        principal: &Principal,
        name: &str,
        revision: i64,
    ) -> Result<Plan> {
        let earlier = self.get(name, Some(revision)).await?;
        let note = format!("rolled back to revision {revision}");
        let script = PlanScript { source: earlier.source, note, base_revision: None };
        self.save(who, principal, name, script, "plan.rolled_back").await
    }

    async fn save(
        &self,
        who: &ClientContext,
        principal: &Principal,
        name: &str,
        script: PlanScript,
        event_kind: &'static str,
    ) -> Result<Plan> {
        plan::check_name(name).map_err(Error::invalid)?;
        if bundled::find(name).is_some() {
            let detail =
                format!("{name} is bundled and cannot be changed; save it under another name");
            return Err(Error::new(ErrorKind::Conflict, detail));
        }
        if script.note.chars().count() > NOTE_CHARS_MAX || script.note.chars().any(char::is_control)
        {
            return Err(Error::invalid(format!(
                "note must be one line of at most {NOTE_CHARS_MAX} characters"
            )));
        }
        let (examined, found) = self.examine(name, &script.source).await?;
        if !found.is_empty() {
            return Err(
                Error::invalid("the plan was not saved: it has errors").with_problems(found)
            );
        }
        let (name, saved_by) = (name.to_owned(), principal.name());
        let (author, now) = (who.author(), who.now);
        let saved = self
            .db
            .write(move |transaction| {
                let newest = store::plans::newest(transaction, &name)?;
                let current = newest
                    .filter(|(_, is_deleted)| !is_deleted)
                    .map_or(0, |(revision, _)| revision);
                if script.base_revision.is_some_and(|base| base != current) {
                    let detail = format!(
                        "{name} has been saved in the meantime, as revision {current}; reload it"
                    );
                    return Err(Error::new(ErrorKind::Conflict, detail));
                }
                let plan = Plan {
                    revision: newest.map_or(0, |(revision, _)| revision) + 1,
                    source: script.source,
                    declared: examined.declared,
                    is_bundled: false,
                    saved_at: Some(now),
                    note: script.note,
                    name,
                };
                store::plans::put(transaction, &plan, &saved_by, now)?;
                let kind = if plan.revision == 1 { "plan.created" } else { event_kind };
                let event = NewEvent::new(
                    kind,
                    plan.name.clone(),
                    format!("saved {} as revision {}", plan.name, plan.revision),
                );
                let details =
                    json!({ "revision": plan.revision, "note": plan.note, "saved_by": saved_by });
                transaction.record(&event.caused_by(&author).with(details))?;
                Ok(plan)
            })
            .await?;
        self.snapshots.refresh().await?;
        Ok(saved)
    }

    /// Deletes a plan that is assigned to no machine. Its revisions remain.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when there is no such plan.
    /// - [`ErrorKind::Conflict`] when it is bundled, is the plan for unknown machines, or is
    ///   assigned to a machine.
    pub async fn delete(&self, who: &ClientContext, name: String) -> Result<()> {
        let conflict = |detail: String| Err(Error::new(ErrorKind::Conflict, detail));
        if bundled::find(&name).is_some() {
            return conflict(format!("{name} is bundled and cannot be deleted"));
        }
        if self.snapshots.current().settings.get("plans.default") == name {
            return conflict(format!(
                "{name} is the plan for unknown machines; change plans.default first"
            ));
        }
        // no machine may be assigned to it meanwhile
        let _held = self.machines.lock_all().await;
        let (author, now) = (who.author(), who.now);
        self.db
            .write(move |transaction| {
                let bound = store::machines::count_by_plan(transaction)?
                    .into_iter()
                    .find(|(plan, _)| *plan == name);
                if let Some((_, machines)) = bound {
                    let detail = format!(
                        "{name} is assigned to machines ({machines}); assign them \
                         another plan first"
                    );
                    return Err(Error::new(ErrorKind::Conflict, detail));
                }
                if !store::plans::delete(transaction, &name, now)? {
                    return Err(unknown_plan(&name));
                }
                let event = NewEvent::new("plan.deleted", name.clone(), format!("deleted {name}"));
                transaction.record(&event.caused_by(&author)).map(drop)
            })
            .await?;
        self.snapshots.refresh().await
    }
}

const NAME_CHARS_SHOWN: usize = 64;

/// A script to check or to save as a plan.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanScript {
    /// The script.
    pub source: String,
    /// Description of the change for the list of revisions: one line.
    #[serde(default)]
    pub note: String,
    /// The revision on which the edit is based; 409 if a newer one exists. Zero for a new plan.
    #[serde(default)]
    pub base_revision: Option<i64>,
}

/// The result of checking a script.
#[derive(Serialize, utoipa::ToSchema)]
pub struct PlanCheck {
    /// Errors; a script that has any cannot be saved.
    pub problems: Vec<Problem>,
    /// Parameters and needs that the script declares.
    pub declared: plan::Declared,
}

const NOTE_CHARS_MAX: usize = 500;

fn unknown_plan(name: &str) -> Error {
    let shown: String = name.chars().take(NAME_CHARS_SHOWN).collect();
    Error::not_found(format!("the plan {shown}"))
}

/// Returns what is wrong with the decisions of `plan` about a described machine.
fn rehearsal_problems(
    plan: &Plan,
    snapshot: &Snapshot,
    evaluator: &PlanEvaluator<'_>,
) -> Vec<Problem> {
    // a catalog that cannot be extended is one that another check reports
    let Ok(catalog) = rehearse::catalog(&snapshot.catalog) else { return Vec::new() };
    let context = DecisionContext { catalog: &catalog, ..snapshot.context(Some(plan), evaluator) };
    let client =
        ClientContext { now: Time::now(), base: "http://server".into(), ..Default::default() };
    let problem = |message| Problem {
        hint: Some(
            "the check evaluates boot(m) and plan(m) for a machine with an image and a disk; a \
             flash is #{ image: m.image(), disk: m.target_disk() }"
                .into(),
        ),
        ..Problem::new("script", message)
    };
    rehearse::rehearse(&context, &client).into_iter().map(problem).collect()
}

/// Returns the findings of a check, each with its line.
pub(super) fn problems(examined: &plan::Examined) -> Vec<Problem> {
    let problem = |finding: &bty_script::check::Finding| {
        let at = finding
            .place
            .as_ref()
            .map_or_else(|| "script".to_owned(), |p| format!("line {}:{}", p.line, p.column));
        Problem { at, message: finding.message.clone(), hint: finding.hint.clone() }
    };
    examined.findings.iter().map(problem).collect()
}
