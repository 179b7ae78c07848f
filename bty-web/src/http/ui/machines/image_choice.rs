//! The images from which an operator chooses one for some machines.

use crate::domain::machine::Machine;
use crate::domain::machine::architecture::mismatch;
use crate::services::image_catalog::Stored;

/// Maximum number of images that are shown. A search finds the others.
pub(super) const IMAGES_SHOWN: usize = 100;

/// An image that can be chosen.
pub(super) struct ImageChoice {
    pub(super) reference: String,
    pub(super) name: String,
    /// Architecture, size and format, as far as they are known.
    pub(super) about: String,
    pub(super) description: String,
    /// Why it works on none of the machines.
    pub(super) why_not: Option<String>,
    /// Why it does not work on some of them.
    pub(super) warning: Option<String>,
    pub(super) is_chosen: bool,
}

/// The machines for which an image is chosen, as far as images depend on them.
pub(super) struct ImageTarget<'a> {
    pub(super) machine: &'a Machine,
    /// Size of the largest disk that can be chosen, if it is known.
    pub(super) largest_disk: Option<u64>,
}

impl ImageTarget<'_> {
    /// Returns why the image does not work on this machine.
    fn why_not(&self, image: &Stored) -> Option<String> {
        let too_large = || {
            let (needed, largest) = (image.size_bytes?, self.largest_disk?);
            let human = bty::size::human;
            let why = || format!("it needs {}, but the disk has {}", human(needed), human(largest));
            (needed > largest).then(why)
        };
        mismatch(image.arch.as_deref(), &self.machine.hardware).or_else(too_large)
    }
}

/// Returns the images whose name, architecture, format or description contains `search`. `chosen`
/// is the reference of the chosen image; if there is none, the only one that works is chosen.
pub(super) fn choices(
    images: &[Stored],
    targets: &[ImageTarget<'_>],
    search: &str,
    chosen: &str,
) -> Vec<ImageChoice> {
    let needle = search.trim().to_lowercase();
    let matching = images.iter().filter(|image| is_found(image, &needle));
    let mut choices: Vec<ImageChoice> =
        matching.map(|image| ImageChoice::new(image, targets, chosen)).collect();
    // what works comes first; both parts stay sorted by name
    choices.sort_by_key(|choice| choice.why_not.is_some());
    let mut working = choices.iter_mut().filter(|choice| choice.why_not.is_none());
    if let (true, Some(only), None) = (chosen.is_empty(), working.next(), working.next()) {
        only.is_chosen = true;
    }
    choices
}

fn is_found(image: &Stored, needle: &str) -> bool {
    let texts = [Some(&image.name), image.arch.as_ref(), image.format.as_ref()];
    let texts = texts.into_iter().chain([image.description.as_ref()]).flatten();
    needle.is_empty() || texts.into_iter().any(|text| text.to_lowercase().contains(needle))
}

impl ImageChoice {
    fn new(image: &Stored, targets: &[ImageTarget<'_>], chosen: &str) -> Self {
        let problems: Vec<String> =
            targets.iter().filter_map(|target| target.why_not(image)).collect();
        let is_for_none = !problems.is_empty() && problems.len() == targets.len();
        let first = problems.first().cloned();
        let warning = first
            .clone()
            .map(|why| format!("not for {} of {}: {why}", problems.len(), machines(targets.len())));
        let size = image.size_bytes.map(bty::size::human);
        let about = [image.arch.clone(), size, image.format.clone()];
        Self {
            reference: image.bty_image_ref.clone(),
            name: image.name.clone(),
            about: about.into_iter().flatten().collect::<Vec<_>>().join(", "),
            description: image.description.clone().unwrap_or_default(),
            why_not: first.filter(|_| is_for_none),
            warning: warning.filter(|_| !is_for_none),
            is_chosen: image.bty_image_ref == chosen && !is_for_none,
        }
    }
}

fn machines(count: usize) -> String {
    bty::text::count(count, "machine")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::time::Time;

    fn image(name: &str, arch: &str, gib: u64) -> Stored {
        Stored {
            bty_image_ref: name.into(),
            src: format!("https://images.example/{name}"),
            resolved_src: None,
            resolved_at: None,
            disk_image_sha: None,
            index_sha256: None,
            name: name.into(),
            sha_url: None,
            format: None,
            size_bytes: Some(gib << 30),
            description: None,
            arch: Some(arch.into()),
            is_tag: false,
            moved_at: None,
            added_at: Time(1),
        }
    }

    fn machine(arch: &str) -> Machine {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        Machine { hardware: json!({ "arch": arch }), ..Machine::new(mac, "ipxe-exit", Time(1)) }
    }

    #[test]
    fn images_that_work_come_first_and_the_others_say_why_not() {
        let images =
            [image("arm", "arm64", 1), image("huge", "x86_64", 99), image("pc", "x86_64", 2)];
        let machine = machine("x86_64");
        let targets = [ImageTarget { machine: &machine, largest_disk: Some(8 << 30) }];
        let choices = choices(&images, &targets, "", "");
        let shown: Vec<_> =
            choices.iter().map(|c| (&*c.name, c.why_not.clone().unwrap_or_default())).collect();
        assert_eq!(shown[0], ("pc", String::new()));
        assert!(shown[1].1.contains("the image is for arm64"), "{shown:?}");
        assert!(shown[2].1.contains("99.0 GiB, but the disk has 8.0 GiB"), "{shown:?}");
        assert!(choices[0].is_chosen, "it is the only one that works");
    }

    #[test]
    fn an_image_for_some_of_the_machines_has_a_warning() {
        let images = [image("arm", "arm64", 1), image("pc", "x86_64", 1)];
        let (pc, arm) = (machine("x86_64"), machine("arm64"));
        let targets = [&pc, &pc, &arm].map(|machine| ImageTarget { machine, largest_disk: None });
        let choices = choices(&images, &targets, "", "");
        assert!(choices.iter().all(|choice| choice.why_not.is_none() && !choice.is_chosen));
        let warning = choices[0].warning.as_deref().unwrap_or_default();
        assert!(warning.starts_with("not for 2 of 3 machines: "), "{warning}");
    }

    #[test]
    fn a_search_finds_names_and_architectures() {
        let images = [image("arm", "arm64", 1), image("pc", "x86_64", 1)];
        let names = |search| {
            let choices = choices(&images, &[], search, "pc");
            choices.into_iter().map(|choice| choice.name).collect::<Vec<_>>()
        };
        assert_eq!(names("ARM64"), ["arm"]);
        assert_eq!(names("P"), ["pc"]);
        assert_eq!(names("none"), [""; 0]);
    }
}
