//! `events:*`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};

use super::client::escape;
use super::context::Context;
use super::exit::Failure;
use super::output::{printable, time};
use super::tokens::span;
use crate::domain::{AppName, Event, Timestamp};

/// `events:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows what happened, who did it and from where, newest last
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
    /// Only of this kind, or of kinds that begin with it: `release.`
    #[arg(long)]
    kind: Option<String>,
    /// Only caused by this user
    #[arg(long)]
    actor: Option<String>,
    /// Only from then on: 2h, 7d, or 2026-01-02T03:04:05Z
    #[arg(long, value_name = "time", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only before then
    #[arg(long, value_name = "time", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only with a lower id: the page before one that began with it
    #[arg(long, value_name = "id")]
    before: Option<i64>,
    /// Goes on with new ones as they come
    #[arg(long, short)]
    follow: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    #[value(name = "stdout", alias = "text")]
    Text,
    Json,
    /// RFC 4180, with a head
    Csv,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Self::List(args) = self;
        let path = args.path();
        let print = |out: &mut super::output::Out, event: &Event| match args.format {
            Format::Text => out.line(&text(event)),
            Format::Json => out.json_line(event),
            Format::Csv => out.line(&csv(event)),
        };
        if args.format == Format::Csv {
            context.out.line(CSV_HEAD)?;
        }
        let out = &mut context.out;
        if args.follow {
            return context.client.values(&path, |event: Event| print(out, &event)).await;
        }
        let events: Vec<Event> = context.client.get(&path).await?;
        match args.format {
            Format::Json => out.json(&events),
            _ => events.iter().try_for_each(|event| print(out, event)),
        }
    }
}

impl List {
    fn path(&self) -> String {
        let mut path = format!("/events?limit={}", self.num);
        let number = |value: Option<i64>| value.map(|value| value.to_string());
        for (key, value) in [
            ("app", self.app.as_ref().map(ToString::to_string)),
            ("kind", self.kind.clone()),
            ("actor", self.actor.clone()),
            ("since", number(self.since.map(|at| at.0))),
            ("until", number(self.until.map(|at| at.0))),
            ("before", number(self.before)),
            ("follow", self.follow.then(|| "true".to_owned())),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", escape(&value)));
            }
        }
        path
    }
}

/// A point in time, or a span before now.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = span(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = now.saturating_sub(span).as_millis();
        return Ok(Timestamp(i64::try_from(at).unwrap_or(i64::MAX)));
    }
    let wrong = |_| "must be a span such as `2h`, or a time such as `2026-01-02T03:04:05Z`";
    let at: jiff::Timestamp = text.parse().map_err(wrong)?;
    Ok(Timestamp(at.as_millisecond()))
}

fn text(event: &Event) -> String {
    let app = event.app.as_ref().map(|app| format!(" {app}:")).unwrap_or_default();
    let (kind, actor) = (printable(&event.kind), printable(&event.actor.name));
    let from = event.actor.from.as_ref().map(|from| format!(" from {}", printable(from)));
    let from = from.unwrap_or_default();
    format!("{} [{kind}]{app} {} (by {actor}{from})", time(event.at), printable(&event.message))
}

const CSV_HEAD: &str = "id,time,app,kind,message,actor,via,from,before,after";

fn csv(event: &Event) -> String {
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let fields = [
        event.id.to_string(),
        time(event.at),
        event.app.as_ref().map(ToString::to_string).unwrap_or_default(),
        event.kind.clone(),
        event.message.clone(),
        event.actor.name.clone(),
        event.actor.via.clone(),
        event.actor.from.clone().unwrap_or_default(),
        json(&event.before).unwrap_or_default(),
        json(&event.after).unwrap_or_default(),
    ];
    fields.map(|field| csv_field(&field)).join(",")
}

/// Quoted where RFC 4180 wants it; what a spreadsheet would take for a formula is disarmed
/// (OWASP, CSV injection).
fn csv_field(text: &str) -> String {
    let text = printable(text);
    let armed = text.starts_with(['=', '+', '-', '@']);
    let text = if armed { format!("'{text}") } else { text };
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Actor;

    fn event() -> Event {
        Event {
            id: 1,
            at: Timestamp(1_767_323_045_000),
            app: Some("shop".parse().unwrap()),
            kind: "release.deployed".into(),
            message: "v3 serves".into(),
            actor: Actor::new("alice", "ssh"),
            before: None,
            after: None,
        }
    }

    #[test]
    fn an_event_is_one_line() {
        let expected = "2026-01-02T03:04:05Z [release.deployed] shop: v3 serves (by alice)";
        assert_eq!(text(&event()), expected);
        let actor = Actor::new("alice", "ssh").at(Some("192.0.2.7".into()));
        let line = text(&Event { actor, ..event() });
        assert!(line.ends_with("(by alice from 192.0.2.7)"), "{line}");
    }

    #[test]
    fn a_spreadsheet_gets_text_and_no_formula() {
        let hostile = Event {
            message: "=cmd|' /C calc'!A0".into(),
            after: Some(serde_json::json!({ "web": 2 })),
            ..event()
        };
        let expected = "1,2026-01-02T03:04:05Z,shop,release.deployed,'=cmd|' /C calc'!A0,alice,ssh,\
             ,,\"{\"\"web\"\":2}\"";
        assert_eq!(csv(&hostile), expected);
        assert_eq!(csv(&hostile).matches('\n').count(), 0);
        assert_eq!(CSV_HEAD.split(',').count(), 10);
    }

    #[test]
    fn a_moment_is_a_time_or_a_span_ago() {
        assert_eq!(moment("2026-01-02T03:04:05Z"), Ok(Timestamp(1_767_323_045_000)));
        assert!(moment("2h").unwrap() < moment("1h").unwrap());
        assert!(moment("yesterday").is_err());
    }
}
