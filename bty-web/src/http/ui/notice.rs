//! What is told after a form, and how what it did is undone.
//!
//! A form answers with a redirect, so that loading a page again repeats nothing; what is told waits
//! here meanwhile, in memory. What was done can be undone for as long as nothing has happened since
//! that rests on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::form::Fields;
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::time::Time;
use crate::http::api;
use crate::http::extract::Json;
use crate::http::guard;
use crate::random::random_token;
use crate::services::app::App;
use crate::store::{self, catalog::Stored};

/// As many notices wait.
const NOTICES_MAX: usize = 256;

/// What is told.
#[derive(Debug, Default)]
pub struct Notice {
    /// One sentence.
    pub text: String,
    /// It did not work.
    pub is_wrong: bool,
    /// All that is wrong.
    pub problems: Vec<Problem>,
    /// A secret that is shown this once.
    pub secret: Option<String>,
    /// How it is undone.
    pub undo: Option<Undo>,
}

impl Notice {
    /// It worked.
    #[must_use]
    pub fn done(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// It can be undone so.
    #[must_use]
    pub fn or(mut self, undo: Undo) -> Self {
        self.undo = Some(undo);
        self
    }
}

impl From<Error> for Notice {
    fn from(error: Error) -> Self {
        let Error { detail, problems, .. } = error;
        Self { text: detail, is_wrong: true, problems, ..Self::default() }
    }
}

/// How something is undone.
#[derive(Clone, Debug)]
pub enum Undo {
    /// A machine becomes as it was, if it is still as it was left.
    Machine {
        /// Its address.
        mac: Mac,
        /// As it was; none when it was not known.
        before: Option<Box<Machine>>,
        /// Its hardware, when it was deleted.
        lshw: Option<(String, Time)>,
        /// As it was left; none when it was deleted.
        after: Option<Box<Machine>>,
    },
    /// An entry of the catalog comes back.
    Image(Box<Stored>),
    /// Settings are set to these.
    Settings(Vec<(String, String)>),
    /// A plan gets the source of an earlier revision again, or is deleted when there was none.
    Plan {
        /// Its name.
        name: String,
        /// The revision.
        revision: i64,
    },
    /// Events are acknowledged, or not.
    Acknowledged {
        /// Which.
        ids: Vec<i64>,
        /// What they become.
        acknowledged: bool,
    },
}

/// What waits to be told.
#[derive(Default)]
pub struct Notices(Mutex<VecDeque<(String, Arc<Notice>)>>);

impl Notices {
    /// Keeps a notice; gives what it is found by.
    pub fn keep(&self, notice: Notice) -> String {
        let id = random_token();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= NOTICES_MAX {
            kept.pop_front();
        }
        kept.push_back((id.clone(), Arc::new(notice)));
        id
    }

    /// Finds a notice.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Notice>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == id).map(|(_, notice)| Arc::clone(notice))
    }

    /// Takes a notice away.
    fn take(&self, id: &str) -> Option<Arc<Notice>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == id)?;
        kept.remove(at).map(|(_, notice)| notice)
    }
}

/// Leads to the page `to`, which tells `notice`.
#[must_use]
pub fn redirect_with_notice(app: &App, to: &str, notice: impl Into<Notice>) -> Response {
    let id = app.notices.keep(notice.into());
    let (to, fragment) = to.split_once('#').unwrap_or((to, ""));
    let (path, query) = to.split_once('?').unwrap_or((to, ""));
    let mut kept = url::form_urlencoded::Serializer::new(String::new());
    kept.extend_pairs(
        url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "told"),
    );
    let query = kept.append_pair("told", &id).finish();
    let fragment = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
    Redirect::to(&format!("{path}?{query}{fragment}")).into_response()
}

/// Leads to the page `to`, which tells what came of a form.
#[must_use]
pub fn redirect_with_result(app: &App, to: &str, result: Result<Notice>) -> Response {
    redirect_with_notice(app, to, result.unwrap_or_else(Notice::from))
}

