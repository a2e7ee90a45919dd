//! `tokens:*`.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::escape;
use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, Table, printable, time};
use crate::domain::{AppName, TokenId, UserName};
use crate::wire::{CreatedToken, NewToken, TokenReport};

/// `tokens:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a token, which is shown this once
    Create(Create),
    /// Lists tokens
    List(List),
    /// Ends a token, and those that were made with it
    Revoke(Revoke),
}

/// `tokens:create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it is for
    name: String,
    /// The only apps it is for, separated by commas; must be there [default: all its user may]
    #[arg(long, value_delimiter = ',', value_name = "apps")]
    app: Option<Vec<AppName>>,
    /// The only verbs it is for, as `ps:*,logs:show` [default: all but those that give access]
    #[arg(long, value_delimiter = ',', value_name = "verbs")]
    verb: Option<Vec<String>>,
    /// When it ends: 90d, 12h, 30m [default: never]
    #[arg(long, value_name = "span", value_parser = span)]
    expires: Option<Duration>,
    /// Whose it is [default: yours]
    #[arg(long)]
    user: Option<UserName>,
    #[command(flatten)]
    format: FormatArg,
}

/// `tokens:list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// This user's instead of your own
    #[arg(long)]
    user: Option<UserName>,
    /// Those of all users
    #[arg(long, conflicts_with = "user")]
    all: bool,
    #[command(flatten)]
    format: FormatArg,
}

/// `tokens:revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The token's id
    id: TokenId,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create(context, args).await,
            Self::List(args) => list(context, args).await,
            Self::Revoke(Revoke { id }) => {
                let path = format!("/tokens/{}", escape(id.as_str()));
                context.client.send(Method::DELETE, &path, &()).await
            }
        }
    }
}

async fn create(context: &mut Context, args: Create) -> Result<(), Failure> {
    let Create { name, app, verb, expires, user, format } = args;
    let expires_in_s = expires.map(|span| span.as_secs());
    let new = NewToken { name, user, apps: app, verbs: verb, expires_in_s };
    let created: CreatedToken = context.client.send(Method::POST, "/tokens", &new).await?;
    match format.format {
        Format::Json => context.out.json(&created),
        Format::Text => context.out.line(created.token.expose()),
    }
}

async fn list(context: &mut Context, args: List) -> Result<(), Failure> {
    // Root on the machine is no user, and manages those of all.
    let local = !context.settings.is_remote() && args.user.is_none();
    let path = match &args.user {
        Some(user) => format!("/tokens?user={}", escape(user.as_str())),
        None if args.all || local => "/tokens?all=true".to_owned(),
        None => "/tokens".to_owned(),
    };
    let tokens: Vec<TokenReport> = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&tokens),
        Format::Text => context.out.text(&table(&tokens).render()),
    }
}

fn table(tokens: &[TokenReport]) -> Table {
    let mut table = Table::new(&["ID", "USER", "NAME", "APPS", "VERBS", "EXPIRES", "LAST USED"]);
    for token in tokens {
        let apps = token.apps.as_ref().map(|apps| {
            let names: Vec<_> = apps.iter().map(AppName::as_str).collect();
            if names.is_empty() { "none (any more)".to_owned() } else { names.join(",") }
        });
        let used = token.used_at.map(|at| match &token.used_from {
            Some(from) => format!("{} from {}", time(at), printable(from)),
            None => time(at),
        });
        table.row([
            token.id.to_string(),
            token.user.to_string(),
            printable(&token.name),
            apps.unwrap_or_else(|| "all".into()),
            token.verbs.as_ref().map_or("all".into(), |verbs| printable(&verbs.join(","))),
            token.expires_at.map_or("never".into(), time),
            used.unwrap_or_else(|| "never".into()),
        ]);
    }
    table
}

/// `90d`, `12h`, `30m`, `45s`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and d, h, m or s, such as `90d`".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        'd' => 24 * 3600,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn a_token_is_listed_without_its_secret() {
        let token = TokenReport {
            id: "0123456789ab".parse().unwrap(),
            user: "alice".parse().unwrap(),
            name: "ci".into(),
            apps: Some(vec!["shop".parse().unwrap()]),
            verbs: Some(vec!["git:push".into()]),
            created_at: Timestamp(0),
            expires_at: Some(Timestamp(1_767_323_045_000)),
            used_at: None,
            used_from: None,
        };
        let expected = "\
ID            USER   NAME  APPS  VERBS     EXPIRES               LAST USED
0123456789ab  alice  ci    shop  git:push  2026-01-02T03:04:05Z  never";
        assert_eq!(table(&[token]).render(), expected);
    }

    #[test]
    fn spans_have_a_number_and_a_unit() {
        assert_eq!(span("90d"), Ok(Duration::from_secs(90 * 24 * 3600)));
        assert_eq!(span("30m"), Ok(Duration::from_secs(1800)));
        for wrong in ["", "d", "90", "-1d", "9€", "1w", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
