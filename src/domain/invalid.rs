//! The refusal of a value that breaks a rule.

/// A value that a rule of the domain refuses, and why; the sentence is meant for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` {why}")]
pub struct Invalid {
    /// The kind of value: `app name`, `memory limit`.
    pub what: &'static str,
    /// What was given, shortened if long.
    pub value: String,
    /// The rule, as the rest of a sentence: `must start with a lowercase letter or digit`.
    pub why: String,
}

/// How much of a refused value is repeated back.
const SHOWN_CHARS: usize = 80;

impl Invalid {
    /// A refusal of `value`.
    pub fn new(what: &'static str, value: &str, why: impl Into<String>) -> Self {
        let shown: String =
            value.chars().take(SHOWN_CHARS).flat_map(char::escape_default).collect();
        Self { what, value: shown, why: why.into() }
    }
}

/// Serde through `FromStr` and `Display`, so that stored and received text obeys the same rules.
/// Its schema is text, of a pattern (ECMA-262) and a length if they are given.
macro_rules! text_serde {
    ($type:ty) => {
        $crate::domain::invalid::text_serde!($type, "", 65_536);
    };
    ($type:ty, $pattern:literal, $max:literal) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match $pattern {
                    "" => schemars::json_schema!({ "type": "string" }),
                    pattern => {
                        schemars::json_schema!({ "type": "string", "pattern": pattern, "maxLength": $max })
                    },
                }
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(super) use text_serde;
