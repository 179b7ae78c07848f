//! The common parts of all pages: navigation, the notice of a form, times in the operator's time
//! zone.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use jiff::tz::TimeZone;

use super::notice::{Notice, Notices};
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;
use crate::http::state::service_group;
use crate::services::access::{Access, Principal};
use crate::services::auth::Scope;
use crate::services::cache_control::CacheControl;
use crate::services::event_log::EventLog;
use crate::services::jobs::Jobs;
use crate::services::server_health::ServerHealth;
use crate::services::snapshot::Snapshots;

/// The common parts of a page, around its content. Handlers of guarded pages extract it from the
/// request.
pub struct Frame {
    /// The viewer of the page; `None` without a login.
    pub principal: Option<Principal>,
    /// The CSRF token that forms send back.
    pub csrf: String,
    /// True if no password is set, so that everybody has the admin's rights.
    pub is_open: bool,
    /// True for a page that only principals may see.
    pub is_inside: bool,
    /// Path prefix of the server as seen by browsers, without a trailing slash. All links begin
    /// with it.
    pub root: String,
    /// Path of the start page.
    pub home: &'static str,
    /// The entries of the navigation: names and paths.
    pub nav: Vec<(&'static str, &'static str)>,
    /// Path of this page.
    pub path: String,
    /// The result of a form, with its id.
    pub notice: Option<(String, Arc<Notice>)>,
    /// Number of unacknowledged failures.
    pub failures: i64,
    /// Why the state cannot be changed at present; `None` if it can.
    pub shortage: Option<String>,
    /// Number of the newest event.
    pub newest: i64,
    /// Number of running jobs.
    pub jobs: usize,
    /// The time that relative times on the page refer to.
    pub now: Time,
    zone: TimeZone,
}

/// Creates the frames of pages.
#[derive(Clone)]
pub struct Frames {
    config: Arc<Config>,
    access: Access,
    snapshots: Arc<Snapshots>,
    events: EventLog,
    health: ServerHealth,
    jobs: Jobs,
    cache: CacheControl,
}

service_group!(Frames { config, access, snapshots, events, health, jobs, cache });

impl Frames {
    /// Creates the frame of the page at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
    pub async fn page(
        &self,
        principal: Option<&Principal>,
        path: &str,
        notice: Option<(String, Arc<Notice>)>,
    ) -> Result<Frame> {
        let (failures, newest) = self.events.failures_and_newest().await?;
        Ok(Frame {
            csrf: principal.map(Principal::csrf).unwrap_or_default().to_owned(),
            is_inside: principal.is_some(),
            nav: self.nav(principal),
            path: path.to_owned(),
            notice,
            failures,
            shortage: self.health.shortage(),
            newest,
            jobs: self.jobs.list(None).iter().filter(|job| !job.status.is_over()).count(),
            principal: principal.cloned(),
            ..self.outside()
        })
    }

    /// Creates the frame for a browser without a session. It reveals nothing of the state.
    #[must_use]
    pub fn outside(&self) -> Frame {
        Frame {
            principal: None,
            csrf: String::new(),
            is_open: self.access.auth().is_open(),
            is_inside: false,
            root: self.config.root(),
            home: home(&self.config),
            nav: Vec::new(),
            path: String::new(),
            notice: None,
            failures: 0,
            shortage: None,
            newest: 0,
            jobs: 0,
            now: Time::now(),
            zone: self.snapshots.current().zone.clone(),
        }
    }

    /// Creates the frame, with navigation, of a page that needs no login.
    #[must_use]
    pub fn public(&self, path: &str) -> Frame {
        Frame { nav: self.nav(None), path: path.to_owned(), is_open: false, ..self.outside() }
    }

    /// Returns the pages that `principal` may see; all of them without one.
    fn nav(&self, principal: Option<&Principal>) -> Vec<(&'static str, &'static str)> {
        let is_server = !self.config.is_cache_only;
        let is_admin = principal.is_none_or(|principal| principal.has(Scope::Admin));
        let pages = [
            (is_server, ("Dashboard", "/ui/dashboard")),
            (is_server, ("Machines", "/ui/machines")),
            (is_server, ("Plans", "/ui/plans")),
            (is_server, ("Images", "/ui/images")),
            (is_server, ("Netboot", "/ui/netboot")),
            (self.cache.has_host(), ("Cache", "/ui/cache")),
            (true, ("Events", "/ui/events")),
            (is_server, ("Backups", "/ui/backups")),
            (is_server, ("Settings", "/ui/settings")),
            (is_admin, ("Account", "/ui/account")),
            (self.config.has_site(), ("Documentation", "/docs/")),
            (true, ("API", "/docs/api")),
        ];
        pages.into_iter().filter(|(is_there, _)| *is_there).map(|(_, page)| page).collect()
    }
}

/// Returns the path of the page that people see after login.
#[must_use]
pub fn home(config: &Config) -> &'static str {
    if config.is_cache_only { "/ui/cache" } else { "/ui/dashboard" }
}

impl Frame {
    /// Returns the name of the person who views the page.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.principal.as_ref()?.user().map(|user| user.name.as_str())
    }

    /// Returns the version of the program.
    #[must_use]
    pub fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// True if this page is at `path` or below it.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Formats a time in the operator's time zone.
    #[must_use]
    pub fn text(&self, time: Time) -> String {
        time.timestamp()
            .to_zoned_datetime(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string()
    }

    /// Formats a time as an HTML element: in the operator's time zone, and in UTC on hover; `never`
    /// without a time.
    #[must_use]
    pub fn time(&self, time: impl OptionalTime) -> String {
        let Some(time) = time.time() else { return "<span class=\"none\">never</span>".into() };
        format!("<time datetime=\"{time}\" title=\"{time}\">{}</time>", self.text(time))
    }

    /// Formats a time as an HTML element: relative, such as `3 h ago`, with the exact time on
    /// hover.
    #[must_use]
    pub fn ago(&self, time: impl OptionalTime) -> String {
        let Some(time) = time.time() else { return "<span class=\"none\">never</span>".into() };
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

/// An optional time, by value or by reference, because templates use all of these.
pub trait OptionalTime {
    /// Returns the time, if there is one.
    fn time(self) -> Option<Time>;
}

impl OptionalTime for Time {
    fn time(self) -> Option<Time> {
        Some(self)
    }
}

impl OptionalTime for Option<Time> {
    fn time(self) -> Option<Time> {
        self
    }
}

impl<T: OptionalTime + Copy> OptionalTime for &T {
    fn time(self) -> Option<Time> {
        (*self).time()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Frame
where
    Frames: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let notices = Notices::from_request_parts(parts, state).await?;
        let notice = notices.of_query(parts.uri.query().unwrap_or_default());
        let principal = parts.extensions.get::<Principal>();
        Frames::from_ref(state).page(principal, parts.uri.path(), notice).await
    }
}
