//! Certificates, by hand and from an authority that speaks ACME.

mod by_hand;
mod ocsp;
mod world;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Staithe, eventually};
use world::{Authority, Habits};

const ORDER: Duration = Duration::from_secs(60);

/// A Staithe with the app `shop`, which answers at `shop.test`, and an e-mail address.
fn shop(authority: &Authority, settings: &[&str]) -> Staithe {
    let staithe = authority.staithe(settings);
    staithe.cli(&["apps:create", "shop"]).succeeds();
    staithe
}

/// Sets the address without having anything ordered by itself: the test says when.
fn with_email(staithe: &Staithe) {
    staithe.cli(&["letsencrypt:disable", "shop"]).succeeds();
    staithe.cli(&["letsencrypt:set", "shop", "email", "ops@example.com"]).succeeds();
}

/// What is known of a domain of `shop`.
fn domain(staithe: &Staithe, name: &str) -> Value {
    let report = staithe.json(&["letsencrypt:report", "shop"]);
    let domains = report["domains"].as_array().unwrap();
    domains.iter().find(|domain| domain["domain"] == name).cloned().unwrap_or_default()
}

/// The id of the certificate that a domain of `shop` shows.
fn shown(staithe: &Staithe, name: &str) -> Value {
    let report = staithe.json(&["certs:report", "shop"]);
    let domains = report["domains"].as_array().unwrap();
    let found = domains.iter().find(|domain| domain["domain"] == name);
    found.map(|domain| domain["certificate"].clone()).unwrap_or_default()
}

#[test]
fn without_an_address_nothing_is_ordered_and_the_user_is_told_what_to_do() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &[]);
    staithe
        .cli(&["letsencrypt:enable", "shop"])
        .fails_with(4)
        .says("there is no e-mail address")
        .says("agrees to the authority's terms of service");
    staithe.cli(&["letsencrypt:active", "shop"]).succeeds().says("false");
}

#[test]
fn an_app_gets_certificates_over_http_and_keeps_them_and_the_account_over_a_restart() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &[]);
    staithe.cli(&["domains:add", "shop", "www.shop.test"]).succeeds();
    with_email(&staithe);
    let enabled = staithe.cli(&["letsencrypt:enable", "shop"]);
    enabled.succeeds().says("Ordering a certificate for www.shop.test").says("valid until");
    for name in ["shop.test", "www.shop.test"] {
        authority.visit(name).succeeds();
    }
    staithe.cli(&["letsencrypt:active", "shop"]).succeeds().says("true");
    staithe.cli(&["letsencrypt:list"]).succeeds().says("shop.test");
    let again = staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    again.says("has a certificate until").says("0 new, 2 as before");

    let accounts = staithe.data_dir().join("keys/acme");
    let account = |what: &str| {
        let files: Vec<_> = std::fs::read_dir(&accounts).unwrap().flatten().collect();
        assert_eq!(files.len(), 1, "{what}");
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::read(files[0].path()).unwrap()
    };
    let before = account("one account");
    let id = shown(&staithe, "shop.test");
    let file = staithe.data_dir().join(format!("certificates/{}.pem", id.as_str().unwrap()));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o640);
    keys_are_nowhere_else(&staithe, &std::fs::read_to_string(&file).unwrap());

    staithe.stop();
    staithe.launch();
    authority.visit("shop.test").succeeds();
    assert_eq!(shown(&staithe, "shop.test"), id);
    staithe.cli(&["--force", "letsencrypt:auto-renew", "shop"]).succeeds();
    assert_ne!(shown(&staithe, "shop.test"), id);
    assert!(!file.exists(), "the old key is still there");
    assert_eq!(account("no second account"), before);
    let table = std::fs::read_to_string(staithe.data_dir().join("proxy/routes.json")).unwrap();
    let table: Value = serde_json::from_str(&table).unwrap();
    assert_eq!(table["challenges"], json!([]), "a challenge was left behind");
}

/// A key shows neither in logs nor in the database, events or reports.
fn keys_are_nowhere_else(staithe: &Staithe, pem: &str) {
    let (_, key) = pem.split_once("PRIVATE KEY-----").unwrap();
    let secret = key.lines().nth(2).unwrap();
    assert!(secret.len() > 20);
    let data = staithe.data_dir();
    for name in ["staithe.db", "staithe.db-wal", "proxy/routes.json"] {
        let bytes = std::fs::read(data.join(name)).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(secret), "{name}");
    }
    for arguments in [&["certs:report", "shop"][..], &["letsencrypt:report", "shop"], &["events"]] {
        assert!(!staithe.cli(arguments).succeeds().stdout.contains(secret), "{arguments:?}");
    }
    assert!(!staithe.log().contains(secret));
}

