//! `ssh-keys:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::escape;
use super::config::read_input;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Format, FormatArg, Table, time};
use crate::domain::UserName;
use crate::domain::access::Role;
use crate::wire::{NewSshKey, SshKey};

/// `ssh-keys:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lets a public key push and run commands
    Add(Add),
    /// Lists the keys
    List(List),
    /// Removes a key
    Remove(Remove),
}

/// `ssh-keys:add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// What to call the key
    name: String,
    /// The public key's file; standard input if none or `-`
    file: Option<String>,
    /// Whose key it is [default: the user of the key's name, who is added if need be]
    #[arg(long)]
    user: Option<UserName>,
    /// The role on the platform of a user that is added [default: admin]
    #[arg(long, conflicts_with = "user")]
    role: Option<Role>,
}

/// `ssh-keys:list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this user's, or the key of this name
    name: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// `ssh-keys:remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The owner's name
    #[arg(required_unless_present = "fingerprint")]
    name: Option<String>,
    /// The key's fingerprint instead: `SHA256:…`
    #[arg(long, conflicts_with = "name")]
    fingerprint: Option<String>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Add(args) => add(context, args).await,
            Self::List(args) => list(context, args).await,
            Self::Remove(args) => remove(context, args).await,
        }
    }
}

async fn add(context: &mut Context, args: Add) -> Result<(), Failure> {
    let text = read_input(context, args.file.as_deref())?;
    if text.contains("PRIVATE KEY") {
        return Err(Failure::new(
            Exit::Refused,
            "this is a private key; it must not leave its owner",
        )
        .hint("the public one is in the file whose name ends with `.pub`"));
    }
    let mut keys = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(Failure::usage("give exactly one public key, on one line")
            .hint("for example `staithe ssh-keys:add alice ~/.ssh/id_ed25519.pub`"));
    };
    let Add { name, user, role, .. } = args;
    let new = NewSshKey { name, public_key: key.to_owned(), user, role };
    let key: SshKey = context.client.send(Method::POST, "/ssh-keys", &new).await?;
    context.out.line(&key.fingerprint)
}

async fn list(context: &mut Context, args: List) -> Result<(), Failure> {
    let mut keys: Vec<SshKey> = context.client.get("/ssh-keys").await?;
    if let Some(name) = &args.name {
        keys.retain(|key| key.name == *name || key.user == *name);
        if keys.is_empty() {
            let message = format!("there is no SSH key `{}`", name.escape_default());
            return Err(Failure::new(Exit::NotFound, message));
        }
    }
    match args.format.format {
        Format::Json => context.out.json(&keys),
        Format::Text => context.out.text(&table(&keys).render()),
    }
}

fn table(keys: &[SshKey]) -> Table {
    let mut table = Table::new(&["NAME", "FINGERPRINT", "TYPE", "ADDED", "USER"]);
    for key in keys {
        let kind = key.public_key.split(' ').next().unwrap_or_default();
        let (name, fingerprint) = (key.name.clone(), key.fingerprint.clone());
        table.row([name, fingerprint, kind.to_owned(), time(key.added_at), key.user.clone()]);
    }
    table
}

async fn remove(context: &mut Context, args: Remove) -> Result<(), Failure> {
    let key = args.name.or(args.fingerprint).unwrap_or_default();
    context.client.send(Method::DELETE, &format!("/ssh-keys/{}", escape(&key)), &()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn keys_are_listed_by_owner() {
        let key = SshKey {
            name: "alice".into(),
            user: "alice".into(),
            fingerprint: "SHA256:abc".into(),
            public_key: "ssh-ed25519 AAAA".into(),
            added_at: Timestamp(1_767_323_045_000),
        };
        let expected = "\
NAME   FINGERPRINT  TYPE         ADDED                 USER
alice  SHA256:abc   ssh-ed25519  2026-01-02T03:04:05Z  alice";
        assert_eq!(table(&[key]).render(), expected);
    }
}
