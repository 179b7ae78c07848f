//! What every page has.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use jiff::tz::TimeZone;

use super::notice::Notice;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;
use crate::http::guard;
use crate::services::app::App;
use crate::store;

/// What every page needs. Handlers of guarded pages take it from the request.
pub struct Frame {
    /// Who looks at it; `None` for who is not logged in.
    pub principal: Option<guard::Principal>,
    /// What forms carry against other sites.
    pub csrf: String,
    /// No password is set: everybody is the admin.
    pub is_open: bool,
    /// Somebody is logged in.
    pub is_inside: bool,
    /// The path below which browsers reach the server, without a slash at the end: links of pages
    /// begin with it.
    pub root: String,
    /// The page that people begin with.
    pub home: &'static str,
    /// Pages, by name and path.
    pub nav: Vec<(&'static str, &'static str)>,
    /// The path of this page.
    pub path: String,
    /// What came of the form before.
    pub notice: Option<(String, Arc<Notice>)>,
    /// Failures that nobody has acknowledged.
    pub failures: i64,
    /// Why the state cannot be changed at present.
    pub shortage: Option<String>,
    /// Number of the newest event.
    pub newest: i64,
    /// Jobs that are under way.
    pub jobs: usize,
    /// When it was made.
    pub now: Time,
    zone: TimeZone,
}

impl Frame {
    /// The frame of the page at `path` for `who`, with the notice `told`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(
        app: &App,
        who: Option<&guard::Principal>,
        path: &str,
        told: Option<&str>,
    ) -> Result<Self> {
        let (failures, newest) = app
            .db
            .read(|conn| Ok((store::events::tripwire(conn)?, store::events::newest(conn)?)))
            .await?;
        Ok(Self {
            csrf: who.map(guard::Principal::csrf).unwrap_or_default().to_owned(),
            is_inside: who.is_some(),
            nav: nav(app),
            path: path.to_owned(),
            notice: told.and_then(|id| Some((id.to_owned(), app.notices.find(id)?))),
            failures,
            shortage: app.shortage(),
            newest,
            jobs: app.jobs.list(None).iter().filter(|job| !job.status.is_over()).count(),
            principal: who.cloned(),
            ..Self::outside(app)
        })
    }

    /// For who is not logged in: it tells nothing.
    #[must_use]
    pub fn outside(app: &App) -> Self {
        Self {
            principal: None,
            csrf: String::new(),
            is_open: app.auth.is_open(),
            is_inside: false,
            root: app.config.root(),
            home: app.home(),
            nav: Vec::new(),
            path: String::new(),
            notice: None,
            failures: 0,
            shortage: None,
            newest: 0,
            jobs: 0,
            now: Time::now(),
            zone: app.snapshot().zone.clone(),
        }
    }

    /// For who may look at a page without being logged in.
    #[must_use]
    pub fn public(app: &App, path: &str) -> Self {
        Self { nav: nav(app), path: path.to_owned(), is_open: false, ..Self::outside(app) }
    }

    /// The version of the program.
    #[must_use]
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// True on the page `path`, and on those below it.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// A moment in the operator's zone.
    #[must_use]
    pub fn text(&self, time: Time) -> String {
        time.timestamp()
            .to_zoned_datetime(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string()
    }

    /// A moment as an element: in the operator's zone, and exactly.
    #[must_use]
    pub fn time(&self, time: impl Moment) -> String {
        let Some(time) = time.moment() else { return "<span class=\"none\">never</span>".into() };
        format!("<time datetime=\"{time}\" title=\"{time}\">{}</time>", self.text(time))
    }

    /// How long ago: `12 s ago`, `3 h ago`.
    #[must_use]
    pub fn ago(&self, time: impl Moment) -> String {
        let Some(time) = time.moment() else { return "<span class=\"none\">never</span>".into() };
        let seconds = self.now.ms_since(time).max(0) / 1000;
        let text = match seconds {
            0..=119 => format!("{seconds} s"),
            120..=7199 => format!("{} min", seconds / 60),
            7200..=172_799 => format!("{} h", seconds / 3600),
            _ => format!("{} days", seconds / 86400),
        };
        format!("<time datetime=\"{time}\" title=\"{}\">{text} ago</time>", self.text(time))
    }
}

/// A moment that templates have, however they hold it.
pub trait Moment {
    /// The moment, if there is one.
    fn moment(self) -> Option<Time>;
}

impl Moment for Time {
    fn moment(self) -> Option<Time> {
        Some(self)
    }
}

impl Moment for Option<Time> {
    fn moment(self) -> Option<Time> {
        self
    }
}

impl<T: Moment + Copy> Moment for &T {
    fn moment(self) -> Option<Time> {
        (*self).moment()
    }
}

fn nav(app: &App) -> Vec<(&'static str, &'static str)> {
    let is_server = !app.config.is_cache_only;
    let pages = [
        (is_server, ("Dashboard", "/ui/dashboard")),
        (is_server, ("Machines", "/ui/machines")),
        (is_server, ("Plans", "/ui/plans")),
        (is_server, ("Images", "/ui/images")),
        (is_server, ("Netboot", "/ui/netboot")),
        (app.cache.is_some(), ("Cache", "/ui/cache")),
        (true, ("Events", "/ui/events")),
        (is_server, ("Backups", "/ui/backups")),
        (is_server, ("Settings", "/ui/settings")),
        (true, ("Account", "/ui/account")),
        (app.config.has_site(), ("Documentation", "/docs/")),
        (true, ("API", "/docs/api")),
    ];
    pages.into_iter().filter(|(is_there, _)| *is_there).map(|(_, page)| page).collect()
}

/// The notice of a query.
fn told(query: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "told")
        .map(|(_, id)| id.into_owned())
}

impl FromRequestParts<Arc<App>> for Frame {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let who = parts.extensions.get::<guard::Principal>();
        Self::of(app, who, parts.uri.path(), told(parts.uri.query().unwrap_or_default()).as_deref())
            .await
    }
}
