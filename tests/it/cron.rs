//! Cron: tasks of `app.json`, run by hand and by the clock.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Repo, Staithe, eventually};

const TASKS: &str = r#"{ "cron": [
    { "command": "bash -c 'echo tidied by $DYNO; echo oops >&2'", "schedule": "0 3 1 1 *" },
    { "command": "bash -c 'echo going; exit 7'", "schedule": "1 3 1 1 *" },
    { "command": "sleep 1000", "schedule": "2 3 1 1 *", "concurrency_policy": "forbid" },
    { "command": "sleep 2000", "schedule": "3 3 1 1 *", "concurrency_policy": "replace" }
] }"#;

/// The ids of the app's tasks, in the order of its `app.json`.
fn ids(staithe: &Staithe) -> Vec<String> {
    let tasks = staithe.json(&["cron:list", "shop"]);
    let ids = tasks.as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// The outcomes of a task's runs, newest first.
fn outcomes(staithe: &Staithe, id: &str) -> Vec<String> {
    let runs = staithe.json(&["cron:history", "shop", id]);
    let word = |run: &Value| run["outcome"].as_str().unwrap().to_owned();
    runs.as_array().unwrap().iter().map(word).collect()
}

#[test]
fn tasks_run_in_containers_of_the_release_and_tell_how_it_went() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write("app.json", TASKS);
    repo.commit("Have tasks");
    repo.push().succeeds();
    let ids = ids(&staithe);
    let [tidy, failing, forbid, replace] = &ids[..] else { panic!("{ids:?}") };

    staithe.cli(&["cron:run", "shop", tidy]).succeeds().says(&format!("tidied by cron.{tidy}"));
    staithe.cli(&["cron:run", "shop", failing]).fails_with(7).says("going");
    staithe.cli(&["logs", "shop"]).succeeds().says("tidied by").says("oops");
    let run = &staithe.json(&["cron:history", "shop", failing])[0];
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"failed".into(), &7.into()), "{run}");
    assert_eq!(run["output"], serde_json::json!(["going"]), "{run}");

    // One at a time, as long as it may take.
    staithe.cli(&["cron:run", "shop", forbid, "--detach"]).succeeds().says("it goes on");
    staithe.cli(&["cron:run", "shop", forbid]).fails_with(4).says("still goes on");
    assert_eq!(outcomes(&staithe, forbid), ["skipped", "running"]);
    staithe.cli(&["cron:run", "shop", replace, "--ttl-seconds", "1"]).fails_with(1).says("longer");
    staithe.cli(&["cron:run", "shop", replace, "--detach"]).succeeds();
    staithe.cli(&["cron:run", "shop", replace, "--detach"]).succeeds();
    assert_eq!(outcomes(&staithe, replace), ["running", "replaced", "timed-out"]);

    // What is cut by the end of the control plane is said to be, and does not run on.
    staithe.kill_daemon();
    staithe.launch();
    assert_eq!(outcomes(&staithe, forbid), ["skipped", "interrupted"]);
    eventually(Duration::from_secs(20), "only the web instance is left", || {
        let count = staithe.containers();
        if count == 1 { Ok(()) } else { Err(format!("{count} containers")) }
    });
    staithe.cli(&["events", "shop"]).succeeds().says("interrupted");

    // A task that is gone cannot be run; its runs are still known.
    repo.push_change("app.json", "{}").succeeds();
    staithe.cli(&["cron:run", "shop", tidy]).fails_with(20).says("no cron task");
    assert_eq!(outcomes(&staithe, tidy), ["succeeded"]);
    staithe.cli(&["--force", "apps:destroy", "shop"]).succeeds();
}

#[test]
fn the_clock_starts_what_is_not_suspended() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write(
        "app.json",
        r#"{ "cron": [
            { "command": "echo on the minute", "schedule": "* * * * *" },
            { "command": "echo never", "schedule": "* * * * *", "maintenance": true }
        ] }"#,
    );
    repo.commit("Have tasks");
    repo.push().succeeds();
    let ids = ids(&staithe);
    let [minute, never] = &ids[..] else { panic!("{ids:?}") };
    eventually(Duration::from_secs(120), "the task has run", || {
        let found = outcomes(&staithe, minute);
        if found.first().is_some_and(|outcome| outcome == "succeeded") {
            Ok(())
        } else {
            Err(found.join(" "))
        }
    });
    let run = &staithe.json(&["cron:history", "shop", minute])[0];
    assert_eq!(run["trigger"], "schedule", "{run}");
    assert_eq!(run["due_at"].as_i64().unwrap() % 60_000, 0, "{run}");
    assert_eq!(outcomes(&staithe, never), [""; 0]);

    // What users decide outranks the source, and maintenance outranks both.
    staithe.cli(&["cron:suspend", "shop", minute]).succeeds();
    staithe.cli(&["cron:resume", "shop", never]).succeeds();
    let suspended = |index: usize| staithe.json(&["cron:list", "shop"])[index]["suspended"].clone();
    assert_eq!((suspended(0), suspended(1)), (true.into(), false.into()));
    staithe.cli(&["cron:set", "shop", "maintenance", "true"]).succeeds();
    assert_eq!(suspended(1), Value::from(true));
    staithe.cli(&["cron:set", "shop", "maintenance"]).succeeds();
    staithe.cli(&["cron:set", "--global", "maintenance", "true"]).succeeds();
    assert_eq!(suspended(1), Value::from(true));
    staithe.cli(&["cron:set", "shop", "mailto", "a@b.example"]).fails_with(4).says("not supported");
    staithe.cli(&["cron:report", "shop"]).succeeds().says("Cron global maintenance:       true");
}

#[test]
fn a_source_with_a_wrong_task_is_refused_with_the_reason() {
    let staithe = Staithe::start();
    let repo = Repo::of_fixture(&staithe, "procfile-script", "shop");
    repo.write("app.json", r#"{ "cron": [ { "command": "true", "schedule": "61 * * * *" } ] }"#);
    repo.commit("Have a wrong task");
    repo.push().fails_with(1).says("schedule `61 * * * *` is not understood");
}
