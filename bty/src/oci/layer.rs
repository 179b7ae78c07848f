//! The choice of the one layer of an artifact that is the disk image.

use oci_client::manifest::OciDescriptor;

use crate::{Error, ErrorKind, Result};

/// The annotation that holds a layer's file name.
/// <https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md>
const TITLE: &str = "org.opencontainers.image.title";

/// The annotation that promises the index of a packed image.
const PACK_INDEX: &str = "org.bty.pack.index.sha256";

/// Prefixes of media types that are never a disk image: charts, signatures, attestations, bills of
/// materials.
const FOREIGN_MEDIA_TYPES: [&str; 8] = [
    "application/vnd.cncf.helm.",
    "application/vnd.dev.cosign.",
    "application/vnd.in-toto",
    "application/vnd.dsse.",
    "application/spdx",
    "text/spdx",
    "application/vnd.cyclonedx",
    "application/vnd.oci.empty.",
];

/// Suffixes of the names of files that accompany an image.
const SIDECARS: [&str; 9] =
    [".sha256", ".sha512", ".sig", ".asc", ".pem", ".cert", ".sbom", ".att", ".json"];

/// Chooses the largest layer that may be a disk image; among equal ones, the first.
pub(super) fn choose(layers: &[OciDescriptor]) -> Result<&OciDescriptor> {
    let mut chosen: Option<&OciDescriptor> = None;
    for layer in layers.iter().filter(|layer| may_be_image(layer)) {
        if chosen.is_none_or(|best| layer.size > best.size) {
            chosen = Some(layer);
        }
    }
    chosen.ok_or_else(|| {
        let found: Vec<String> = layers.iter().take(8).map(describe).collect();
        let found = if found.is_empty() { "no layers".to_owned() } else { found.join(", ") };
        Error::new(ErrorKind::Format, format!("the artifact holds no disk image, only {found}"))
            .hint("check the tag, or name the layer by its own digest: @sha256:<digest>")
    })
}

/// The file name of the layer, if it has one.
pub(super) fn title(layer: &OciDescriptor) -> Option<&str> {
    annotation(layer, TITLE)
}

/// The SHA-256 of the index of the packed image, as written.
pub(super) fn pack_index(layer: &OciDescriptor) -> Option<&str> {
    annotation(layer, PACK_INDEX)
}

fn annotation<'a>(layer: &'a OciDescriptor, name: &str) -> Option<&'a str> {
    layer.annotations.as_ref()?.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn may_be_image(layer: &OciDescriptor) -> bool {
    let media_type = layer.media_type.to_ascii_lowercase();
    let title = title(layer).unwrap_or_default().to_ascii_lowercase();
    layer.size >= 0
        && !FOREIGN_MEDIA_TYPES.iter().any(|foreign| media_type.starts_with(foreign))
        && !SIDECARS.iter().any(|sidecar| title.ends_with(sidecar))
}

fn describe(layer: &OciDescriptor) -> String {
    match title(layer) {
        Some(title) => format!("{title:?} ({})", layer.media_type),
        None => layer.media_type.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn layer(media_type: &str, title: &str, size: i64) -> OciDescriptor {
        let annotations =
            (!title.is_empty()).then(|| BTreeMap::from([(TITLE.to_owned(), title.to_owned())]));
        OciDescriptor {
            media_type: media_type.to_owned(),
            size,
            annotations,
            ..OciDescriptor::default()
        }
    }

    #[test]
    fn chooses_the_largest_layer_and_among_equal_ones_the_first() {
        let layers =
            [layer("a/b", "small.img", 1), layer("a/c", "one.img", 9), layer("a/d", "two.img", 9)];
        assert_eq!(title(choose(&layers).unwrap()), Some("one.img"));
    }

    #[test]
    fn skips_larger_layers_that_are_no_image() {
        for foreign in [
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            "application/vnd.cncf.helm.chart.provenance.v1.prov",
            "application/vnd.dev.cosign.simplesigning.v1+json",
            "application/vnd.in-toto+json",
            "application/vnd.dsse.envelope.v1+json",
            "application/spdx+json",
            "text/spdx+json",
            "application/vnd.cyclonedx+json",
            "application/vnd.oci.empty.v1+json",
            "Application/VND.in-toto+json",
        ] {
            let layers = [layer(foreign, "", 100), layer("application/octet-stream", "", 1)];
            assert_eq!(choose(&layers).unwrap().size, 1, "{foreign}");
        }
        for sidecar in SIDECARS {
            let layers =
                [layer("a/b", &format!("disk.img{sidecar}"), 100), layer("a/b", "disk.img", 0)];
            assert_eq!(choose(&layers).unwrap().size, 0, "{sidecar}");
        }
    }

    #[test]
    fn an_annotation_promises_the_index() {
        let mut layer = layer("a/b", "disk.img.zst", 1);
        assert_eq!(pack_index(&layer), None);
        layer.annotations.get_or_insert_default().insert(PACK_INDEX.to_owned(), "ab".to_owned());
        assert_eq!((pack_index(&layer), title(&layer)), (Some("ab"), Some("disk.img.zst")));
    }

    #[test]
    fn an_artifact_without_an_image_is_described() {
        let error =
            choose(&[layer("application/spdx+json", "", 5), layer("a/b", "x.SIG", 5)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the artifact holds no disk image, only application/spdx+json, \"x.SIG\" (a/b)"
        );
        assert!(choose(&[]).unwrap_err().to_string().ends_with("no layers"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_chosen_layer_is_the_largest_candidate(
            raw in proptest::collection::vec(
                (0..3usize, "[a-z]{0,3}(\\.img|\\.sig|\\.json)?", any::<i64>()),
                0..8,
            )
        ) {
            let types = ["application/octet-stream", "application/vnd.in-toto+json", ""];
            let layers: Vec<_> =
                raw.iter().map(|(t, title, size)| layer(types[*t], title, *size)).collect();
            let fitting: Vec<_> = layers.iter().filter(|layer| may_be_image(layer)).collect();
            match choose(&layers) {
                Ok(chosen) => {
                    prop_assert!(may_be_image(chosen) && chosen.size >= 0);
                    prop_assert!(fitting.iter().all(|other| other.size <= chosen.size));
                }
                Err(_) => prop_assert!(fitting.is_empty()),
            }
        }
    }
}
