//! The dashboard's door: who gets in, what a foreign page cannot do, and that text stays text.

use crate::support::Staithe;
use crate::support::http::{Answer, exchange};

const HOST: &str = "box.test:7070";

/// A browser of sorts: one cookie jar.
struct Visitor<'a> {
    staithe: &'a Staithe,
    cookies: Vec<(String, String)>,
    agent: &'static str,
}

impl<'a> Visitor<'a> {
    fn new(staithe: &'a Staithe) -> Self {
        Self { staithe, cookies: Vec::new(), agent: "test" }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nUser-Agent: {}\r\n\
             Cookie: {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.agent,
            cookies.join("; "),
            body.len(),
        );
        let answer = exchange(self.staithe.web(), &request).unwrap();
        for line in answer.head.lines() {
            let Some(set) = line.strip_prefix("set-cookie: ") else { continue };
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// Posts a form that has the token of the page at `from`.
    fn post(&mut self, from: &str, path: &str, fields: &str) -> Answer {
        let token = token(&self.get(from));
        self.post_raw(path, "", &format!("_csrf={token}&{fields}"))
    }

    fn post_raw(&mut self, path: &str, headers: &str, body: &str) -> Answer {
        let headers = format!("Content-Type: application/x-www-form-urlencoded\r\n{headers}");
        self.ask("POST", path, &headers, body)
    }

    fn session(&self) -> Option<&str> {
        let mut found = self.cookies.iter().filter(|(name, _)| name == "staithe");
        found.next().map(|(_, value)| value.as_str())
    }

    fn signs_in(mut self, secret: &str) -> Self {
        let answer = self.post("/sign-in", "/sign-in", &format!("secret={secret}"));
        assert_eq!(answer.status, 303, "{answer:?}");
        self
    }
}

fn token(page: &Answer) -> String {
    let mark = "name=\"_csrf\" value=\"";
    let at = page.body.find(mark).unwrap_or_else(|| panic!("no form in {page:?}")) + mark.len();
    page.body[at..].split('"').next().unwrap().to_owned()
}

fn code(staithe: &Staithe, arguments: &[&str]) -> String {
    let all = [&["dashboard:login", "--format", "json"], arguments].concat();
    let answer = staithe.cli(&all).succeeds().stdout;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["code"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_begins_anew_is_kept_from_scripts_and_ends() {
    let staithe = Staithe::start_bare();
    let mut visitor = Visitor::new(&staithe);
    // A session that somebody planted beforehand is not the one that is used.
    visitor.cookies.push(("staithe".into(), "planted".into()));
    let page = visitor.get("/sign-in").is(200, "One-time code");
    for header in ["content-security-policy", "x-content-type-options", "x-frame-options"] {
        assert!(page.header(header).is_some(), "{header} is missing: {page:?}");
    }
    assert_eq!(page.header("cache-control").as_deref(), Some("no-store"));
    assert!(!page.body.contains("<style") && !page.body.contains(" style="), "{page:?}");

    let code = code(&staithe, &[]);
    let answer = visitor.post("/sign-in", "/sign-in", &format!("secret={code}&next=//evil.test"));
    assert_eq!((answer.status, answer.header("location").as_deref()), (303, Some("/")));
    assert!(answer.head.contains("; HttpOnly; SameSite=Lax"), "{answer:?}");
    assert_ne!(visitor.session(), Some("planted"));
    let log = staithe.log();
    assert!(
        !log.contains(&code) && !log.contains(visitor.session().unwrap()),
        "secrets in the log"
    );
    visitor.get("/").is(200, "Apps");

    let mut again = Visitor::new(&staithe);
    again.post("/sign-in", "/sign-in", &format!("secret={code}")).is(403, "not valid");
    assert_eq!(again.get("/events").header("location").as_deref(), Some("/sign-in?next=/events"));

    let copy = visitor.cookies.clone();
    assert_eq!(visitor.post("/", "/sign-out", "").status, 303);
    visitor.cookies = copy;
    assert_eq!(visitor.get("/").status, 303, "the session ends at the server, not in the browser");
}

#[test]
fn what_another_page_makes_the_browser_send_changes_nothing() {
    let staithe = Staithe::start_bare();
    let mut visitor = Visitor::new(&staithe).signs_in(&code(&staithe, &[]));
    let token = token(&visitor.get("/new"));
    let fields = format!("_csrf={token}&name=shop&create=1");
    for headers in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: null\r\n",
        "Origin: http://shop.box.test:7070\r\n",
    ] {
        visitor.post_raw("/new", headers, &fields).is(403, "made by another site");
        let api = visitor.ask(
            "POST",
            "/api/v1/apps",
            &format!("Content-Type: application/json\r\n{headers}"),
            "{\"name\":\"shop\"}",
        );
        api.is(403, "made by another site");
    }
    visitor.post_raw("/new", "", "name=shop").is(403, "no valid token");
    let stranger = Visitor::new(&staithe).post_raw("/new", "", &fields);
    assert_eq!(stranger.header("location").as_deref(), Some("/sign-in"));
    assert_eq!(staithe.cli(&["apps:list"]).succeeds().stdout.trim(), "");

    let origin = format!("Origin: http://{HOST}\r\n");
    assert_eq!(visitor.post_raw("/new", &origin, &fields).status, 303);
    visitor.get("/").is(200, ">shop</a>");
}

#[test]
fn guessing_is_slowed_down_and_told() {
    let staithe = Staithe::start_bare();
    let mut visitor = Visitor::new(&staithe);
    for _ in 0..5 {
        visitor
            .post("/sign-in", "/sign-in", "name=admin&password=wrong")
            .is(403, "The name or the password is wrong");
    }
    visitor.post("/sign-in", "/sign-in", "name=admin&password=wrong").is(503, "locked for another");
    // Nor does a good code help from that address, until the wait is over.
    let code = code(&staithe, &[]);
    visitor.post("/sign-in", "/sign-in", &format!("secret={code}")).is(503, "locked for another");
    let events = staithe.cli(&["events:list"]).succeeds().stdout;
    assert!(events.contains("session.locked"), "{events}");
}

#[test]
fn pages_show_what_the_visitor_may_see_and_text_as_text() {
    let staithe = Staithe::start_bare();
    for app in ["shop", "secret-app"] {
        staithe.cli(&["apps:create", app]).succeeds();
    }
    staithe.cli(&["users:add", "vera"]).succeeds();
    staithe.cli(&["access:add", "vera", "view", "shop"]).succeeds();
    let mut vera = Visitor::new(&staithe);
    vera.agent = "<script>alert(1)</script>\"'";
    let mut vera = vera.signs_in(&code(&staithe, &["--user", "vera"]));
    for page in ["/", "/events", "/palette.json", "/access"] {
        let page = vera.get(page);
        assert_eq!(page.status, 200, "{page:?}");
        assert!(!page.body.contains("secret-app"), "{page:?}");
    }
    vera.get("/apps/shop").is(200, "shop");
    vera.get("/apps/secret-app").is(404, "does not exist");
    vera.get("/host").is(403, "Not allowed");
    vera.get("/new").is(403, "Not allowed");
    vera.post("/access", "/access/users/add", "name=eve&role=admin").is(403, "Not allowed");
    vera.post("/access", "/settings/gc", "").is(403, "Not allowed");
    let sessions = vera.get("/sessions").is(200, "&lt;script&gt;alert(1)");
    assert!(!sessions.body.contains("<script>alert"), "{sessions:?}");
    vera.get("/new?name=%3Cimg%20src=x%3E");
    let filtered = vera.get("/events?kind=%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E");
    assert!(!filtered.body.contains("<img src=x"), "{filtered:?}");
    vera.get("/events?app=..%2f..%2fetc").is(422, "App name");
    vera.get("/assets/x/..%2f..%2fapp.css").is(404, "no such file");

    // A session that began with a token is no more than the token, and ends with it.
    let created =
        vera.post("/access", "/access/tokens/create", "name=ci&apps=shop&verbs=apps:*&days=1");
    let at = created.body.find("stt_").unwrap_or_else(|| panic!("{created:?}"));
    let secret: String =
        created.body[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let mut narrow = Visitor::new(&staithe).signs_in(&secret);
    narrow.get("/apps/shop").is(200, "shop");
    narrow.get("/events").is(403, "This token is not for");
    let id = secret.split('_').nth(1).unwrap();
    assert_eq!(vera.post("/access", "/access/tokens/revoke", &format!("id={id}")).status, 303);
    assert_eq!(narrow.get("/apps/shop").status, 303);
}
