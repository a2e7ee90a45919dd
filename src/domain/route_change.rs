//! What a plugin may change about how an app is reached.

use std::num::NonZeroU32;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Credential, IpRange};

/// The most users of one site: every request with a name has all of them looked through.
pub const MAX_CREDENTIALS: usize = 100;

/// The most networks in one list.
const MAX_RANGES: usize = 1000;

/// The answer of a plugin's `routes` hook for one app. It only ever closes: nobody is let in by it
/// who would not be without it, but for those who skip the passwords that it asks for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteChange {
    /// Who may come in with a password (RFC 7617); without any, none is asked for.
    #[serde(deserialize_with = "at_most::<_, _, MAX_CREDENTIALS>")]
    pub basic_auth: Vec<Credential>,
    /// Who may come in without one all the same.
    #[serde(deserialize_with = "at_most::<_, _, MAX_RANGES>")]
    pub basic_auth_bypass: Vec<IpRange>,
    /// Clients that are served; empty: no change.
    #[serde(deserialize_with = "at_most::<_, _, MAX_RANGES>")]
    pub allow_ips: Vec<IpRange>,
    /// Clients that are not.
    #[serde(deserialize_with = "at_most::<_, _, MAX_RANGES>")]
    pub deny_ips: Vec<IpRange>,
    /// Turns maintenance on.
    pub maintenance: bool,
    /// Requests open at once.
    pub max_open_requests: Option<NonZeroU32>,
}

fn at_most<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    match list.len() > MOST {
        true => Err(D::Error::custom(format!("{} entries, more than {MOST}", list.len()))),
        false => Ok(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let read = |json: &str| serde_json::from_str::<RouteChange>(json);
        let change = read(r#"{"allow_ips":["10.0.0.0/8"],"max_open_requests":3}"#).unwrap();
        assert_eq!(change.allow_ips, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!((change.max_open_requests, change.maintenance), (NonZeroU32::new(3), false));
        assert_eq!(read("{}").unwrap(), RouteChange::default());
        for (json, why) in [
            (r#"{"alow_ips":[]}"#, "unknown field `alow_ips`"),
            (r#"{"allow_ips":["shop"]}"#, "must be an address"),
            (r#"{"basic_auth":[{"user":"ada"}]}"#, "missing field `salt`"),
            (r#"{"max_open_requests":0}"#, "nonzero"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(why), "{json}: {error}");
        }
        let many = format!(r#"{{"deny_ips":[{}"::1"]}}"#, r#""::1","#.repeat(1000));
        let error = read(&many).unwrap_err().to_string();
        assert!(error.starts_with("1001 entries, more than 1000"), "{error}");
    }
}
