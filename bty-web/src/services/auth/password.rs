//! Checks passwords, with limits.
//!
//! Checking a hash takes 19 MiB and tens of milliseconds, and any client can trigger it. So
//! attempts are counted before they are checked, a single thread checks all of them, and its queue
//! is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher, Version};
use bty::Digest;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;

use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::limit::Limit;
use crate::domain::network::network_of;
use crate::domain::user::ADMIN;

/// Number of wrong passwords from one address, for all users together, without a delay. After the next one, the address must
/// wait for [`WAIT`]; each further one doubles the delay up to [`WAIT_MAX`].
const ATTEMPTS_FREE: u32 = 5;
const WAIT: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// Maximum number of addresses whose attempts are counted. Beyond that, the one with the oldest
/// attempt is forgotten.
const ADDRESSES_MAX: usize = 10_000;
/// Idle time after which the thread frees its memory.
const IDLE: Duration = Duration::from_secs(5);

/// The configured password.
#[derive(Clone)]
enum Secret {
    /// Digest of a plain password, so that the duration of a comparison does not reveal its length.
    Plain(Digest),
    /// An argon2 hash.
    Hash(Hash),
}

/// An argon2 hash with its parameters.
#[derive(Clone)]
struct Hash {
    argon2: Argon2<'static>,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Hash {
    /// Parses `$argon2id$…`; `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        let hash = PasswordHash::new(text).ok()?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
        let argon2 = Argon2::new(algorithm, version, Params::try_from(&hash).ok()?);
        Some(Self {
            argon2,
            salt: hash.salt?.as_ref().to_vec(),
            output: hash.hash?.as_bytes().to_vec(),
        })
    }

    /// Returns a hash that no password has. Checking it takes as long as checking that of a user, so
    /// the time of an answer does not reveal which users exist.
    fn of_nobody() -> Self {
        let output = vec![0; Params::DEFAULT_OUTPUT_LEN];
        Self { argon2: Argon2::default(), salt: vec![0; 16], output }
    }

    /// True if `text` is the password. The next check reuses `memory`: allocating it for each check
    /// would fragment the heap.
    fn is(&self, text: &str, memory: &mut Vec<Block>) -> bool {
        memory.resize(self.argon2.params().block_count(), Block::default());
        let mut output = vec![0; self.output.len()];
        let hashed = self.argon2.hash_password_into_with_memory(
            text.as_bytes(),
            &self.salt,
            &mut output,
            memory,
        );
        hashed.is_ok() && output.ct_eq(&self.output).into()
    }
}

/// Checks the passwords of the admin and of named users, and slows down guessing.
pub struct Password {
    secret: Secret,
    waiting_max: usize,
    attempts: Mutex<HashMap<IpAddr, Attempts>>,
    checker: OnceLock<mpsc::SyncSender<PasswordCheck>>,
}

/// The failed attempts from one address. A right password takes back those for the same user only:
/// otherwise, somebody with any account could guess another one's password without a delay.
struct Attempts {
    failed: HashMap<String, u32>,
    last: Instant,
}

impl Attempts {
    fn total(&self) -> u32 {
        self.failed.values().fold(0, |total, failed| total.saturating_add(*failed))
    }
}

struct PasswordCheck {
    hash: Hash,
    text: String,
    answer: oneshot::Sender<bool>,
}

impl Password {
    /// Takes the configured password, plain or as an argon2 hash. At most `waiting_max` passwords
    /// wait to be checked.
    #[must_use]
    pub fn new(configured: &str, waiting_max: usize) -> Self {
        let secret = match Hash::parse(configured) {
            Some(hash) => Secret::Hash(hash),
            None => Secret::Plain(Digest::of(configured.as_bytes())),
        };
        Self { secret, waiting_max, attempts: Mutex::default(), checker: OnceLock::new() }
    }

    /// True if `text` is the admin's password. An attempt counts as failed until it has succeeded,
    /// so concurrent attempts gain nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`], with the time to wait, when `ip` has guessed too often or too many
    /// passwords are waiting to be checked.
    pub async fn check(&self, ip: IpAddr, text: String) -> Result<bool> {
        self.attempt(ip, ADMIN, &self.secret, text).await
    }

    /// True if `text` is the password of the user `name`, whose hash is `hash`. Without a hash, the
    /// answer is false, after the same time.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`], as for [`check`](Self::check).
    pub async fn check_user(
        &self,
        ip: IpAddr,
        name: &str,
        hash: Option<&str>,
        text: String,
    ) -> Result<bool> {
        let hash = hash.and_then(Hash::parse).unwrap_or_else(Hash::of_nobody);
        self.attempt(ip, &name.to_ascii_lowercase(), &Secret::Hash(hash), text).await
    }