#[test]
fn names_are_validated_by_a_tls_handshake_where_that_is_asked_for() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &["certificates.challenge=tls-alpn-01"]);
    with_email(&staithe);
    let enabled = staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    enabled.says("Validating by tls-alpn-01");
    authority.visit("shop.test").succeeds();
    let kept = std::fs::read_dir(staithe.data_dir().join("certificates")).unwrap().count();
    assert_eq!(kept, 1, "the challenge's certificate was left behind");
}

#[test]
fn a_wildcard_is_validated_by_the_dns_program() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &[]);
    staithe.cli(&["domains:set", "shop", "*.shop.test", "a.shop.test", "shop.test"]).succeeds();
    with_email(&staithe);
    let without = staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    without.says("*.shop.test: not asked for: a wildcard needs a DNS program");
    staithe.cli(&["letsencrypt:disable", "shop"]).succeeds();
    let hook = authority.dns_hook();
    let hook = hook.to_str().unwrap();
    staithe.cli(&["letsencrypt:set", "shop", "dns-hook", hook]).succeeds();
    let with = staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    with.says("Validating by dns-01").says("a.shop.test: not asked for: `*.shop.test` covers it");
    for name in ["a.shop.test", "b.shop.test", "shop.test"] {
        authority.visit(name).succeeds();
    }
    let failing = staithe.cli(&["letsencrypt:set", "shop", "dns-hook", "/etc/passwd"]);
    failing.fails_with(4).says("an executable that belongs to root");
}

#[test]
fn bad_nonces_are_survived() {
    let authority = Authority::start(Habits { refused_nonces: 20, ..Habits::default() });
    let staithe = shop(&authority, &[]);
    with_email(&staithe);
    // The protocol's library gives up at the third in a row, which is told as a failure of the
    // authority: no validation is lost, and the user tries again.
    eventually(ORDER, "a certificate in spite of refused nonces", || {
        let enabled = staithe.cli(&["letsencrypt:enable", "shop"]);
        let told = enabled.stdout + &enabled.stderr;
        assert!(!told.contains("refuses"), "{told}");
        (enabled.code == Some(0)).then_some(()).ok_or(told)
    });
    authority.visit("shop.test").succeeds();
}

#[test]
fn a_name_that_leads_elsewhere_is_found_out_beforehand_and_keeps_no_other_from_its_certificate() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &[]);
    staithe.cli(&["domains:add", "shop", "gone.test", "other.test"]).succeeds();
    let port = authority.http.port();
    authority.names("add-a", &json!({ "host": "gone.test.", "addresses": ["127.0.0.8"] }));
    authority.names("add-a", &json!({ "host": "other.test.", "addresses": ["127.0.0.9"] }));
    let _other = another_server(port);
    with_email(&staithe);
    let enabled = staithe.cli(&["letsencrypt:enable", "shop"]);
    enabled
        .fails_with(1)
        .says(&format!("`gone.test` leads to 127.0.0.8, where port {port} is closed"))
        .says("`other.test` leads to 127.0.0.9, where another server (impostor) answers with status 404")
        .says("point its A record at this machine")
        .says("no certificate for `gone.test`, `other.test`");
    authority.visit("shop.test").succeeds();
    assert!(!authority.log().contains("gone.test"), "the authority was bothered");
    let gone = domain(&staithe, "gone.test");
    assert_eq!((&gone["failures"], &gone["not_after"]), (&json!(1), &Value::Null), "{gone}");

    // Mended, it is ordered at once when the user says so.
    authority.names("add-a", &json!({ "host": "gone.test.", "addresses": ["127.0.0.1"] }));
    authority.names("clear-a", &json!({ "host": "other.test." }));
    authority.names("clear-a", &json!({ "host": "gone.test." }));
    staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    authority.visit("gone.test").succeeds();
}

