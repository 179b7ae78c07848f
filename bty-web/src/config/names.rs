//! Finds misspelled names of keys and variables.

use std::collections::BTreeSet;

use super::keys::{KEYS, SECRETS};

/// Largest number of wrong, missing, additional or swapped characters of a misspelled name.
const MISTAKES_MAX: usize = 2;

/// Variables of bty-web that have no key, and of the other programs.
const OTHERS: [&str; 8] = [
    "BTY_CONFIG_DIR",
    "BTY_CONFIG_FILE",
    "BTY_ENV_FILE",
    "BTY_IMAGES",
    "BTY_LIVE",
    "BTY_WEB",
    "BTY_WEB_SERVER",
    "BTY_WEB_TOKEN",
];

/// Returns the key that `name` is probably meant to be.
pub(super) fn similar_key(name: &str) -> Option<&'static str> {
    closest(name, KEYS.iter().map(|(key, ..)| *key)).map(|(_, key)| key)
}

/// Returns the variable with the path of the file that contains the secret of `variable`.
pub(super) fn file_variable(variable: &str) -> String {
    format!("{variable}_FILE")
}

/// Returns the misspelled ones of these variables, each with the name that it is probably meant to
/// be. Other unknown variables may belong to another program.
pub(super) fn misspelled_variables<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'a str, String)> {
    let secret = |(key, _, variable): &(&str, &str, &str)| {
        SECRETS.contains(key).then(|| file_variable(variable))
    };
    let known: BTreeSet<String> = KEYS
        .iter()
        .map(|(.., variable)| (*variable).to_owned())
        .chain(KEYS.iter().filter_map(secret))
        .chain(OTHERS.map(str::to_owned))
        .collect();
    let unknown = names.into_iter().filter(|name| name.starts_with("BTY_"));
    let unknown = unknown.filter(|name| !known.contains(*name));
    let meant = |name| {
        let found = closest(name, known.iter().map(String::as_str));
        found.map(|(_, meant)| (name, meant.to_owned()))
    };
    unknown.filter_map(meant).collect()
}

fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let distances = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    distances.min().filter(|(mistakes, _)| *mistakes <= MISTAKES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_names_are_recognized_and_names_of_other_programs_are_not() {
        let meant = |name| misspelled_variables([name]).pop().map(|(_, meant)| meant);
        for (wrong, right) in [
            ("BTY_SERVER_PROT", "BTY_SERVER_PORT"),
            ("BTY_ADMIN_PASWORD", "BTY_ADMIN_PASSWORD"),
            ("BTY_ADMIN_PASWORD_FILE", "BTY_ADMIN_PASSWORD_FILE"),
        ] {
            assert_eq!(meant(wrong).as_deref(), Some(right));
        }
        for other in ["BTY_ADMIN_PASSWORD", "BTY_TEST_EXAMPLES", "BTY_STATE_DIR", "PATH", "BTY_"] {
            assert_eq!(meant(other), None, "{other}");
        }
        assert_eq!(similar_key("server.prot"), Some("server.port"));
        assert_eq!(similar_key("server.future"), None);
    }

    #[test]
    fn known_variables_are_no_misspelling_of_each_other() {
        assert_eq!(misspelled_variables(KEYS.map(|(.., variable)| variable)), []);
    }
}