    async fn attempt(&self, ip: IpAddr, user: &str, secret: &Secret, text: String) -> Result<bool> {
        self.count_attempt(ip, user, Instant::now())?;
        let is_right = match secret {
            Secret::Plain(digest) => {
                digest.as_bytes().ct_eq(Digest::of(text.as_bytes()).as_bytes()).into()
            }
            Secret::Hash(hash) => self.check_hash(hash.clone(), text).await?,
        };
        if is_right {
            self.take_back(ip, user);
        }
        Ok(is_right)
    }

    async fn check_hash(&self, hash: Hash, text: String) -> Result<bool> {
        let (answer, checked) = oneshot::channel();
        let busy = |_| throttled("too many passwords are being checked", Duration::from_secs(1));
        self.checker
            .get_or_init(|| start_checker(self.waiting_max))
            .try_send(PasswordCheck { hash, text, answer })
            .map_err(busy)?;
        checked.await.map_err(Error::internal)
    }

    /// Counts an attempt of `ip` for `user`, or refuses it if `ip` has to wait.
    fn count_attempt(&self, ip: IpAddr, user: &str, now: Instant) -> Result<()> {
        let (network, mut attempts) = (network_of(ip), self.lock());
        if let Some(known) = attempts.get(&network).filter(|known| known.total() >= ATTEMPTS_FREE) {
            let wait =
                WAIT.saturating_mul(1 << (known.total() - ATTEMPTS_FREE).min(16)).min(WAIT_MAX);
            let left = wait.saturating_sub(now.saturating_duration_since(known.last));
            if !left.is_zero() {
                return Err(throttled("too many wrong passwords", left));
            }
        }
        if attempts.len() >= ADDRESSES_MAX && !attempts.contains_key(&network) {
            let oldest = attempts
                .iter()
                .min_by_key(|(_, attempts)| attempts.last)
                .map(|(network, _)| *network);
            oldest.map(|oldest| attempts.remove(&oldest));
        }
        let entry = attempts
            .entry(network)
            .or_insert_with(|| Attempts { failed: HashMap::new(), last: now });
        let failed = entry.failed.entry(user.to_owned()).or_default();
        *failed = failed.saturating_add(1);
        entry.last = now;
        Ok(())
    }

