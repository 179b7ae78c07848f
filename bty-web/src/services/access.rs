//! Access control: principals, browser sessions of users, and API tokens of programs.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, Author, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::time::Time;
use crate::domain::user::{self, ADMIN, User};
use crate::services::auth::{
    Auth, PASSWORD_CHARS_MIN, SESSION_MS, Scope, digest, hash_password, secret,
};
use crate::services::event_log::EventLog;
use crate::store::Database;
use crate::store::{access, users};

pub use crate::store::access::{ApiToken, OpenSession};

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Anybody: no password is set, so everybody has the admin's rights.
    Everybody,
    /// A browser with a session.
    Session {
        /// SHA-256 of the session's token.
        token_sha256: String,
        /// Token that its forms must send back, against forged requests.
        csrf: String,
        /// Who logged in.
        user: User,
    },
    /// A browser whose user a trusted proxy has logged in; only pages accept it.
    Proxied {
        /// Token that its forms must send back, against forged requests.
        csrf: String,
        /// Who logged in.
        user: User,
    },
    /// A program with an API token.
    Token {
        /// Name of the token.
        name: String,
        /// SHA-256 of the token.
        token_sha256: String,
        /// What it may do.
        scopes: Vec<String>,
    },
}

impl Principal {
    /// Returns the token that forms must send back; empty for all but browsers of users.
    #[must_use]
    pub fn csrf(&self) -> &str {
        match self {
            Self::Session { csrf, .. } | Self::Proxied { csrf, .. } => csrf,
            Self::Everybody | Self::Token { .. } => "",
        }
    }

    /// Returns the person; `None` for a program, and without a password.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        match self {
            Self::Session { user, .. } | Self::Proxied { user, .. } => Some(user),
            Self::Everybody | Self::Token { .. } => None,
        }
    }

    /// Returns the name in the audit log: that of the user, or `token` and the name of the token;
    /// `None` without a password.
    #[must_use]
    pub fn actor_name(&self) -> Option<String> {
        match self {
            Self::Token { name, .. } => Some(format!("token {name}")),
            _ => self.user().map(|user| user.name.clone()),
        }
    }

    /// Returns the author of a change, as shown in the revisions of plans.
    #[must_use]
    pub fn name(&self) -> String {
        self.actor_name().unwrap_or_else(|| "operator".into())
    }

    /// Returns a key that distinguishes principals, for limits per principal.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Everybody => "everybody".into(),
            Self::Proxied { user, .. } => format!("user {}", user.name),
            Self::Session { token_sha256, .. } | Self::Token { token_sha256, .. } => {
                token_sha256.clone()
            }
        }
    }

    /// True if this principal may do what `scope` allows.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        match self {
            Self::Everybody => true,
            Self::Token { scopes, .. } => scope.is_in(scopes),
            Self::Session { user, .. } | Self::Proxied { user, .. } => scope.is_of(user.role),
        }
    }

    /// Refuses a principal without `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when the scope is missing.
    pub fn require(&self, scope: Scope) -> Result<()> {
        if self.has(scope) {
            return Ok(());
        }
        let needs = scope.as_str();
        let why = match (self, self.user()) {
            (Self::Token { scopes, .. }, _) => {
                format!("the token lacks the scope {needs}; it has {}", scopes.join(", "))
            }
            (_, user) => {
                let (name, role) =
                    user.map_or(("", ""), |user| (user.name.as_str(), user.role.as_str()));
                format!(
                    "{name} has the role {role}, which lacks the scope {needs}; an administrator \
                     can change it with bty-web user role"
                )
            }
        };
        Err(Error::new(ErrorKind::Forbidden, why))
    }
}

/// Stands for a user that is not known, in the audit log and in the count of failed attempts.
const UNKNOWN: &str = "unknown user";

/// Minimum time between two updates of a token's `last_used_at`, in milliseconds.
const TOKEN_USE_MS: i64 = 60_000;

/// Checks who may use the server.
#[derive(Clone)]
pub struct Access {
    db: Database,
    auth: Arc<Auth>,
    events: EventLog,
}

