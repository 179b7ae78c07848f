//! Who may do what: the admin by password and session, programs by tokens with scopes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use axum_extra::extract::cookie::Key;
use bty::Digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::app::random_token;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Time;

pub mod guard;

/// Name of the cookie that a session is in. Browsers tell ports of a host not apart: a cache host beside a server has another.
const COOKIE: &str = "bty-token";
/// That of a cache host.
const CACHE_COOKIE: &str = "bty-cache-token";

/// A session ends when it has not been used for so long.
pub const SESSION_MS: i64 = 7 * 24 * 3600 * 1000;

/// Wrong passwords from one address before it has to wait, and the wait for each further one.
const ATTEMPTS_FREE: u32 = 5;
const WAIT_MS: i64 = 10_000;
const WAIT_MAX_MS: i64 = 15 * 60 * 1000;
/// As many addresses are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything but secrets.
    Read,
    /// Bind and delete machines.
    Machines,
    /// Change the catalog.
    Catalog,
    /// Change plans.
    Plans,
    /// Everything, tokens and settings included.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Machines, Self::Catalog, Self::Plans, Self::Admin];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Machines => "machines",
            Self::Catalog => "catalog",
            Self::Plans => "plans",
            Self::Admin => "admin",
        }
    }

    /// True when one of `scopes` includes it: `admin` includes all, and every one includes `read`.
    #[must_use]
    pub fn is_in(self, scopes: &[String]) -> bool {
        scopes.iter().any(|scope| scope == self.as_str() || scope == "admin" || self == Self::Read)
    }
}

/// Checks passwords, and slows down who guesses.
pub struct Auth {
    password: Option<Password>,
    /// What cookies are signed with.
    pub key: Key,
    /// Name of the cookie that a session is in.
    pub cookie: &'static str,
    guesses: Mutex<HashMap<IpAddr, Guesses>>,
}

enum Password {
    /// Its digest: what is compared has one length, and tells nothing by the time it takes.
    Plain(Digest),
    /// An argon2 hash.
    Hash(String),
}

#[derive(Clone, Copy)]
struct Guesses {
    wrong: u32,
    last: Time,
}

impl Auth {
    /// For the password and the secret of `config`; a secret that is not set is made, and kept in the state directory.
    ///
    /// # Errors
    /// When the secret cannot be read or kept.
    pub fn new(config: &Config) -> Result<Self> {
        let secret = match &config.session_secret {
            Some(secret) => secret.clone(),
            None => kept_secret(&config.state_dir.join("session-secret"))?,
        };
        let password = config.password.as_ref().map(|password| match PasswordHash::new(password) {
            Ok(_) => Password::Hash(password.clone()),
            Err(_) => Password::Plain(Digest::of(password.as_bytes())),
        });
        // the secret may be shorter than a key has to be
        let key = Key::from(
            &[Digest::of(secret.as_bytes()), Digest::of(format!("{secret}.").as_bytes())]
                .map(|d| *d.as_bytes())
                .concat(),
        );
        let cookie = if config.is_cache_only { CACHE_COOKIE } else { COOKIE };
        Ok(Self { password, key, cookie, guesses: Mutex::default() })
    }

