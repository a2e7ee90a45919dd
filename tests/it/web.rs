//! The web door: who is let in, what is bounded, and how it refuses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Staithe;
use crate::support::http::{Answer, exchange};

fn ask(staithe: &Staithe, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: box.test\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n"
    );
    exchange(staithe.web(), &format!("{head}{body}")).unwrap()
}

fn problem(answer: &Answer, status: u16) -> serde_json::Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id").as_deref());
    problem
}

#[test]
fn who_says_not_who_they_are_is_refused_everywhere() {
    let staithe = Staithe::start();
    for (method, path) in [
        ("GET", "/api/v1/apps"),
        ("GET", "/api/v1/version"),
        ("POST", "/api/v1/apps"),
        ("GET", "/api/v1/apps/shop/config"),
        ("DELETE", "/api/v1/apps/shop"),
        ("POST", "/api/v1/gc"),
    ] {
        let answer = ask(&staithe, method, path, "", "");
        let problem = problem(&answer, 401);
        assert!(problem["hint"].as_str().unwrap().contains("Bearer"), "{problem}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{answer:?}");
    }
    // Headers of the control socket mean nothing here.
    let named = ask(&staithe, "GET", "/api/v1/apps", "X-Staithe-Actor: root\r\n", "");
    problem(&named, 401);
    let wrong = ask(&staithe, "GET", "/api/v1/apps", "Authorization: Bearer stt_1_x\r\n", "");
    assert_eq!(problem(&wrong, 401)["detail"], "the token is not valid (any more)");
    assert!(!staithe.log().contains("stt_1_x"), "a token must not be logged");
}

#[test]
fn strangers_do_not_learn_which_paths_there_are() {
    let staithe = Staithe::start();
    ask(&staithe, "GET", "/nowhere", "", "").is(404, "There is no such page");
    problem(&ask(&staithe, "GET", "/api/v1/nowhere", "", ""), 401);
    problem(&ask(&staithe, "PUT", "/api/v1/version", "", ""), 401);
    for path in ["/api/v1/ssh/exec", "/api/v1/apps/shop/pushes"] {
        problem(&ask(&staithe, "POST", path, "", "{}"), 401);
    }
}

#[test]
fn failed_tries_from_one_address_come_to_an_end() {
    let staithe = Staithe::start();
    let attempt = |from: &str| {
        let headers = format!("Authorization: Bearer nonsense\r\nX-Forwarded-For: {from}\r\n");
        ask(&staithe, "GET", "/api/v1/apps", &headers, "")
    };
    let answers: Vec<_> = (0..25).map(|_| attempt("192.0.2.7")).collect();
    assert_eq!(answers[0].status, 401);
    let last = answers.last().unwrap();
    problem(last, 429);
    assert!(last.header("retry-after").is_some(), "{last:?}");
    assert_eq!(attempt("192.0.2.8").status, 401, "others may try");
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let staithe = Staithe::start();
    let mut stream = TcpStream::connect(staithe.web()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    // The server may hang up before all of it is written.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
}
