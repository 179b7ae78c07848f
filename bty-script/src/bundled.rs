//! The scripts that are part of bty: the wizard with its steps, and `auto`, which a machine runs
//! when its server sends a plan without a script.

/// Name and text of every bundled script.
const ALL: [(&str, &str); 8] = [
    ("wizard", include_str!("flows/wizard.rhai")),
    ("screen", include_str!("flows/screen.rhai")),
    ("pick_catalog", include_str!("flows/pick_catalog.rhai")),
    ("pick_image", include_str!("flows/pick_image.rhai")),
    ("pick_disk", include_str!("flows/pick_disk.rhai")),
    ("confirm", include_str!("flows/confirm.rhai")),
    ("finish", include_str!("flows/finish.rhai")),
    ("auto", include_str!("flows/auto.rhai")),
];

/// The text of the bundled script `name`.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names of all bundled scripts.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|(name, _)| *name).collect()
}

/// Name and text of the script `name` and of all bundled scripts that it imports; empty if there is
/// no bundled script of that name.
#[must_use]
pub fn with_imports(name: &str) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut pending = vec![name.to_owned()];
    while let Some(name) = pending.pop() {
        let Some(&(name, text)) = ALL.iter().find(|(known, _)| *known == name) else { continue };
        if found.iter().any(|(known, _)| *known == name) {
            continue;
        }
        found.push((name, text));
        let imports = text.lines().filter_map(|line| line.trim().strip_prefix("import \""));
        pending.extend(imports.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    found
}