    /// True when everybody is the admin: no password is set.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.password.is_none()
    }

    /// True for the admin's password. Slow, when it is kept as a hash.
    #[must_use]
    pub fn is_password(&self, text: &str) -> bool {
        match &self.password {
            None => false,
            Some(Password::Plain(digest)) => digest.as_bytes().ct_eq(Digest::of(text.as_bytes()).as_bytes()).into(),
            Some(Password::Hash(hash)) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(text.as_bytes(), &hash).is_ok()),
        }
    }

    /// Refuses an address that has guessed too often.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`], with the time to wait.
    pub fn check_guesses(&self, ip: IpAddr, now: Time) -> Result<()> {
        let guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner).get(&ip).copied();
        let Some(guesses) = guesses.filter(|guesses| guesses.wrong >= ATTEMPTS_FREE) else { return Ok(()) };
        let wait = WAIT_MS.saturating_mul(1 << (guesses.wrong - ATTEMPTS_FREE).min(16)).min(WAIT_MAX_MS);
        let left = wait - now.ms_since(guesses.last);
        if left <= 0 {
            return Ok(());
        }
        let seconds = u64::try_from(left).unwrap_or_default().div_ceil(1000);
        let mut error = Error::new(ErrorKind::Throttled, format!("too many wrong passwords: try again in {seconds} s"));
        error.retry_after = Some(seconds);
        Err(error)
    }

    /// Takes note of how a guess ended.
    pub fn guessed(&self, ip: IpAddr, is_right: bool, now: Time) {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            guesses.remove(&ip);
            return;
        }
        if guesses.len() >= ADDRESSES_MAX {
            guesses.retain(|_, guesses| now.ms_since(guesses.last) < WAIT_MAX_MS);
        }
        let entry = guesses.entry(ip).or_insert(Guesses { wrong: 0, last: now });
        entry.wrong = entry.wrong.saturating_add(1);
        entry.last = now;
    }
}

/// A password as it can stand in a configuration file.
///
/// # Errors
/// Those of the random numbers.
pub fn hash_password(text: &str) -> Result<String> {
    Argon2::default().hash_password(text.as_bytes()).map(|hash| hash.to_string()).map_err(Error::internal)
}

/// What is kept of a token.
#[must_use]
pub fn digest(token: &str) -> String {
    Digest::of(token.as_bytes()).to_string()
}

/// 256 random bits.
#[must_use]
pub fn secret() -> String {
    format!("{}{}", random_token(), random_token())
}

fn kept_secret(path: &Path) -> Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::internal(format!("reading {}: {e}", path.display()))),
    }
    let secret = secret();
    let new = path.with_extension("new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|e| Error::internal(format!("keeping {}: {e}", path.display())))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(password: Option<&str>) -> Auth {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().display().to_string();
        let find = |name: &str| match name {
            "BTY_PATHS_STATE_DIR" => Some(state.clone()),
            "BTY_ADMIN_PASSWORD" => password.map(str::to_owned),
            _ => None,
        };
        Auth::new(&Config::load(&crate::config::Sources { env: &find, named: &[] }).unwrap()).unwrap()
    }

    #[test]
    fn a_password_is_plain_or_a_hash() {
        let hash = hash_password("secret").unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        for auth in [auth(Some("secret")), auth(Some(&hash))] {
            assert!(auth.is_password("secret") && !auth.is_password("Secret") && !auth.is_password(""));
            assert!(!auth.is_password(&hash), "the hash is no password");
        }
        assert!(auth(None).is_open() && !auth(None).is_password(""));
    }

    #[test]
    fn who_guesses_waits_longer_each_time_and_nobody_else_does() {
        let (auth, ip, other) = (auth(Some("x")), "192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut now = Time(0);
        for _ in 0..ATTEMPTS_FREE {
            auth.check_guesses(ip, now).unwrap();
            auth.guessed(ip, false, now);
        }
        let error = auth.check_guesses(ip, now).unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(10)));
        auth.check_guesses(other, now).unwrap();
        now = now.plus_ms(10_000);
        auth.check_guesses(ip, now).unwrap();
        auth.guessed(ip, false, now);
        assert_eq!(auth.check_guesses(ip, now).unwrap_err().retry_after, Some(20));
        auth.guessed(ip, true, now);
        auth.check_guesses(ip, now).unwrap();
    }

    #[test]
    fn scopes_include_each_other_as_the_docs_say() {
        let is = |scope: Scope, own: &str| scope.is_in(&[own.to_owned()]);
        assert!(is(Scope::Read, "machines") && is(Scope::Machines, "admin") && !is(Scope::Admin, "machines"));
        assert!(!is(Scope::Catalog, "read") && !is(Scope::Plans, "catalog"));
    }
}
