//! Host names as clients send them.

/// The most bytes of a `Host` value: 253 of a name, brackets, port.
const MAX_HOST: usize = 270;

/// A `Host` value in the form routes are looked up by: lower case, no port, no final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct FoldedHost(String);

impl FoldedHost {
    /// Folds `value`, `uri-host [ ":" port ]` of RFC 9110 §7.2, restricted to what can be a route or
    /// an address. `None` if it is not that.
    pub(in crate::proxy) fn parse(value: &str) -> Option<Self> {
        if value.len() > MAX_HOST {
            return None;
        }
        let (name, port) = split_port(value)?;
        if !port.bytes().all(|c| c.is_ascii_digit()) || port.len() > 5 {
            return None;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let bracketed = name.starts_with('[');
        let allowed = |c: u8| match bracketed {
            true => c.is_ascii_hexdigit() || b":.[]".contains(&c),
            false => c.is_ascii_alphanumeric() || b"-._~".contains(&c),
        };
        name.bytes().all(allowed).then(|| Self(name.to_ascii_lowercase()))
    }

    pub(in crate::proxy) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Splits `host[:port]`; an IPv6 address must be in brackets.
fn split_port(value: &str) -> Option<(&str, &str)> {
    let name_end = match value.starts_with('[') {
        true => value.find(']')? + 1,
        false => value.find(':').unwrap_or(value.len()),
    };
    let (name, rest) = value.split_at(name_end);
    match rest {
        "" => Some((name, "")),
        _ => Some((name, rest.strip_prefix(':')?)),
    }
}

/// The authority and the origin form of an absolute-form target (`http://host/path`), or `None` for
/// another scheme, user information or an empty host (RFC 9112 §3.2.2, RFC 9110 §4.2.4).
pub(in crate::proxy) fn split_absolute(target: &str) -> Option<(&str, String)> {
    let rest = strip_scheme(target, "http://").or_else(|| strip_scheme(target, "https://"))?;
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Some((authority, format!("{slash}{path}")))
}

fn strip_scheme<'t>(target: &'t str, scheme: &str) -> Option<&'t str> {
    let start = target.get(..scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
}
