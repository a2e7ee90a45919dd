//! What the proxy answers itself: what happened, whose fault it is, what to do next.

use serde::Serialize;

use crate::domain::Scheme;

use super::PageOccasion;
use super::admission::Answer;
use super::http::request::{Refusal, Wants};
use super::router::Target;

/// A page the proxy answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// No app has the host. Says nothing about the hosts there are.
    UnknownHost,
    /// The host is an app's, but not on this connection (RFC 9110 §15.5.20).
    Misdirected,
    /// The app's owner does not want this client.
    Forbidden,
    /// The app's owner wants to know who it is.
    Unauthorized,
    /// The app is in maintenance.
    Maintenance,
    /// The app was stopped.
    Stopped,
    /// The app's instances crash.
    Crashed,
    /// The app's first deploy is not done.
    Deploying,
    /// The app has as many requests open as its owner allows.
    Busy,
    /// No instance takes connections.
    Unreachable,
    /// The instance hung up without an answer.
    Closed,
    /// The instance's answer is not HTTP.
    BadResponse,
    /// The instance took too long.
    Timeout,
    /// The client took too long with its request.
    RequestTimeout,
    /// The request's body is broken.
    BadBody,
    /// The request's body is longer than the app takes.
    BodyTooLarge,
    /// Plain HTTP on an HTTPS port.
    PlainHttp,
    /// The request was refused before it had a destination.
    Refused(Refusal),
}

/// The codes of all pages, and of clients that left: what errors are counted by.
pub(super) const CODES: [&str; 23] = [
    "app-bad-response",
    "app-busy",
    "app-closed-connection",
    "app-crashed",
    "app-deploying",
    "app-maintenance",
    "app-stopped",
    "app-timeout",
    "app-unreachable",
    "bad-body",
    "bad-request",
    "body-too-large",
    super::record::CLIENT_LEFT_CODE,
    "connect-refused",
    "forbidden",
    "head-too-large",
    "http-version",
    "misdirected",
    "plain-http",
    "request-timeout",
    "transfer-coding",
    "unauthorized",
    "unknown-host",
];

/// Whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fault {
    /// The request, or who sent it.
    Client,
    /// The app, or whoever runs it.
    App,
    /// Staithe, or the machine.
    Platform,
}

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::App => "app",
            Self::Platform => "platform",
        }
    }
}

/// For whom an answer of ours is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) wants: Wants,
    pub(super) request_id: &'a str,
    /// Whose page it is.
    pub(super) target: Option<&'a Target>,
    /// How the client came.
    pub(super) scheme: Scheme,
}

/// A page before it is rendered.
#[derive(Debug, Serialize)]
struct Content {
    status: u16,
    code: &'static str,
    fault: Fault,
    title: &'static str,
    message: String,
    hint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u32>,
}

/// An answer of ours before it is framed.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    /// What went wrong, for the log; `None` for what is no error.
    pub(super) code: Option<&'static str>,
    pub(super) body: String,
    content_type: &'static str,
    fault: Option<Fault>,
    retry_after_s: Option<u32>,
    location: Option<String>,
    /// The value of `WWW-Authenticate`.
    challenge: Option<String>,
    hsts: Option<Box<str>>,
    /// The text is the app's own, scripts and pictures and all.
    is_custom: bool,
}

