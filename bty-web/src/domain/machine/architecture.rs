//! The architecture of a machine's processor, compared with that of an image.

use serde_json::Value;

/// Returns the usual name of an architecture that has several.
fn canonical(name: &str) -> String {
    let known = bty::image::name::architecture(name);
    known.map_or_else(|| name.trim().to_lowercase(), str::to_owned)
}

/// Returns why an image of this architecture does not start on a machine with this
/// [`hardware`](super::hardware::facts); `None` if it does, or if either is unknown.
#[must_use]
pub fn mismatch(image: Option<&str>, hardware: &Value) -> Option<String> {
    let image = canonical(image?);
    let machine = canonical(hardware["arch"].as_str()?);
    (image != machine && !image.is_empty())
        .then(|| format!("the image is for {image}, but the processor of the machine is {machine}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_known_architectures_that_differ_are_a_mismatch() {
        let machine = |arch: &str| json!({ "arch": arch });
        let why = mismatch(Some("arm64"), &machine("x86_64")).unwrap();
        assert_eq!(why, "the image is for arm64, but the processor of the machine is x86_64");
        for (image, machine) in [
            (Some("aarch64"), machine("arm64")),
            (Some("AMD64"), machine("x86_64")),
            (None, machine("x86_64")),
            (Some("arm64"), json!({ "arch": null })),
            (Some("arm64"), Value::Null),
        ] {
            assert_eq!(mismatch(image, &machine), None, "{image:?} {machine}");
        }
    }
}
