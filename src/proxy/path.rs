//! Reading the path of a request so that a prefix means the same to us and to apps.
//!
//! Where a host has routes below paths, a path is matched in its normal form (RFC 3986 §6.2.2), and
//! forwarded in that form. Some apps read more into a path than the RFC does: encoded slashes,
//! backslashes, empty segments, parameters. A path that such a reading would take to another route
//! is nobody's mistake; it is refused.

use std::borrow::Cow;

/// How often encodings are undone for the loose reading: `%252e` is a dot to two decoders in a row.
const MAX_ROUNDS: usize = 3;

/// The path of a request target, and the query with its `?`.
pub(super) fn split(target: &str) -> (&str, &str) {
    target.split_at(memchr::memchr(b'?', target.as_bytes()).unwrap_or(target.len()))
}

/// Whether `path` begins with `prefix`, segment by segment. The prefix has no final slash; `""` is
/// the root.
pub(super) fn is_below(path: &str, prefix: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Whether all readers see the same in `path`: it is its own normal and loose form.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let special = |c: &u8| matches!(c, b'%' | b'\\' | b';');
    !bytes.iter().any(special)
        && memchr::memmem::find(bytes, b"//").is_none()
        && memchr::memmem::find(bytes, b"/.").is_none()
}

/// The normal form: unreserved characters unencoded, dot segments removed.
pub(super) fn normalize(path: &str) -> Cow<'_, str> {
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    let decoded = decode(path.as_bytes(), |c| c.is_ascii_alphanumeric() || b"-._~".contains(&c));
    // Nothing but ASCII was decoded, so it is as good text as it was.
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    Cow::Owned(remove_dot_segments(&decoded))
}

/// What the loosest reader makes of it.
pub(super) fn loosen(path: &str) -> Cow<'_, str> {
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..MAX_ROUNDS {
        bytes = decode(&bytes, |_| true);
    }
    let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
    let mut loose = String::with_capacity(text.len());
    for segment in text.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        if !name.is_empty() {
            loose.push('/');
            loose.push_str(name);
        }
    }
    Cow::Owned(remove_dot_segments(&loose))
}

/// Undoes the encodings of those characters that `wanted` names.
fn decode(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let encoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match encoded {
            Some(c) if wanted(c) => {
                decoded.push(c);
                rest = &after[2..];
            }
            _ => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986 §5.2.4, for an absolute path.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in path.split('/').skip(1) {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for segment in &kept {
        clean.push('/');
        clean.push_str(segment);
    }
    if open || clean.is_empty() {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_segments() {
        assert!(
            is_below("/api", "/api") && is_below("/api/", "/api") && is_below("/api/x", "/api")
        );
        assert!(!is_below("/apix", "/api") && !is_below("/ap", "/api") && !is_below("/", "/api"));
        assert!(is_below("/", "") && is_below("/x", ""));
    }

    #[test]
    fn a_path_has_one_normal_form() {
        for (path, normal) in [
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61pi/./x", "/api/x"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a//b", "/a//b"),
            ("/a%2fb%3F", "/a%2fb%3F"),
            ("/.well-known/x", "/.well-known/x"),
            ("/%", "/%"),
            ("/%2", "/%2"),
            ("/é%C3%A9", "/é%C3%A9"),
        ] {
            assert_eq!(normalize(path), normal, "{path}");
            assert_eq!(normalize(&normalize(path)), normal, "{path} again");
        }
    }

    #[test]
    fn the_loosest_reader_is_foreseen() {
        for path in [
            "//admin",
            "/x/..%2fadmin",
            "/x/..%5Cadmin",
            "/x\\..\\admin",
            "/x/..;/admin",
            "/%2561dmin",
            "/x/%252e%252e/admin",
            "/admin;v=1",
            "/%2fadmin",
            "/./admin/",
        ] {
            assert!(is_below(&loosen(path), "/admin"), "{path} is read as {}", loosen(path));
        }
        assert_eq!(loosen("/plain/path"), "/plain/path");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_readers(path in "/[%2eEfF./;\\\\a5é]{0,24}") {
            let normal = normalize(&path);
            proptest::prop_assert!(normal.starts_with('/'));
            proptest::prop_assert!(!normal.split('/').any(|s| s == "." || s == ".."), "{}", normal);
            let loose = loosen(&path);
            proptest::prop_assert!(!loose.split('/').any(|s| s == "." || s == ".."), "{}", loose);
        }
    }
}
