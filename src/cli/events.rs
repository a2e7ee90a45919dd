//! `events:*`.

use clap::{Args, Subcommand};

use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, printable, time};
use crate::domain::{AppName, Event};

/// `events:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows what happened, newest last
    List(List),
}

/// `events:list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this app's
    app: Option<AppName>,
    /// How many at most
    #[arg(long, short, default_value_t = 100)]
    num: usize,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Self::List(List { app, num, format }) = self;
        let app = app.map(|app| format!("&app={app}")).unwrap_or_default();
        let path = format!("/events?limit={num}{app}");
        let events: Vec<Event> = context.client.get(&path).await?;
        match format.format {
            Format::Json => context.out.json(&events),
            Format::Text => events.iter().try_for_each(|event| context.out.line(&text(event))),
        }
    }
}

fn text(event: &Event) -> String {
    let app = event.app.as_ref().map(|app| format!(" {app}:")).unwrap_or_default();
    let (kind, actor) = (printable(&event.kind), printable(&event.actor.name));
    format!("{} [{kind}]{app} {} (by {actor})", time(event.at), printable(&event.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Actor, Timestamp};

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            id: 1,
            at: Timestamp(1_767_323_045_000),
            app: Some("shop".parse().unwrap()),
            kind: "release.deployed".into(),
            message: "v3 serves".into(),
            actor: Actor::new("alice", "ssh"),
            before: None,
            after: None,
        };
        let expected = "2026-01-02T03:04:05Z [release.deployed] shop: v3 serves (by alice)";
        assert_eq!(text(&event), expected);
    }
}