    /// Forgets the failed attempts of `ip` for `user`.
    fn take_back(&self, ip: IpAddr, user: &str) {
        let (network, mut attempts) = (network_of(ip), self.lock());
        if let Some(entry) = attempts.get_mut(&network) {
            entry.failed.remove(user);
            if entry.failed.is_empty() {
                attempts.remove(&network);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Attempts>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn throttled(why: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let detail = format!("{why}; try again in {seconds} s");
    Error::limited(ErrorKind::Throttled, Limit::Logins, seconds, detail)
}

/// Starts the only thread that checks hashes. It ends when the sender is dropped.
fn start_checker(waiting_max: usize) -> mpsc::SyncSender<PasswordCheck> {
    let (sender, waiting) = mpsc::sync_channel::<PasswordCheck>(waiting_max);
    let work = move || {
        let mut memory = Vec::new();
        loop {
            match waiting.recv_timeout(IDLE) {
                // skip the check if the caller has gone
                Ok(PasswordCheck { hash, text, answer }) if !answer.is_closed() => {
                    let _ = answer.send(hash.is(&text, &mut memory));
                }
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => memory = Vec::new(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("bty-password".into()).spawn(work) {
        tracing::error!(%error, "passwords cannot be checked");
    }
    sender
}

/// Hashes a password for the configuration file, or of a user.
///
/// # Errors
/// [`ErrorKind::Internal`] when the system provides no random numbers.
pub fn hash_password(text: &str) -> Result<String> {
    Argon2::default()
        .hash_password(text.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_password_is_plain_or_a_hash() {
        let hash = hash_password("secret").unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        for password in [Password::new("secret", 16), Password::new(&hash, 16)] {
            for (n, (text, expected)) in
                [("secret", true), ("Secret", false), ("", false), (&*hash, false)]
                    .into_iter()
                    .enumerate()
            {
                let from = ip(&format!("192.0.2.{n}"));
                assert_eq!(
                    password.check(from, text.to_owned()).await.unwrap(),
                    expected,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn each_wrong_password_makes_its_address_wait_longer_and_no_other() {
        let (password, guesser, other) = (Password::new("x", 16), ip("192.0.2.1"), ip("192.0.2.2"));
        let mut now = Instant::now();
        for _ in 0..ATTEMPTS_FREE {
            password.count_attempt(guesser, ADMIN, now).unwrap();
        }
        let error = password.count_attempt(guesser, ADMIN, now).unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(10)));
        password.count_attempt(other, ADMIN, now).unwrap();
        now += Duration::from_secs(10);
        password.count_attempt(guesser, ADMIN, now).unwrap();
        assert_eq!(password.count_attempt(guesser, ADMIN, now).unwrap_err().retry_after, Some(20));
    }

    #[tokio::test]
    async fn concurrent_guesses_are_counted_before_they_are_checked() {
        let password = std::sync::Arc::new(Password::new(&hash_password("secret").unwrap(), 16));
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let password = std::sync::Arc::clone(&password);
                tokio::spawn(
                    async move { password.check(ip("192.0.2.1"), format!("guess {n}")).await },
                )
            })
            .collect();
        let mut checked = 0;
        for task in tasks {
            checked += usize::from(task.await.unwrap().is_ok());
        }
        assert_eq!(checked, ATTEMPTS_FREE as usize);
    }

    #[tokio::test]
    async fn the_number_of_waiting_checks_is_limited() {
        let password = std::sync::Arc::new(Password::new(&hash_password("secret").unwrap(), 16));
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let password = std::sync::Arc::clone(&password);
                tokio::spawn(async move {
                    password.check(ip(&format!("192.0.2.{n}")), "secret".into()).await
                })
            })
            .collect();
        let mut refused = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(is_right) => assert!(is_right),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Throttled);
                    refused += 1;
                }
            }
        }
        // one may be running besides those that wait, and each that ends frees a place
        assert!(refused > 0, "all of them waited");
    }

    #[tokio::test]
    async fn the_right_password_ends_the_count() {
        let password = Password::new("secret", 16);
        for _ in 1..ATTEMPTS_FREE {
            assert!(!password.check(ip("192.0.2.1"), "x".into()).await.unwrap());
        }
        assert!(password.check(ip("192.0.2.1"), "secret".into()).await.unwrap());
        for _ in 0..ATTEMPTS_FREE {
            assert!(!password.check(ip("192.0.2.1"), "x".into()).await.unwrap());
        }
        assert!(password.check(ip("192.0.2.1"), "secret".into()).await.is_err());
    }

    #[tokio::test]
    async fn a_right_password_of_one_user_frees_no_guesses_at_another() {
        let (password, from) = (Password::new("secret", 16), ip("192.0.2.1"));
        let hash = hash_password("viewer").unwrap();
        for _ in 0..2 {
            assert!(!password.check(from, "guess".into()).await.unwrap());
            assert!(password.check_user(from, "bob", Some(&hash), "viewer".into()).await.unwrap());
            assert!(!password.check_user(from, "Bob", Some(&hash), "x".into()).await.unwrap());
            assert!(password.check_user(from, "bob", Some(&hash), "viewer".into()).await.unwrap());
        }
        for _ in 2..ATTEMPTS_FREE {
            assert!(!password.check(from, "guess".into()).await.unwrap());
        }
        let error =
            password.check_user(from, "bob", Some(&hash), "viewer".into()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Throttled);
    }

    #[tokio::test]
    async fn nobody_logs_in_without_a_hash() {
        let password = Password::new("secret", 16);
        for (n, hash) in
            [None, Some(""), Some("secret"), Some("$argon2id$broken")].into_iter().enumerate()
        {
            let from = ip(&format!("192.0.2.{n}"));
            for text in ["", "secret"] {
                let checked = password.check_user(from, "nobody", hash, text.into()).await;
                assert!(!checked.unwrap(), "{hash:?} {text}");
            }
        }
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_the_table_is_bounded() {
        let (password, now) = (Password::new("x", 16), Instant::now());
        for n in 0..u32::try_from(ADDRESSES_MAX).unwrap() + 10 {
            password
                .count_attempt(
                    ip(&format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255)),
                    ADMIN,
                    now,
                )
                .unwrap();
        }
        assert_eq!(password.lock().len(), ADDRESSES_MAX);
        for n in 0..ATTEMPTS_FREE {
            password.count_attempt(ip(&format!("2001:db8::{n}")), ADMIN, now).unwrap();
        }
        assert!(password.count_attempt(ip("2001:db8::ffff"), ADMIN, now).is_err());
        password.count_attempt(ip("2001:db8:0:1::1"), ADMIN, now).unwrap();
        for _ in 0..ATTEMPTS_FREE {
            password.count_attempt(ip("::ffff:192.0.2.9"), ADMIN, now).unwrap();
        }
        assert!(password.count_attempt(ip("192.0.2.9"), ADMIN, now).is_err());
    }
}
