//! Enums whose variants are words in JSON, in scripts and in text.

/// Defines an enum with one word per variant, which `as_str`, `Display`, `FromStr` and serde use.
/// The literal after the name says what a variant is, for the error about an unknown word.
macro_rules! string_enum {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident: $what:literal {
            $( $(#[$of_variant:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$of_variant])* #[serde(rename = $word)] $variant, )+
        }

        impl $name {
            /// The word for this variant in JSON, in scripts and in text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Error;

            fn from_str(word: &str) -> $crate::Result<Self> {
                match word {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err($crate::string_enum::unknown($what, word, &[$($word),+])),
                }
            }
        }
    };
}

pub(crate) use string_enum;

use crate::{Error, ErrorKind};

/// The error for a word that is none of the `known` ones.
pub(crate) fn unknown(what: &str, word: &str, known: &[&str]) -> Error {
    Error::new(ErrorKind::Usage, format!("unknown {what} {word:?}"))
        .hint(format!("use one of: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use crate::{ErrorKind, Phase};

    #[test]
    fn text_json_and_parsing_use_the_same_word() {
        assert_eq!(Phase::Verify.to_string(), "verify");
        assert_eq!(serde_json::to_value(Phase::Verify).unwrap(), "verify");
        assert_eq!("verify".parse::<Phase>().unwrap(), Phase::Verify);
        assert_eq!(serde_json::from_str::<Phase>("\"verify\"").unwrap(), Phase::Verify);
        assert_eq!(format!("{:>8}", ErrorKind::Host), "    host");
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_known_ones() {
        let error = "proof".parse::<Phase>().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (ErrorKind::Usage, "unknown phase \"proof\"")
        );
        assert_eq!(error.next_step(), Some("use one of: read, scan, wipe, write, verify, finish"));
        assert!(serde_json::from_str::<Phase>("\"proof\"").is_err());
    }
}
