//! What the proxy answers itself: what happened, whose fault it is, what to do next.

use serde::Serialize;

use super::http::request::{Refusal, Wants};

/// A page the proxy answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page<'a> {
    /// No app has the host. Says nothing about the hosts there are.
    UnknownHost,
    /// The app was stopped.
    Stopped { app: &'a str },
    /// The app's instances crash.
    Crashed { app: &'a str },
    /// The app's first deploy is not done.
    Deploying { app: &'a str },
    /// No instance takes connections.
    Unreachable { app: &'a str },
    /// The instance hung up without an answer.
    Closed { app: &'a str },
    /// The instance's answer is not HTTP.
    BadResponse { app: &'a str },
    /// The instance took too long.
    Timeout { app: &'a str },
    /// The client took too long with its request.
    RequestTimeout,
    /// The request's body is broken.
    BadBody,
    /// Plain HTTP on an HTTPS port.
    PlainHttp,
    /// The host is not one of those that the connection was made for.
    Misdirected,
    /// The request was refused before it had a destination.
    Refused(Refusal),
}

/// Whose doing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Fault {
    /// The request, or who sent it.
    Client,
    /// The app, or whoever runs it.
    App,
    /// Nobody: it will pass.
    Nobody,
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

/// A page as bytes.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) code: &'static str,
    pub(super) content_type: &'static str,
    pub(super) retry_after_s: Option<u32>,
    pub(super) body: String,
}

const TEMPLATE: &str = include_str!("../../templates/proxy/page.html");

impl Page<'_> {
    /// Renders the page in the form the client wants, naming the request.
    pub(super) fn render(&self, wants: Wants, request_id: &str) -> Rendered {
        let content = self.content();
        let (content_type, body) = match wants {
            Wants::Html => ("text/html; charset=utf-8", content.html(request_id)),
            Wants::Json => ("application/json", content.json(request_id)),
            Wants::Text => ("text/plain; charset=utf-8", content.text(request_id)),
        };
        Rendered {
            status: content.status,
            reason: reason(content.status),
            code: content.code,
            content_type,
            retry_after_s: content.retry_after_s,
            body,
        }
    }

    /// The code, as in the access log.
    pub(super) fn code(&self) -> &'static str {
        self.content().code
    }

    fn content(&self) -> Content {
        match self {
            Self::Stopped { app } => app_page(
                (503, "app-stopped", "This app is stopped"),
                "Its owner has stopped it.",
                format!("If it is yours, start it: staithe ps:start {app}"),
                Some(60),
            ),
            Self::Crashed { app } => app_page(
                (503, "app-crashed", "This app has crashed"),
                "It ends as soon as it is started.",
                format!("If it is yours, read why: staithe logs {app}"),
                Some(30),
            ),
            Self::Deploying { app } => Content {
                fault: Fault::Nobody,
                ..app_page(
                    (503, "app-deploying", "This app is being deployed"),
                    "It will be here in a moment.",
                    format!(
                        "If it is yours and nothing was pushed yet: git push staithe main, to the remote of {app}"
                    ),
                    Some(3),
                )
            },
            Self::Unreachable { app } => app_page(
                (502, "app-unreachable", "This app does not take connections"),
                "It runs, but nothing listens on its port.",
                format!(
                    "If it is yours: does it listen on all addresses at $PORT? staithe logs {app}"
                ),
                None,
            ),
            Self::Closed { app } => app_page(
                (502, "app-closed-connection", "This app hung up"),
                "It closed the connection before it answered.",
                format!("If it is yours, read why: staithe logs {app}"),
                None,
            ),
            Self::BadResponse { app } => app_page(
                (502, "app-bad-response", "This app's answer makes no sense"),
                "What it sent is not a valid HTTP response.",
                format!("If it is yours, read the proxy's access log, and staithe logs {app}"),
                None,
            ),
            Self::Timeout { app } => app_page(
                (504, "app-timeout", "This app does not answer"),
                "It took the request and then too long.",
                format!("Try again later. If it is yours: staithe logs {app}"),
                None,
            ),
            Self::UnknownHost => client_page(
                (404, "unknown-host", "There is nothing here"),
                "No app answers to this name.",
                "Check the address. If you have just added the domain, it may take a moment.",
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
            Self::PlainHttp => plain_http_page(),
            Self::Misdirected => misdirected_page(),
            Self::Refused(refusal) => refused_page(*refusal),
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

fn plain_http_page() -> Content {
    client_page(
        (400, "plain-http", "This port speaks HTTPS"),
        "The request came without encryption.",
        "Use https:// in the address.",
    )
}

fn misdirected_page() -> Content {
    client_page(
        (421, "misdirected", "The request is on the wrong connection"),
        "The connection was made for another name.",
        "The program that sent it should connect anew.",
    )
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
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
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
        // Nobody's fault passes by itself: look again.
        let refresh = match (self.fault, self.retry_after_s) {
            (Fault::Nobody, Some(seconds)) => {
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
        let page = Page::Stopped { app: "<script>{{code}}\"'&" };
        let html = page.render(Wants::Html, "\"><img>").body;
        assert!(!html.contains("<script>") && !html.contains("<img>"), "{html}");
        assert!(html.contains("&lt;script&gt;{{code}}&quot;&#39;&amp;"), "{html}");
        assert_eq!(html.matches("{{").count(), 1, "{html}");
    }

    #[test]
    fn json_and_text_say_the_same() {
        let page = Page::Stopped { app: "shop" };
        let json = page.render(Wants::Json, "id-1").body;
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["error"]["code"], "app-stopped");
        assert_eq!(value["error"]["fault"], "app");
        assert_eq!(value["error"]["request_id"], "id-1");
        let text = page.render(Wants::Text, "id-1").body;
        assert_eq!(
            text,
            "This app is stopped. Its owner has stopped it.\nIf it is yours, start it: staithe ps:start shop\n\n503 app-stopped, request id-1\n"
        );
    }

    #[test]
    fn only_a_deploy_reloads_itself() {
        let refreshes =
            |page: Page<'_>| page.render(Wants::Html, "x").body.contains("http-equiv=\"refresh\"");
        assert!(refreshes(Page::Deploying { app: "shop" }));
        assert!(!refreshes(Page::Stopped { app: "shop" }));
        assert!(!refreshes(Page::UnknownHost));
    }
}
