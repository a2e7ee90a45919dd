//! Tests of what `app.json` means.

use super::*;

fn refused(text: &str, expected: &str) {
    let message = parse(text.as_bytes()).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

fn only_check(text: &str) -> Check {
    let parsed = parse(text.as_bytes()).unwrap();
    parsed.checks[&ProcessType::web()][0].clone()
}

#[test]
fn the_parts_a_deploy_needs_are_read_and_herokus_others_ignored() {
    let text = br#"{
      // Heroku's
      "name": "shop", "addons": ["postgres"], "stack": "heroku-24",
      "buildpacks": [{"url": "heroku/nodejs"}, "staithe/procfile"],
      "env": {"A": "1", "SECRET": {"generator": "secret"}, "MUST": {"description": "x"},
              "MAY": {"required": false}, "EACH": {"value": "2", "sync": true}},
      "formation": {"web": {"quantity": 2}, "worker": {}},
      "scripts": {"postdeploy": "once", "dokku": {"predeploy": "pre", "postdeploy": "post"}},
    }"#;
    let parsed = parse(text).unwrap();
    assert_eq!(parsed.buildpacks, ["heroku/nodejs", "staithe/procfile"]);
    let value = |key: &str| parsed.env[&key.parse().unwrap()].clone();
    assert_eq!(value("A"), EnvSpec { value: EnvValue::Literal("1".into()), sync: false });
    assert_eq!(value("SECRET").value, EnvValue::Secret);
    assert_eq!(value("MUST").value, EnvValue::Required);
    assert_eq!(value("MAY").value, EnvValue::Optional);
    assert_eq!(value("EACH"), EnvSpec { value: EnvValue::Literal("2".into()), sync: true });
    assert_eq!(parsed.formation, BTreeMap::from([(ProcessType::web(), 2)]));
    assert_eq!(parsed.scripts.predeploy.as_deref(), Some("pre"));
    assert_eq!(parsed.scripts.postdeploy.as_deref(), Some("post"));
    assert_eq!(parsed.scripts.first_postdeploy.as_deref(), Some("once"));
}

#[test]
fn a_check_is_one_of_four_kinds() {
    let http = only_check(
        r#"{"healthchecks": {"web": [{"name": "up", "type": "startup", "path": "health",
            "content": "ok", "attempts": 10, "timeout": 2, "wait": 1, "initialDelay": 3,
            "httpHeaders": [{"name": "X-A", "value": "b c"}], "port": 8080}]}}"#,
    );
    assert_eq!(http.name, "up");
    assert_eq!(
        (http.timeout, http.deadline, http.port),
        (Millis(2000), Millis(33_000), Some(8080))
    );
    let headers = vec![("X-A".to_owned(), "b c".to_owned())];
    let content = Some("ok".to_owned());
    assert_eq!(http.kind, CheckKind::Http { path: "/health".into(), content, headers });
    let listening = only_check(r#"{"healthchecks": {"web": [{"listening": true}]}}"#);
    assert_eq!((listening.kind, listening.deadline), (CheckKind::Listening, Millis(60_000)));
    let command = only_check(r#"{"healthchecks": {"web": [{"command": ["./check", "x"]}]}}"#);
    assert_eq!(command.kind, CheckKind::Command { args: vec!["./check".into(), "x".into()] });
    let uptime = only_check(r#"{"healthchecks": {"web": [{"uptime": 10}]}}"#);
    assert_eq!(uptime.kind, CheckKind::Uptime { at_least: Millis(10_000) });
}

#[test]
fn liveness_is_noted_and_not_taken_for_startup() {
    let text = r#"{"healthchecks": {"web": [{"type": "liveness", "path": "/"}]}}"#;
    let parsed = parse(text.as_bytes()).unwrap();
    assert!(parsed.checks[&ProcessType::web()].is_empty());
    assert!(parsed.notes[0].contains("liveness check of `web`"), "{:?}", parsed.notes);
}

#[test]
fn refusals_say_where_and_what_to_do() {
    refused("{\n\"env\": {\n \"A\": [1]}}", "app.json line 3");
    refused("{\n\"a\": }", "app.json line 2: expected value; correct it");
    refused(r#"{"env": {"A B": "x"}}"#, "config var name `A B`");
    refused(r#"{"formation": {"w b": {"quantity": 1}}}"#, "process type `w b`");
    let two = r#"{"healthchecks": {"web": [{"path": "/", "listening": true}]}}"#;
    refused(two, "give one of command, listening, path and uptime");
    refused(r#"{"healthchecks": {"web": [{"type": "odd"}]}}"#, "use `startup`");
    let smuggled = r#"{"healthchecks": {"web": [{"path": "/ HTTP/1.1\r\nX: y"}]}}"#;
    refused(smuggled, "holds spaces or controls");
    let header = r#"{"healthchecks": {"web": [{"httpHeaders": [{"name": "a:", "value": "b"}]}]}}"#;
    refused(header, "header of `web` is not valid");
    refused(&" ".repeat(MAX_BYTES + 1), "larger than 256 KiB");
    refused("[]", "app.json line 1");
}

#[test]
fn cron_tasks_are_read_with_dokkus_keys() {
    let text = r#"{"cron": [
        {"command": "python tidy.py 'a b'", "schedule": "@daily", "concurrency_policy": "forbid"},
        {"command": "true", "schedule": "*/5 * * * mon-fri", "maintenance": true, "timeout": 60}
    ]}"#;
    let parsed = parse(text.as_bytes()).unwrap();
    let [daily, often] = &parsed.cron[..] else { panic!("{:?}", parsed.cron) };
    assert_eq!(daily.concurrency_policy, crate::domain::ConcurrencyPolicy::Forbid);
    assert_eq!((daily.timeout, daily.maintenance), (Millis(86_400_000), false));
    assert_eq!((often.timeout, often.maintenance), (Millis(60_000), true));
}

#[test]
fn cron_tasks_that_cannot_run_are_refused() {
    let task = |rest: &str| format!(r#"{{"cron": [{{"command": "true", {rest}}}]}}"#);
    refused(&task(r#""schedule": "* * * *""#), "five fields");
    refused(&task(r#""schedule": "@daily", "timeout": 0"#), "is not 1 to 86400 seconds");
    refused(&task(r#""schedule": "@daily", "concurrency_policy": "often""#), "unknown variant");
    refused(r#"{"cron": [{"command": " ", "schedule": "@daily"}]}"#, "is not a command");
    refused(r#"{"cron": [{"command": "echo 'a", "schedule": "@daily"}]}"#, "is not a command");
    let one = r#"{"command": "true", "schedule": "@daily"}"#;
    refused(&format!(r#"{{"cron": [{one}, {one}]}}"#), "is there twice");
    let many: Vec<_> =
        (0..51).map(|n| format!(r#"{{"command": "echo {n}", "schedule": "@daily"}}"#)).collect();
    refused(&format!(r#"{{"cron": [{}]}}"#, many.join(",")), "more than 50");
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    refused(&"[".repeat(100_000), "app.json line 1");
    refused(&format!("{{\"x\": {}", "[".repeat(100_000)), "app.json line 1");
}

#[test]
fn absurd_waits_are_clamped() {
    let text = r#"{"healthchecks": {"web": [{"attempts": 18446744073709551615, "wait": 99999}]}}"#;
    assert!(only_check(text).deadline.0 <= 2 * MAX_SECONDS * 1000);
}