impl Rendered {
    fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            reason: reason(status),
            code: None,
            body,
            content_type,
            fault: None,
            retry_after_s: None,
            location: None,
            challenge: None,
            hsts: None,
            is_custom: false,
        }
    }

    /// Names and values of its header fields, but for date and framing.
    pub(super) fn fields(&self, request_id: &str, mut each: impl FnMut(&'static str, &str)) {
        each("Content-Type", self.content_type);
        each("X-Request-Id", request_id);
        each("Cache-Control", "no-store");
        each("X-Content-Type-Options", "nosniff");
        if !self.is_custom {
            each("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
        }
        if let (Some(code), Some(fault)) = (self.code, self.fault) {
            each("X-Staithe-Error", code);
            each("X-Staithe-Fault", fault.as_str());
        }
        if let Some(seconds) = self.retry_after_s {
            each("Retry-After", &seconds.to_string());
        }
        if let Some(location) = &self.location {
            each("Location", location);
        }
        if let Some(challenge) = &self.challenge {
            each("WWW-Authenticate", challenge);
        }
        if let Some(hsts) = &self.hsts {
            each("Strict-Transport-Security", hsts);
        }
    }
}

impl Answer {
    /// Makes the answer what `reader` gets.
    pub(super) fn render(&self, reader: &Reader<'_>) -> Rendered {
        let text = "text/plain; charset=utf-8";
        let mut rendered = match self {
            Self::Page(page) => page.render(reader),
            Self::Redirect { status, location } => Rendered {
                location: Some(location.clone()),
                ..Rendered::new(*status, text, format!("See {location}\n"))
            },
            // RFC 8555 §8.3.
            Self::Challenge(authorization) => {
                Rendered::new(200, "application/octet-stream", authorization.clone())
            }
        };
        if reader.scheme == Scheme::Https {
            let hsts = reader.target.and_then(|target| target.settings.hsts.as_ref());
            rendered.hsts = hsts.cloned();
        }
        rendered
    }
}

const HTML: &str = "text/html; charset=utf-8";

const TEMPLATE: &str = include_str!("../../templates/proxy/page.html");

impl Page {
    /// Renders the page in the form the client wants, naming the request.
    pub(super) fn render(&self, reader: &Reader<'_>) -> Rendered {
        // Pages that name the app are only those of a target.
        let app = reader.target.map_or("<app>", |target| target.app.as_str());
        let content = self.content(app);
        let request_id = reader.request_id;
        let own = self.occasion().filter(|_| reader.wants == Wants::Html);
        let own = own.and_then(|occasion| reader.target?.settings.page(occasion));
        let (content_type, body) = match (own, reader.wants) {
            (Some(own), _) => (HTML, own.replace("{{request_id}}", &escape(request_id))),
            (None, Wants::Html) => (HTML, content.html(request_id)),
            (None, Wants::Json) => ("application/json", content.json(request_id)),
            (None, Wants::Text) => ("text/plain; charset=utf-8", content.text(request_id)),
        };
        Rendered {
            code: Some(content.code),
            fault: Some(content.fault),
            retry_after_s: content.retry_after_s,
            // RFC 7617 §2; names of apps need no escape in a quoted string.
            challenge: (*self == Self::Unauthorized)
                .then(|| format!("Basic realm=\"{app}\", charset=\"UTF-8\"")),
            is_custom: own.is_some(),
            ..Rendered::new(content.status, content_type, body)
        }
    }

    /// When apps may show a page of their own instead.
    fn occasion(self) -> Option<PageOccasion> {
        match self {
            Self::Maintenance => Some(PageOccasion::Maintenance),
            Self::Stopped | Self::Crashed | Self::Deploying | Self::Busy => {
                Some(PageOccasion::Unavailable)
            }
            Self::Unreachable | Self::Closed | Self::BadResponse | Self::Timeout => {
                Some(PageOccasion::Error)
            }
            _ => None,
        }
    }

    /// The code, as in the access log.
    pub(super) fn code(&self) -> &'static str {
        self.content("").code
    }

    fn content(&self, app: &str) -> Content {
        match self {
            Self::UnknownHost
            | Self::Misdirected
            | Self::PlainHttp
            | Self::Forbidden
            | Self::Unauthorized
            | Self::RequestTimeout
            | Self::BadBody
            | Self::BodyTooLarge => self.client_content(),
            Self::Refused(refusal) => refused_page(*refusal),
            Self::Unreachable | Self::Closed | Self::BadResponse | Self::Timeout => {
                self.failure_content(app)
            }
            Self::Maintenance | Self::Stopped | Self::Crashed | Self::Deploying | Self::Busy => {
                self.state_content(app)
            }
        }
    }

    /// The app is as its owner wants it, or was left.
    fn state_content(&self, app: &str) -> Content {
        match self {
            Self::Maintenance => app_page(
                (503, "app-maintenance", "This app is in maintenance"),
                "Its owner works on it and will bring it back.",
                format!("If it is yours: staithe maintenance:off {app}"),
                Some(300),
            ),
            Self::Stopped => app_page(
                (503, "app-stopped", "This app is stopped"),
                "Its owner has stopped it.",
                format!("If it is yours, start it: staithe ps:start {app}"),
                Some(60),
            ),
            Self::Busy => app_page(
                (503, "app-busy", "This app is busy"),
                "It has as many requests open as it takes.",
                format!(
                    "Try again in a moment. If it is yours: staithe proxy:report {app}, max-open-requests"
                ),
                Some(2),
            ),
            Self::Deploying => Content {
                fault: Fault::Platform,
                ..app_page(
                    (503, "app-deploying", "This app is being deployed"),
                    "It will be here in a moment.",
                    format!(
                        "If it is yours and nothing was pushed yet: git push staithe main, to the remote of {app}"
                    ),
                    Some(3),
                )
            },
            _ => app_page(
                (503, "app-crashed", "This app has crashed"),
                "It ends as soon as it is started.",
                format!("If it is yours, read why: staithe logs {app}"),
                Some(30),
            ),
        }
    }

    /// An instance was asked and failed.
    fn failure_content(&self, app: &str) -> Content {
        match self {
            Self::Unreachable => app_page(
                (502, "app-unreachable", "This app does not take connections"),
                "It runs, but nothing listens on its port.",
                format!(
                    "If it is yours: does it listen on all addresses at $PORT? staithe logs {app}"
                ),
                None,
            ),
            Self::BadResponse => app_page(
                (502, "app-bad-response", "This app's answer makes no sense"),
                "What it sent is not a valid HTTP response.",
                format!("If it is yours, read staithe proxy:logs {app}, and staithe logs {app}"),
                None,
            ),
            Self::Timeout => app_page(
                (504, "app-timeout", "This app does not answer"),
                "It took the request and then too long.",
                format!("Try again later. If it is yours: staithe logs {app}"),
                None,
            ),
            _ => app_page(
                (502, "app-closed-connection", "This app hung up"),
                "It closed the connection before it answered.",
                format!("If it is yours, read why: staithe logs {app}"),
                None,
            ),
        }
    }

    /// The request cannot be served, whatever the app does.
    fn client_content(&self) -> Content {
        match self {
            Self::Misdirected => client_page(
                (421, "misdirected", "This request took a wrong turn"),
                "This connection is not one for the name that was asked for.",
                "Ask again: a new connection will do.",
            ),
            Self::PlainHttp => client_page(
                (400, "plain-http", "This port speaks HTTPS"),
                "The request came without encryption.",
                "Use https:// in the address.",
            ),
            Self::Forbidden => client_page(
                (403, "forbidden", "You may not come in from here"),
                "Your address is not one that this site serves.",
                "Whoever runs it decides about that.",
            ),
            Self::Unauthorized => client_page(
                (401, "unauthorized", "Who are you?"),
                "This site asks for a name and a password, and none that it knows was given.",
                "Whoever runs it gives them out.",
            ),
            Self::RequestTimeout => client_page(
                (408, "request-timeout", "The request took too long"),
                "It did not arrive whole in time.",
                "Check the connection and send it again.",
            ),
            Self::BadBody => client_page(
                (400, "bad-body", "The request cannot be read"),
                "Its body breaks its own framing.",
                "The program that sent it is at fault.",
            ),
            Self::BodyTooLarge => client_page(
                (413, "body-too-large", "That is too much"),
                "The request's body is longer than this site takes.",
                "Send less at once.",
            ),
            _ => client_page(
                (404, "unknown-host", "There is nothing here"),
                "No app answers to this name.",
                "Check the address. If you have just added the domain, it may take a moment.",
            ),
        }
    }
}