/// Answers 404 to everything, at another address.
fn another_server(port: u16) -> std::thread::JoinHandle<()> {
    let listener = std::net::TcpListener::bind(("127.0.0.9", port)).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let answer = "HTTP/1.1 404 Not Found\r\nServer: impostor\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

#[test]
fn refusals_of_the_authority_are_told_and_its_patience_is_not_used_up() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &["certificates.preflight=false"]);
    authority.names("add-a", &json!({ "host": "shop.test.", "addresses": ["127.0.0.8"] }));
    with_email(&staithe);
    // The keeper does not try by itself: waits after failures are long.
    for _ in 0..4 {
        let refused = staithe.cli(&["letsencrypt:enable", "shop"]);
        refused.fails_with(1).says("the certificate authority refuses: ");
    }
    let attempts = |log: &str| log.matches("/chalZ/").count() + log.matches("/authZ/").count();
    let before = attempts(&authority.log());
    let locked = staithe.cli(&["letsencrypt:enable", "shop"]);
    locked.fails_with(1).says("has refused several times within the hour").says("try again in");
    assert_eq!(attempts(&authority.log()), before, "the authority was bothered");
    let shop = domain(&staithe, "shop.test");
    assert_eq!(shop["failures"], 4, "{shop}");

    // A restart forgets none of it.
    staithe.stop();
    staithe.launch();
    assert_eq!(domain(&staithe, "shop.test"), {
        let mut same = shop.clone();
        same["expires_in_ms"] = Value::Null;
        same
    });
    staithe.cli(&["letsencrypt:enable", "shop"]).fails_with(1).says("within the hour");
}

#[test]
fn an_authority_that_is_down_costs_no_more_than_a_failure() {
    let mut authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &[]);
    with_email(&staithe);
    authority.stop_pebble();
    let down = staithe.cli(&["letsencrypt:enable", "shop"]).fails_with(1);
    down.says("the certificate authority cannot be reached").says("it is tried again by itself");
    authority.start_pebble();
    staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    authority.visit("shop.test").succeeds();

    // Pebble forgets everything at its end: an account that the authority does not know any more
    // is made anew.
    authority.stop_pebble();
    authority.start_pebble();
    let renewed = staithe.cli(&["--force", "letsencrypt:auto-renew", "shop"]).succeeds();
    renewed.says("does not know the account any more");
    authority.visit("shop.test").succeeds();
}

#[test]
fn certificates_come_and_are_renewed_by_themselves_once_there_is_an_address() {
    // Valid for 15 s, they are renewed after 10 s.
    let authority = Authority::start(Habits { validity_s: 15, ..Habits::default() });
    let staithe = shop(&authority, &["certificates.email=ops@example.com"]);
    let first = eventually(ORDER, "the first certificate", || {
        let shown = shown(&staithe, "shop.test");
        shown.is_string().then_some(shown).ok_or_else(|| "none".to_owned())
    });
    authority.visit("shop.test").succeeds();
    eventually(ORDER, "the next certificate", || {
        let next = shown(&staithe, "shop.test");
        (next.is_string() && next != first).then_some(()).ok_or_else(|| format!("still {first}"))
    });
    // A domain that is added gets one, and one that is taken away leaves nothing behind.
    staithe.cli(&["domains:add", "shop", "www.shop.test"]).succeeds();
    eventually(ORDER, "the new domain's certificate", || {
        let shown = shown(&staithe, "www.shop.test");
        shown.is_string().then_some(()).ok_or_else(|| "none".to_owned())
    });
    staithe.cli(&["letsencrypt:disable", "shop"]).succeeds();
    staithe.cli(&["domains:remove", "shop", "www.shop.test"]).succeeds();
    assert_eq!(shown(&staithe, "shop.test"), Value::Null);
    authority.visit("shop.test").fails_with(35);
    let events = staithe.cli(&["events"]).succeeds();
    events.says("certificate for shop.test issued by").says("automatic certificates switched off");
}

#[test]
fn a_revoked_certificate_is_void_and_gone() {
    let authority = Authority::start(Habits::default());
    let staithe = shop(&authority, &[]);
    with_email(&staithe);
    staithe.cli(&["letsencrypt:enable", "shop"]).succeeds();
    staithe.cli(&["letsencrypt:revoke", "shop"]).succeeds().says("Revoking the certificate for");
    assert!(authority.log().contains("revoke"), "the authority was not told");
    authority.visit("shop.test").fails_with(35);
    staithe.cli(&["letsencrypt:active", "shop"]).succeeds().says("false");
    staithe.cli(&["letsencrypt:revoke", "shop"]).fails_with(20).says("no automatic certificate");
    let left = std::fs::read_dir(staithe.data_dir().join("certificates")).unwrap().count();
    assert_eq!(left, 0);
}