impl Access {
    pub(crate) fn new(db: Database, auth: Arc<Auth>, events: EventLog) -> Self {
        Self { db, auth, events }
    }

    /// Returns the check of passwords, and the key of session cookies.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Returns the program that sends `token`.
    ///
    /// # Errors
    /// [`ErrorKind::LoginRequired`] when the token is unknown, revoked or expired.
    pub async fn authenticate_token(&self, token: &str) -> Result<Principal> {
        let (sha256, now) = (digest(token), Time::now());
        let token_sha256 = sha256.clone();
        let found = self.db.read(move |conn| access::token(conn, &sha256, now)).await?;
        let token = found.ok_or_else(|| {
            Error::new(ErrorKind::LoginRequired, "the token is unknown, revoked or expired")
        })?;
        if token.last_used_at.is_none_or(|last| now.ms_since(last) > TOKEN_USE_MS) {
            let id = token.id;
            self.db.write(move |transaction| access::use_token(transaction, id, now)).await?;
        }
        Ok(Principal::Token { name: token.name, token_sha256, scopes: token.scopes })
    }

    /// True while the session or token of `principal` is still valid. Long-lived streams check this
    /// before each message. The scopes of a token never change.
    pub async fn is_valid(&self, principal: &Principal) -> bool {
        let now = Time::now();
        let found = match principal.clone() {
            Principal::Everybody => Ok(true),
            Principal::Session { token_sha256, .. } => {
                self.db
                    .read(move |conn| Ok(access::session(conn, &token_sha256, now)?.is_some()))
                    .await
            }
            Principal::Proxied { user, .. } => {
                self.db.read(move |conn| Ok(users::get(conn, &user.name)?.is_some())).await
            }
            Principal::Token { token_sha256, .. } => {
                self.db
                    .read(move |conn| Ok(access::token(conn, &token_sha256, now)?.is_some()))
                    .await
            }
        };
        found.unwrap_or(false)
    }