type Heading = (u16, &'static str, &'static str);

fn app_page(heading: Heading, message: &str, hint: String, retry: Option<u32>) -> Content {
    let (status, code, title) = heading;
    let message = message.to_owned();
    Content { status, code, fault: Fault::App, title, message, hint, retry_after_s: retry }
}

fn client_page(heading: Heading, message: &str, hint: &str) -> Content {
    let (status, code, title) = heading;
    let (message, hint) = (message.to_owned(), hint.to_owned());
    Content { status, code, fault: Fault::Client, title, message, hint, retry_after_s: None }
}

fn refused_page(refusal: Refusal) -> Content {
    const TITLE: &str = "The request cannot be served";
    match refusal {
        Refusal::Malformed(why) => client_page(
            (400, "bad-request", "The request cannot be read"),
            &format!("As HTTP it is wrong: {why}."),
            "The program that sent it is at fault.",
        ),
        Refusal::Connect => client_page(
            (501, "connect-refused", TITLE),
            "This server is no proxy to other servers.",
            "Send the request to its destination.",
        ),
        Refusal::TooLarge => client_page(
            (431, "head-too-large", TITLE),
            "Its header fields are too many or too long.",
            "Cookies are the usual reason; clear those of this site.",
        ),
        Refusal::TransferCoding => client_page(
            (501, "transfer-coding", TITLE),
            "It uses a transfer coding other than `chunked`.",
            "Use Content-Encoding to compress a body.",
        ),
        Refusal::Version => client_page(
            (505, "http-version", TITLE),
            "Its version of HTTP is not spoken here.",
            "Use HTTP/1.1.",
        ),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

impl Content {
    fn html(&self, request_id: &str) -> String {
        // What the platform does passes by itself: look again.
        let refresh = match (self.fault, self.retry_after_s) {
            (Fault::Platform, Some(seconds)) => {
                format!("\n<meta http-equiv=\"refresh\" content=\"{seconds}\">")
            }
            _ => String::new(),
        };
        let status = self.status.to_string();
        fill(
            TEMPLATE,
            &[
                ("title", escape(self.title)),
                ("message", escape(&self.message)),
                ("hint", escape(&self.hint)),
                ("status", status),
                ("code", escape(self.code)),
                ("request_id", escape(request_id)),
                ("refresh", refresh),
            ],
        )
    }

    fn json(&self, request_id: &str) -> String {
        let mut value = serde_json::json!({ "error": self });
        value["error"]["request_id"] = request_id.into();
        format!("{value}\n")
    }

    fn text(&self, request_id: &str) -> String {
        let Self { status, code, title, message, hint, .. } = self;
        format!("{title}. {message}\n{hint}\n\n{status} {code}, request {request_id}\n")
    }
}

/// Puts values in the places of `{{name}}`; one pass, so that a value is never taken for a place.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(template.len() + 512);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        let value = values.iter().find(|(known, _)| *known == name);
        page.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// Text as HTML text or as an attribute's value in quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_escaped_and_every_place_is_filled() {
        let html = Page::Stopped.content("<script>{{code}}\"'&").html("\"><img>");
        assert!(!html.contains("<script>") && !html.contains("<img>"), "{html}");
        assert!(html.contains("&lt;script&gt;{{code}}&quot;&#39;&amp;"), "{html}");
        assert_eq!(html.matches("{{").count(), 1, "{html}");
    }

    #[test]
    fn json_and_text_say_the_same() {
        let content = Page::Stopped.content("shop");
        let value: serde_json::Value = serde_json::from_str(&content.json("id-1")).unwrap();
        assert_eq!(value["error"]["code"], "app-stopped");
        assert_eq!(value["error"]["fault"], "app");
        assert_eq!(value["error"]["request_id"], "id-1");
        assert_eq!(
            content.text("id-1"),
            "This app is stopped. Its owner has stopped it.\nIf it is yours, start it: staithe ps:start shop\n\n503 app-stopped, request id-1\n"
        );
    }

    #[test]
    fn every_page_has_a_code_that_is_counted() {
        let refusals = [
            Refusal::Malformed("x"),
            Refusal::Connect,
            Refusal::TooLarge,
            Refusal::TransferCoding,
            Refusal::Version,
        ];
        let pages = [
            Page::UnknownHost,
            Page::Misdirected,
            Page::PlainHttp,
            Page::Forbidden,
            Page::Unauthorized,
            Page::Maintenance,
            Page::Stopped,
            Page::Crashed,
            Page::Deploying,
            Page::Busy,
            Page::Unreachable,
            Page::Closed,
            Page::BadResponse,
            Page::Timeout,
            Page::RequestTimeout,
            Page::BadBody,
            Page::BodyTooLarge,
        ];
        let codes: std::collections::BTreeSet<_> =
            pages.into_iter().chain(refusals.map(Page::Refused)).map(|page| page.code()).collect();
        // All but that of clients that left.
        assert_eq!(codes.len(), CODES.len() - 1);
        assert!(codes.iter().all(|code| CODES.contains(code)), "{codes:?}");
        assert!(CODES.is_sorted());
    }

    #[test]
    fn only_a_deploy_reloads_itself() {
        let refreshes =
            |page: Page| page.content("shop").html("x").contains("http-equiv=\"refresh\"");
        assert!(refreshes(Page::Deploying));
        assert!(!refreshes(Page::Stopped));
        assert!(!refreshes(Page::UnknownHost));
    }
}
