//! Releases: what there was, what each one changed, and the way back.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::dashboard::{Dashboard, Done, Form, Page};
use crate::domain::access::RELEASES_ROLLBACK;
use crate::domain::{Command, EnvKey, Release, ReleaseStatus, ReleaseVersion};
use crate::web::{App, Caller, Id, Refusal};
use crate::wire::ReleaseDiff;

/// How many are listed.
const SHOWN: usize = 50;

pub(super) async fn list(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    let current = dashboard.app(&app).await?.app.current_release;
    let releases = dashboard.releases(&app, SHOWN).await?;
    let can = caller.may(RELEASES_ROLLBACK, Some(&app)).is_ok();
    let going_on = releases.iter().any(|release| release.status == ReleaseStatus::Deploying);
    let rows: Vec<Value> = releases.iter().map(|release| row(release, current, can)).collect();
    let context = json!({ "releases": rows, "going_on": going_on });
    let page = Page::of_app("app/releases", &app, "releases", context);
    Ok(page.script("refresh.js").style("live.css"))
}

fn row(release: &Release, current: Option<ReleaseVersion>, can: bool) -> Value {
    let serves = current == Some(release.version);
    json!({
        "version": release.version.to_string(),
        "status": if serves { json!("current") } else { json!(release.status) },
        "description": release.description,
        "failure": release.failure,
        "by": release.actor.name,
        "created_at": release.created_at,
        "commit": release.commit,
        "build": release.build,
        "image": release.image,
        "can_roll_back": can && !serves && release.status == ReleaseStatus::Succeeded,
    })
}

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Id(version): Id<ReleaseVersion>,
) -> Result<Page, Refusal> {
    let current = dashboard.app(&app).await?.app.current_release;
    let release = dashboard.release(&app, version).await?;
    let diff = dashboard.release_diff(&app, version, None).await?;
    let can = caller.may(RELEASES_ROLLBACK, Some(&app)).is_ok();
    let processes: Vec<Value> = release
        .processes
        .iter()
        .map(|(process_type, command)| {
            let count = release.formation.count(process_type);
            json!({ "type": process_type, "count": count, "command": command.args.join(" ") })
        })
        .collect();
    let config: Vec<&EnvKey> = release.config.iter().map(|(key, _)| key).collect();
    let context = json!({
        "release": row(&release, current, can),
        "diff": changes(&diff),
        "same": diff.is_empty(),
        "before": diff.before.map(|version| version.to_string()),
        "processes": processes,
        "config": config,
    });
    let page = Page::of_app("app/release", &app, "releases", context);
    Ok(page.titled(format!("Release {version}")).style("live.css"))
}

/// The difference as lines: a sign, what it is about, then and now.
fn changes(diff: &ReleaseDiff) -> Vec<Value> {
    let line = |sign: &str, what: String, before: Option<String>, after: Option<String>| {
        let tone = match sign {
            "+" => "added",
            "−" => "removed",
            _ => "changed",
        };
        json!({ "sign": sign, "tone": tone, "what": what, "before": before, "after": after })
    };
    let mut lines = Vec::new();
    if let Some(change) = &diff.commit {
        let short =
            |commit: &Option<String>| commit.as_ref().map(|id| id.chars().take(8).collect());
        lines.push(line("~", "Commit".into(), short(&change.before), short(&change.after)));
    }
    if let Some(change) = &diff.image {
        let short = |digest: &str| {
            Some(digest.trim_start_matches("sha256:").chars().take(12).collect::<String>())
        };
        lines.push(line("~", "Image".into(), short(&change.before), short(&change.after)));
    }
    let keys =
        [("+", &diff.config_added), ("~", &diff.config_changed), ("−", &diff.config_removed)];
    for (sign, keys) in keys {
        lines.extend(keys.iter().map(|key| line(sign, format!("Config var {key}"), None, None)));
    }
    let text = |command: &Option<Command>| command.as_ref().map(|command| command.args.join(" "));
    for change in &diff.processes {
        let sign = match (&change.before, &change.after) {
            (None, _) => "+",
            (_, None) => "−",
            _ => "~",
        };
        let what = format!("Process {}", change.process_type);
        lines.push(line(sign, what, text(&change.before), text(&change.after)));
    }
    for change in &diff.formation {
        let what = format!("Instances of {}", change.process_type);
        let (before, after) = (change.before.to_string(), change.after.to_string());
        lines.push(line("~", what, Some(before), Some(after)));
    }
    let others = [("Quotas", diff.resources), ("Volumes", diff.mounts), ("Schedule", diff.cron)];
    let others = others.iter().filter(|(_, other)| *other);
    lines.extend(others.map(|(what, _)| line("~", (*what).to_owned(), None, None)));
    lines
}

/// Which release to go back to.
#[derive(Debug, Deserialize)]
pub(super) struct Rollback {
    #[serde(default)]
    version: String,
}

pub(super) async fn rollback(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    Form(form): Form<Rollback>,
) -> Result<Done, Refusal> {
    let version = match form.version.as_str() {
        "" => None,
        version => Some(version.parse()?),
    };
    // It goes on by itself; the list shows how it ends.
    drop(dashboard.rollback(&caller.actor, &app, version).await?);
    let what = version.map_or("the release before".to_owned(), |version| version.to_string());
    Ok(Done::to(format!("/apps/{app}/releases")).say(format!("Rolling back to {what}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Change;

    #[test]
    fn a_difference_is_told_line_by_line() {
        let diff = ReleaseDiff {
            commit: Some(Change { before: None, after: Some("0123456789abcdef".into()) }),
            config_added: vec!["TOKEN".parse().unwrap()],
            config_removed: vec!["OLD".parse().unwrap()],
            cron: true,
            ..ReleaseDiff::default()
        };
        let lines = changes(&diff);
        let what: Vec<_> = lines
            .iter()
            .map(|line| {
                format!("{} {}", line["sign"].as_str().unwrap(), line["what"].as_str().unwrap())
            })
            .collect();
        assert_eq!(what, ["~ Commit", "+ Config var TOKEN", "− Config var OLD", "~ Schedule"]);
        assert_eq!(lines[0]["after"], "01234567");
    }
}