/// Undoes what a notice has told of.
pub async fn undo(
    State(app): State<Arc<App>>,
    who: ClientContext,
    by: guard::Principal,
    fields: Fields,
) -> Response {
    let back = fields.back("/ui/dashboard").to_owned();
    let notice = app.notices.take(fields.text("id"));
    let Some(undo) = notice.and_then(|notice| notice.undo.clone()) else {
        let error = Error::new(
            ErrorKind::Conflict,
            "this can no longer be undone: it was long ago, or is undone",
        );
        return redirect_with_notice(&app, &back, error);
    };
    let undone = match undo {
        Undo::Machine { mac, before, lshw, after } => {
            machine(&app, &who, mac, before.map(|m| *m), lshw, after.map(|m| *m)).await
        }
        Undo::Image(stored) => image(&app, &who, *stored).await,
        Undo::Settings(values) => {
            let values = values.into_iter().map(|(key, value)| (key, value.into())).collect();
            api::settings::put(State(Arc::clone(&app)), who, Json(values)).await.map(drop)
        }
        Undo::Plan { name, revision } => plan(&app, who, by, name, revision).await,
        Undo::Acknowledged { ids, acknowledged } => {
            app.db
                .write(move |t| store::events::acknowledge_all(t, &ids, acknowledged).map(drop))
                .await
        }
    };
    redirect_with_result(&app, &back, undone.map(|()| Notice::done("It is undone.")))
}

/// Only what nothing has happened to since: a machine that has booted meanwhile has done as it was
/// told.
async fn machine(
    app: &Arc<App>,
    who: &ClientContext,
    mac: Mac,
    before: Option<Machine>,
    lshw: Option<(String, Time)>,
    after: Option<Machine>,
) -> Result<()> {
    let Some(before) = before else {
        let after = after.ok_or_else(|| Error::internal("an undo without a machine"))?;
        return delete_unchanged(app, who, mac, after).await;
    };
    let (ip, of) = (who.ip.clone(), mac.clone());
    let decide = move |look: &crate::services::app::MachineView<'_>| {
        if !is_same(look.machine.as_ref(), after.as_ref()) {
            return Err(changed(&of));
        }
        let event = NewEvent::new(
            "machine.upserted",
            of.as_str(),
            format!("{of}: what was done last is undone"),
        );
        let details = json!({ "boot_mode": before.plan, "bty_image_ref": before.image_ref, "target_disk_serial": before.target_serial, "is_undo": true });
        let events = vec![event.by(Actor::Operator, ip.as_deref()).with(details)];
        Ok(Outcome { machine: before, events, answer: () })
    };
    let hardware = mac.clone();
    let also = move |conn: &crate::store::Connection, _: bool| match &lshw {
        Some((text, at)) => store::machines::put_lshw(conn, &hardware, text, *at),
        None => Ok(()),
    };
    app.update_machine(&mac, decide, also).await.map(drop)
}

fn changed(mac: &Mac) -> Error {
    Error::new(ErrorKind::Conflict, format!("{mac} has changed since: it cannot be undone"))
}

/// When it was heard of does not count.
fn is_same(now: Option<&Machine>, left: Option<&Machine>) -> bool {
    let plain =
        |machine: &Machine| Machine { last_seen_at: None, last_seen_ip: None, ..machine.clone() };
    now.map(plain) == left.map(plain)
}

async fn delete_unchanged(
    app: &Arc<App>,
    who: &ClientContext,
    mac: Mac,
    left: Machine,
) -> Result<()> {
    let wanted = mac.clone();
    let now = app.db.read(move |conn| store::machines::get(conn, &wanted)).await?;
    if !is_same(now.as_ref(), Some(&left)) {
        return Err(changed(&mac));
    }
    let path = crate::http::extract::PathText(mac.to_string());
    api::machines::delete(State(Arc::clone(app)), path, who.clone()).await.map(drop)
}

async fn image(app: &Arc<App>, who: &ClientContext, stored: Stored) -> Result<()> {
    let ip = who.ip.clone();
    app.db
        .write(move |transaction| {
            if let Some((_, false)) = store::catalog::by_src(transaction, &stored.src)? {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("{} is there again already", stored.src),
                ));
            }
            if store::catalog::is_name_taken(transaction, &stored.name, &stored.src)? {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("another entry is called {} now", stored.name),
                ));
            }
            store::catalog::put(transaction, &stored)?;
            let event = NewEvent::new(
                "catalog.entry.added",
                stored.src.clone(),
                format!("{} is back", stored.name),
            );
            transaction
                .record(&event.by(Actor::Operator, ip.as_deref()).with(json!({ "is_undo": true })))
                .map(drop)
        })
        .await?;
    app.refresh().await
}

async fn plan(
    app: &Arc<App>,
    who: ClientContext,
    by: guard::Principal,
    name: String,
    revision: i64,
) -> Result<()> {
    let (state, path) = (State(Arc::clone(app)), crate::http::extract::PathText(name));
    if revision == 0 {
        return api::plans::delete(state, path, who).await.map(drop);
    }
    let back = api::plans::Back { revision };
    api::plans::roll_back(state, path, who, by, Json(back)).await.map(drop)
}