    /// Returns the session that `token` belongs to, if it has not expired. Each use extends it.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn find_session(&self, token: &str) -> Result<Option<Principal>> {
        let (token_sha256, now) = (digest(token), Time::now());
        let sha256 = token_sha256.clone();
        let Some(session) = self.db.read(move |conn| access::session(conn, &sha256, now)).await?
        else {
            return Ok(None);
        };
        // one write per day is enough
        if session.expires_at.ms_since(now) < SESSION_MS - SESSION_MS / 7 {
            let sha256 = token_sha256.clone();
            self.db
                .write(move |t| access::extend_session(t, &sha256, now.plus_ms(SESSION_MS)))
                .await?;
        }
        Ok(Some(Principal::Session { token_sha256, csrf: session.csrf, user: session.user }))
    }

    /// Returns the user `name`, whom a trusted proxy has logged in.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] when there is no such user.
    pub async fn find_proxied(&self, name: &str) -> Result<Principal> {
        let known = name.to_owned();
        let stored = self.db.read(move |conn| users::get(conn, &known)).await?;
        let user = stored.map(|stored| stored.user).ok_or_else(|| {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            let why = format!(
                "the proxy has logged in {shown:?}, who is not a user of this server; an \
                 administrator can add this user with bty-web user add --no-password"
            );
            Error::new(ErrorKind::Forbidden, why)
        })?;
        Ok(Principal::Proxied { csrf: self.auth.proxied_csrf(&user.name), user })
    }

    /// Returns the user `name`, and whether `password` is right; `None` for an unknown user, whose
    /// attempt takes as long and counts as failed. No name, or `admin`, is the admin.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] after too many attempts, with the seconds to wait.
    async fn check_login(
        &self,
        ip: IpAddr,
        name: &str,
        password: String,
    ) -> (Option<User>, Result<bool>) {
        if user::is_admin(name) {
            return (Some(User::admin()), self.auth.check_password(ip, password).await);
        }
        let known = name.to_owned();
        let stored = match self.db.read(move |conn| users::get(conn, &known)).await {
            Ok(stored) => stored,
            Err(error) => return (None, Err(error)),
        };
        let (user, hash) = stored.map(|stored| (stored.user, stored.password_hash)).unzip();
        let hash = hash.flatten();
        let counted = user.as_ref().map_or(UNKNOWN, |user| &user.name);
        let is_right = self.auth.check_user(ip, counted, hash.as_deref(), password).await;
        (user, is_right)
    }

    /// Opens a session if `password` is that of the user `name`, and returns its token; `None` if
    /// the user is unknown or the password is wrong. No name, or `admin`, is the admin.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] after too many attempts, with the seconds to wait.
    pub async fn log_in(
        &self,
        who: &ClientContext,
        name: &str,
        password: String,
    ) -> Result<Option<String>> {
        let (user, is_right) = self.check_login(who.address(), name, password).await;
        // an unknown name is not recorded: it may be a password in the wrong field
        let subject = user.as_ref().map_or(UNKNOWN, |user| &user.name).to_owned();
        let record = async |kind, summary| {
            let event = NewEvent::new(kind, subject, summary);
            self.events.record(event.by(Actor::Operator, who.ip.as_deref())).await
        };
        match (user, is_right) {
            (Some(user), Ok(true)) => self.open_session(who, user).await.map(Some),
            (user, Ok(_)) => {
                let why = if user.is_some() { "wrong password" } else { "unknown user" };
                record("auth.login.failed", format!("login failed: {why}")).await?;
                Ok(None)
            }
            (_, Err(error)) => {
                if error.kind == ErrorKind::Throttled {
                    let summary = "login throttled: too many attempts".to_owned();
                    record("auth.login.throttled", summary).await?;
                }
                Err(error)
            }
        }
    }

    async fn open_session(&self, who: &ClientContext, user: User) -> Result<String> {
        let token = secret();
        let (sha256, now) = (digest(&token), who.now);
        let author = Author { name: Some(user.name.clone()), ..who.author() };
        let session = access::Session { csrf: secret(), expires_at: now.plus_ms(SESSION_MS), user };
        self.db
            .write(move |transaction| {
                access::put_session(transaction, &sha256, &session, now, author.ip.as_deref())?;
                let subject = session.user.name.as_str();
                let event = NewEvent::new("auth.login.succeeded", subject, "login succeeded");
                transaction.record(&event.caused_by(&author)).map(drop)
            })
            .await?;
        Ok(token)
    }

    /// Ends the session whose token has the digest `token_sha256`, on request of its browser.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::Internal`] when the change cannot be written.
    pub async fn log_out(&self, who: &ClientContext, token_sha256: String) -> Result<()> {
        let author = who.author();
        self.db
            .write(move |transaction| {
                access::end_sessions(transaction, Some(&token_sha256))?;
                let subject = author.name.as_deref().unwrap_or(ADMIN);
                let event = NewEvent::new("auth.logout", subject, "logged out");
                transaction.record(&event.caused_by(&author)).map(drop)
            })
            .await
    }

    /// Ends all sessions, or the one whose token has the digest `token_sha256`. Returns how many
    /// ended.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::Internal`] when the change cannot be written.
    pub async fn end_sessions(
        &self,
        who: &ClientContext,
        token_sha256: Option<String>,
    ) -> Result<usize> {
        let author = who.author();
        self.db
            .write(move |transaction| {
                let ended = access::end_sessions(transaction, token_sha256.as_deref())?;
                let event = NewEvent::new(
                    "auth.sessions.revoked",
                    "sessions",
                    format!("sessions ended: {ended}"),
                );
                transaction.record(&event.caused_by(&author))?;
                Ok(ended)
            })
            .await
    }

    /// Returns the open sessions.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn sessions(&self, now: Time) -> Result<Vec<OpenSession>> {
        self.db.read(move |conn| access::sessions(conn, now)).await
    }

    /// Returns all tokens, including revoked ones, without their secrets.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>> {
        self.db.read(access::tokens).await
    }

    /// Creates a token.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the name is empty, too long or has several lines, or if no scope
    /// is given.
    pub async fn create_token(&self, who: &ClientContext, new: NewToken) -> Result<CreatedToken> {
        let name = new.name.trim().to_owned();
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.chars().any(char::is_control)
        {
            return Err(Error::invalid(format!(
                "name must be one line of 1 to {NAME_CHARS_MAX} characters"
            )));
        }
        if new.scopes.is_empty() {
            let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            return Err(Error::invalid(format!(
                "scopes must be one or more of {}",
                all.join(", ")
            )));
        }
        let scopes: Vec<String> =
            new.scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let expires_at = new.days.map(|days| who.now.plus_ms(i64::from(days) * DAY_MS));
        let token = secret();
        let (sha256, author, now) = (digest(&token), who.author(), who.now);
        let id = self
            .db
            .write(move |transaction| {
                let id = access::put_token(transaction, &name, &sha256, &scopes, now, expires_at)?;
                let event = NewEvent::new(
                    "auth.token.created",
                    id.to_string(),
                    format!("token for {name} created"),
                );
                let details = json!({ "name": name, "scopes": scopes, "expires_at": expires_at });
                transaction.record(&event.caused_by(&author).with(details))?;
                Ok(id)
            })
            .await?;
        Ok(CreatedToken { id, token })
    }

    /// Revokes the token with the number `id`. Programs that use it are refused from now on.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when `id` is not a number.
    /// - [`ErrorKind::NotFound`] when there is no such token, or when it is already revoked.
    pub async fn revoke_token(&self, who: &ClientContext, id: &str) -> Result<()> {
        let id: i64 = id
            .parse()
            .map_err(|_| Error::new(ErrorKind::Malformed, "the id of a token must be a number"))?;
        let (author, now) = (who.author(), who.now);
        self.db
            .write(move |transaction| {
                if !access::revoke_token(transaction, id, now)? {
                    return Err(Error::not_found(format!("token {id}")));
                }
                let event = NewEvent::new(
                    "auth.token.revoked",
                    id.to_string(),
                    format!("token {id} revoked"),
                );
                transaction.record(&event.caused_by(&author)).map(drop)
            })
            .await
    }

    /// Returns the hash of a new password, for `admin.password` of the configuration. The server
    /// does not change the configuration that its password comes from.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when the new password is too short, its repetition differs, or the
    ///   current one is wrong.
    /// - [`ErrorKind::Throttled`] after too many attempts.
    pub async fn hash_new_password(
        &self,
        who: &ClientContext,
        principal: &Principal,
        change: PasswordChange,
    ) -> Result<String> {
        let PasswordChange { current, new, repeated } = change;
        if new.chars().count() < PASSWORD_CHARS_MIN {
            return Err(Error::invalid(format!(
                "the new password must have at least {PASSWORD_CHARS_MIN} characters"
            )));
        }
        if new != repeated {
            return Err(Error::invalid("the new passwords do not match"));
        }
        if let Principal::Session { user, .. } = principal
            && !self.check_login(who.address(), &user.name, current).await.1?
        {
            return Err(Error::invalid("the current password is wrong"));
        }
        blocking(move || hash_password(&new)).await?
    }
}

/// A token to create.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for: one line.
    pub name: String,
    /// Its permissions: at least one scope.
    pub scopes: Vec<Scope>,
    /// Days until it expires; by default it never does.
    #[serde(default)]
    pub days: Option<u32>,
}

/// A newly created token. The secret cannot be retrieved again: the server stores only its digest.
#[derive(Serialize, utoipa::ToSchema)]
pub struct CreatedToken {
    /// Number by which the token is revoked.
    pub id: i64,
    /// The secret, for `Authorization: Bearer …`.
    pub token: String,
}

const NAME_CHARS_MAX: usize = 128;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A password change, as a person enters it into a form.
pub struct PasswordChange {
    /// The current password of the user; checked only for sessions.
    pub current: String,
    /// The new password.
    pub new: String,
    /// The new password, repeated.
    pub repeated: String,
}
