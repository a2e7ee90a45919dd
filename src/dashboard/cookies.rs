//! Cookies: names, what is read of them, how they are set.

use axum::http::{HeaderMap, HeaderValue, header};

/// How long the sentence after a form waits for its page, seconds.
const FLASH_LIFE: u32 = 60;

/// Which cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// The session's secret.
    Session,
    /// What ties the sign-in form to the browser that was shown it.
    Visitor,
    /// What a form has done, for the page that comes next.
    Flash,
}

impl Cookie {
    /// With the prefix `__Host-` no other host and no plain connection can set it (RFC 6265bis
    /// §4.1.3.2); it needs `Secure`, which browsers ignore over plain HTTP.
    fn name(self, https: bool) -> &'static str {
        match (self, https) {
            (Self::Session, true) => "__Host-staithe",
            (Self::Session, false) => "staithe",
            (Self::Visitor, true) => "__Host-staithe-visitor",
            (Self::Visitor, false) => "staithe-visitor",
            (Self::Flash, true) => "__Host-staithe-flash",
            (Self::Flash, false) => "staithe-flash",
        }
    }

    /// Its value in a request; none if there is none, or more than one: another host of the same
    /// site may have added it.
    pub(super) fn of(self, headers: &HeaderMap, https: bool) -> Option<String> {
        let mut values = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.name(https))
            .map(|(_, value)| value.to_owned());
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The header that sets it; an empty value takes it away. Values are base64url.
    pub(super) fn set(self, value: &str, https: bool) -> Option<HeaderValue> {
        let secure = if https { "; Secure" } else { "" };
        let life = match (value, self) {
            ("", _) => "; Max-Age=0".to_owned(),
            (_, Self::Flash) => format!("; Max-Age={FLASH_LIFE}"),
            (_, Self::Session | Self::Visitor) => String::new(),
        };
        let name = self.name(https);
        HeaderValue::from_str(&format!(
            "{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{life}"
        ))
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_back_and_doubles_are_not() {
        let mut headers = HeaderMap::new();
        headers
            .insert(header::COOKIE, HeaderValue::from_static("a=b; staithe=x; __Host-staithe=y"));
        assert_eq!(Cookie::Session.of(&headers, false).as_deref(), Some("x"));
        assert_eq!(Cookie::Session.of(&headers, true).as_deref(), Some("y"));
        assert_eq!(Cookie::Visitor.of(&headers, true), None);
        headers.append(header::COOKIE, HeaderValue::from_static("staithe=z"));
        assert_eq!(Cookie::Session.of(&headers, false), None);
        assert_eq!(
            Cookie::Session.set("s", true).unwrap(),
            "__Host-staithe=s; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            Cookie::Flash.set("", false).unwrap(),
            "staithe-flash=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        );
    }
}
