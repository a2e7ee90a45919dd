//! What the nouns' tests share, and tests of the whole way from argv to a command.

use super::output::Report;
use super::*;
use crate::domain::{
    Actor, App, AppId, BuildId, Command, Formation, ProcessType, ReleaseStatus, ReleaseVersion,
    ResourceSettings, RunState, Timestamp,
};
use crate::wire::{AppReport, AppStatus, InstanceReport, InstanceStatus, ReleaseReport};

const AT: Timestamp = Timestamp(1_767_323_045_678);

/// A report as it is printed.
pub(super) fn rendered(report: &Report) -> String {
    report.render()
}

/// An app with one instance.
pub(super) fn app_report() -> AppReport {
    let app = App {
        id: AppId(1),
        name: "shop".parse().unwrap(),
        created_at: AT,
        deploy_branch: Some("main".parse().unwrap()),
        stack: "debian-13".into(),
        run_state: RunState::Running,
        restarts: 0,
        current_release: Some(ReleaseVersion(3)),
    };
    let instance = InstanceReport {
        name: "web.1".parse().unwrap(),
        status: InstanceStatus::Running,
        release: ReleaseVersion(3),
        container: "shop-web-1-v3".into(),
        started_at: AT,
        restarts: 1,
        last_exit: Some("out of memory: used its 512m".into()),
        memory_bytes: Some(42_152_755),
        cpu_ms: Some(1250),
        throttled_ms: Some(0),
    };
    AppReport {
        app,
        status: AppStatus::Running,
        urls: vec!["http://shop.example.com".into()],
        git_remote: "ssh://staithe@host:2222/shop".into(),
        instances: vec![instance],
    }
}

/// A release that deployed a commit.
pub(super) fn release_report(version: u32) -> ReleaseReport {
    let command =
        Command { args: vec!["node".into(), "server.js".into()], working_dir: "/app".into() };
    ReleaseReport {
        version: ReleaseVersion(version),
        status: ReleaseStatus::Succeeded,
        failure: None,
        description: "Deploy 1a2b3c4".into(),
        actor: Actor::new("alice", "ssh"),
        created_at: AT,
        image: "sha256:abc".into(),
        build: Some(BuildId(7)),
        commit: Some("1a2b3c4d".into()),
        processes: [(ProcessType::web(), command)].into(),
        formation: Formation::default(),
        resources: ResourceSettings::default(),
        config: vec!["TOKEN".parse().unwrap()],
    }
}

fn check(written: &[&str], expected: &str) {
    let arguments = written.iter().map(|word| (*word).to_owned()).collect();
    let shown = match parse(arguments) {
        Ok(Some(cli)) => format!("{:?}", cli.noun),
        Ok(None) => "help".to_owned(),
        Err(Failure::Told { message, hint, .. }) => {
            format!("{message} | {}", hint.unwrap_or_default())
        }
        Err(Failure::Silent(code)) => format!("exit {code}"),
    };
    assert!(shown.contains(expected), "{written:?}: {shown}");
}

#[test]
fn the_tree_is_sound() {
    command::tree().debug_assert();
}

#[test]
fn commands_are_read_in_all_their_forms() {
    check(&["apps:create", "shop"], r#"Create(AppArg { app: AppName("shop") })"#);
    check(&["apps", "create", "shop"], r#"Create(AppArg { app: AppName("shop") })"#);
    check(&["--app", "shop", "apps:create"], r#"Create(AppArg { app: AppName("shop") })"#);
    check(&["ps:scale", "shop", "web=2"], r#"counts: ["web=2"]"#);
    check(&["config:set", "shop", "A=-1", "B=--x"], r#"pairs: ["A=-1", "B=--x"]"#);
    check(&["config:set", "--no-restart", "shop", "A=1"], "no_restart: true");
    check(&["logs", "shop", "-t", "-n", "5", "-p", "web.1", "-q"], "tail: true, num: 5");
    check(&["logs", "shop", "--quiet"], "Logs");
    check(&["run", "shop", "ls", "-l", "--help"], r#"command: ["ls", "-l", "--help"]"#);
    check(&["run", "-e", "A=1", "--no-tty", "shop", "env"], r#"env: ["A=1"], no_tty: true"#);
    check(&["enter", "shop", "web.2", "sh", "-c", "x"], r#"command: ["sh", "-c", "x"]"#);
    check(&["enter", "shop"], "process: None, command: []");
    check(&["ps:report", "shop", "--running"], r#"field: Some("running")"#);
    check(&["resource:limit", "shop", "--memory", "clear"], "memory: Some(Setting(None))");
    check(&["ps:restart", "--all"], "all: true");
    check(&["rollback", "shop", "v3"], "ReleaseVersion(3)");
    check(&["events"], "List(List { app: None");
    check(&["domains:clear-global"], "ClearGlobal");
    check(&["ps:scale", "--help"], "help");
}

#[test]
fn a_wrong_command_line_says_what_is_wrong_and_how_it_is_right() {
    check(
        &["apps:create"],
        "the following required arguments were not provided:\n  <APP> | Usage: staithe apps:create <app>",
    );
    check(&["apps:create", "Shop"], "app name `Shop` may only contain lowercase letters");
    check(&["ps:restart"], "Usage: staithe ps:restart [--all] [<app>]");
    check(&["logs", "shop", "--nope"], "unexpected argument '--nope' found");
}
