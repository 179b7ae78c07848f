//! How the server switches machines: Wake-on-LAN, and one hook for everything else.

use std::num::NonZero;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::values::Values;
use crate::domain::webhook::WebhookSecret;

/// Options of power control.
#[derive(Clone, Debug)]
pub struct PowerOptions {
    /// What switches machines; `None` for nothing but Wake-on-LAN.
    pub hook: Option<PowerHook>,
    /// Maximum duration of one call of the hook.
    pub timeout: Duration,
    /// Maximum number of concurrent calls of the hook.
    pub parallel: usize,
    /// Time between the starts of two machines of a selection, so that they do not all draw their
    /// inrush current at once.
    pub stagger: Duration,
}

/// What switches machines.
#[derive(Clone, Debug)]
pub enum PowerHook {
    /// A program, started without a shell and without arguments.
    Program(PathBuf),
    /// A web address.
    Url {
        /// The address.
        url: String,
        /// Keys that sign the requests.
        secrets: Vec<WebhookSecret>,
    },
}

/// Maximum duration of one call of the hook. A client of the API waits for it.
const TIMEOUT_MAX_S: u32 = 300;

impl PowerOptions {
    /// Reads the section. Adds invalid values to the problems.
    pub(super) fn read(values: &mut Values) -> Option<Self> {
        let hook = hook(values);
        let timeout = timeout_s(values);
        let parallel: Option<NonZero<u8>> =
            values.parse("power.parallel", "a number from 1 to 255");
        let stagger: Option<u16> =
            values.parse("power.stagger_ms", "a number of milliseconds from 0 to 65535");
        Some(Self {
            hook: hook?,
            timeout: Duration::from_secs(timeout?.into()),
            parallel: parallel?.get().into(),
            stagger: Duration::from_millis(stagger?.into()),
        })
    }
}

fn timeout_s(values: &mut Values) -> Option<u32> {
    let (key, expected) = ("power.timeout_s", "a number of seconds from 1 to 300");
    let seconds: u32 = values.parse(key, expected)?;
    let is_valid = (1..=TIMEOUT_MAX_S).contains(&seconds);
    if !is_valid {
        values.invalid(key, expected);
    }
    is_valid.then_some(seconds)
}

/// Returns the hook, if one is set. `None` if it is invalid.
fn hook(values: &mut Values) -> Option<Option<PowerHook>> {
    match (values.path("power.program"), values.set("power.url")) {
        (None, None) => Some(None),
        (Some(_), Some(_)) => {
            values.add_problem("power.program", "power.url is set too; remove one of them");
            None
        }
        (Some(program), None) => {
            if !program.is_absolute() {
                values.invalid("power.program", "an absolute path, such as /etc/bty/power");
                return None;
            }
            if !is_executable(&program) {
                let path = program.display();
                let warning = format!("power.program: {path} is not an executable file (yet)");
                values.warnings.push(warning);
            }
            Some(Some(PowerHook::Program(program)))
        }
        (None, Some(url)) => {
            let secrets: Result<_, ()> =
                values.text("power.secret").split_whitespace().map(str::parse).collect();
            let is_web = |url: url::Url| {
                let has_login = !url.username().is_empty() || url.password().is_some();
                matches!(url.scheme(), "http" | "https") && url.has_host() && !has_login
            };
            if !url.parse().is_ok_and(is_web) {
                let expected = "an address such as http://pdu.example/bty, without a password";
                values.invalid("power.url", expected);
                return None;
            }
            let Ok(secrets) = secrets else {
                values.invalid(
                    "power.secret",
                    "whsec_ and the base64 of 24 to 64 random bytes, or several of these",
                );
                return None;
            };
            Some(Some(PowerHook::Url { url, secrets }))
        }
    }
}

fn is_executable(path: &Path) -> bool {
    let is_program =
        |data: std::fs::Metadata| data.is_file() && data.permissions().mode() & 0o111 != 0;
    std::fs::metadata(path).is_ok_and(is_program)
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    use super::*;

    #[test]
    fn one_hook_is_a_program_or_an_address() {
        let load = |values: &[(&'static str, &str)]| {
            let config = Config::from_values(values.iter().copied());
            config.map(|config| config.power).map_err(|e| e.to_string())
        };
        let options = load(&[]).unwrap();
        assert!(options.hook.is_none());
        assert_eq!((options.timeout.as_secs(), options.parallel), (20, 4));
        let program = load(&[("power.program", "/bin/true")]).unwrap().hook;
        assert!(
            matches!(program, Some(PowerHook::Program(path)) if path == Path::new("/bin/true"))
        );
        let url = load(&[("power.url", "http://pdu.example/bty")]).unwrap().hook;
        assert!(matches!(url, Some(PowerHook::Url { .. })));
        for (values, why) in [
            (&[("power.program", "power")][..], "power.program: expected an absolute path"),
            (&[("power.program", "/p"), ("power.url", "http://h/")], "remove one of them"),
            (&[("power.url", "http://u:s3cret@h/")], "without a password"),
            (&[("power.url", "http://h/"), ("power.secret", "s3cret")], "whsec_"),
            (&[("power.timeout_s", "301")], "power.timeout_s: expected"),
            (&[("power.timeout_s", "x")], "power.timeout_s: expected"),
            (&[("power.parallel", "0")], "power.parallel: expected"),
        ] {
            let error = load(values).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(error.matches(": expected").count() <= 1, "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let missing = Config::from_values([("power.program", "/gone")]).unwrap();
        assert!(missing.warnings[0].contains("/gone is not an executable file"));
    }
}
