//! `users:*` and `access:*`.

use std::io::BufRead;

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::escape;
use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table, time};
use crate::domain::access::Role;
use crate::domain::{AppName, Secret, UserName};
use crate::wire::{
    AccessChanged, AccessReport, Me, NewAccess, NewPassword, NewUser, RoleChange, UserRename,
    UserReport,
};

/// The longest password that is read, with its end of line.
const MAX_PASSWORD: u64 = 2048;

/// `users:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Users {
    /// Adds a user
    Add(Add),
    /// Lists the users
    List(FormatArg),
    /// Shows a user; without a name who you are and what you may do
    Info(Info),
    /// Sets a user's role on the platform
    SetRole(SetRole),
    /// Gives a user another name
    Rename(Rename),
    /// Removes a user with their keys, tokens and roles
    Remove(Name),
    /// Keeps a user out, by whatever door
    Disable(Name),
    /// Lets a user in again
    Enable(Name),
    /// Sets a password, read from standard input; your own without a name
    SetPassword(SetPassword),
}

/// `users:add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    /// The user's name
    name: UserName,
    /// The role on the platform: view, deploy, operate or admin [default: none]
    #[arg(long)]
    role: Option<Role>,
}

/// `users:info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    /// The user's name
    name: Option<UserName>,
    /// Only this label's value; what `--<label>` becomes
    #[arg(long, hide = true)]
    field: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// `users:set-role`.
#[derive(Debug, Args)]
pub(super) struct SetRole {
    /// The user's name
    name: UserName,
    /// view, deploy, operate or admin; none takes the role away
    role: Option<Role>,
}

/// `users:rename`.
#[derive(Debug, Args)]
pub(super) struct Rename {
    /// The user's name
    name: UserName,
    /// The new one
    new_name: UserName,
}

/// A user.
#[derive(Debug, Args)]
pub(super) struct Name {
    /// The user's name
    name: UserName,
}

/// `users:set-password`.
#[derive(Debug, Args)]
pub(super) struct SetPassword {
    /// The user's name
    name: Option<UserName>,
    /// Takes the password away
    #[arg(long)]
    clear: bool,
}

/// `access:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Access {
    /// Gives a user a role on an app, or on the platform and so on all apps
    Add(AddAccess),
    /// Takes a user's role on an app, or on the platform, away
    Remove(RemoveAccess),
    /// Lists who may do what
    List(ListAccess),
}

/// `access:add`.
#[derive(Debug, Args)]
pub(super) struct AddAccess {
    /// The user's name
    user: UserName,
    /// view, deploy, operate or admin
    role: Role,
    /// The app; the platform if none
    app: Option<AppName>,
}

/// `access:remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveAccess {
    /// The user's name
    user: UserName,
    /// The app; the platform if none
    app: Option<AppName>,
}

/// `access:list`.
#[derive(Debug, Args)]
pub(super) struct ListAccess {
    /// The app; all if none
    app: Option<AppName>,
    #[command(flatten)]
    format: FormatArg,
}

impl Users {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Add(Add { name, role }) => {
                let user: UserReport =
                    context.client.send(Method::POST, "/users", &NewUser { name, role }).await?;
                context.out.line(user.name.as_str())
            }
            Self::List(format) => list(context, format).await,
            Self::Info(args) => info(context, args).await,
            Self::SetRole(SetRole { name, role }) => {
                let path = format!("{}/role", path(&name));
                changed(context, Method::PUT, &path, &RoleChange { role }).await
            }
            Self::Rename(Rename { name, new_name }) => {
                let rename = UserRename { name: new_name };
                let path = format!("{}/rename", path(&name));
                let _: UserReport = context.client.send(Method::POST, &path, &rename).await?;
                Ok(())
            }
            Self::Remove(Name { name }) => {
                changed(context, Method::DELETE, &path(&name), &()).await
            }
            Self::Disable(Name { name }) => {
                changed(context, Method::POST, &format!("{}/disable", path(&name)), &()).await
            }
            Self::Enable(Name { name }) => {
                changed(context, Method::POST, &format!("{}/enable", path(&name)), &()).await
            }
            Self::SetPassword(args) => set_password(context, args).await,
        }
    }
}

impl Access {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Add(AddAccess { user, role, app }) => {
                let path = place(app.as_ref());
                changed(context, Method::POST, &path, &NewAccess { user, role }).await
            }
            Self::Remove(RemoveAccess { user, app }) => {
                let path = format!("{}/{}", place(app.as_ref()), escape(user.as_str()));
                changed(context, Method::DELETE, &path, &()).await
            }
            Self::List(ListAccess { app, format }) => {
                let found: Vec<AccessReport> = context.client.get(&place(app.as_ref())).await?;
                match format.format {
                    Format::Json => context.out.json(&found),
                    Format::Text => context.out.text(&access_table(&found).render()),
                }
            }
        }
    }
}

fn path(user: &UserName) -> String {
    format!("/users/{}", escape(user.as_str()))
}

fn place(app: Option<&AppName>) -> String {
    app.map_or("/access".to_owned(), |app| format!("/apps/{app}/access"))
}

async fn changed<B: serde::Serialize>(
    context: &mut Context,
    method: Method,
    path: &str,
    body: &B,
) -> Result<(), Failure> {
    let changed: AccessChanged = context.client.send(method, path, body).await?;
    changed.warnings.iter().try_for_each(|text| context.out.progress(&format!(" !     {text}")))
}

async fn list(context: &mut Context, format: FormatArg) -> Result<(), Failure> {
    let users: Vec<UserReport> = context.client.get("/users").await?;
    match format.format {
        Format::Json => context.out.json(&users),
        Format::Text => context.out.text(&users_table(&users).render()),
    }
}

fn role_word(role: Option<Role>) -> String {
    role.map_or("-".to_owned(), |role| role.to_string())
}

fn users_table(users: &[UserReport]) -> Table {
    let mut table = Table::new(&["NAME", "ROLE", "KEYS", "TOKENS", "PASSWORD", "STATE"]);
    for user in users {
        table.row([
            user.name.to_string(),
            role_word(user.role),
            user.ssh_keys.len().to_string(),
            user.tokens.to_string(),
            if user.has_password { "yes" } else { "no" }.to_owned(),
            if user.disabled { "disabled" } else { "enabled" }.to_owned(),
        ]);
    }
    table
}

fn access_table(access: &[AccessReport]) -> Table {
    let mut table = Table::new(&["USER", "ROLE", "ON"]);
    for held in access {
        let on = held.app.as_ref().map_or("the platform".to_owned(), ToString::to_string);
        table.row([held.user.to_string(), held.role.to_string(), on]);
    }
    table
}

async fn info(context: &mut Context, args: Info) -> Result<(), Failure> {
    let Some(name) = args.name else {
        let me: Me = context.client.get("/me").await?;
        return match args.format.format {
            Format::Json => context.out.json(&me),
            Format::Text => report_me(&me).print(&mut context.out, args.field.as_deref()),
        };
    };
    let user: UserReport = context.client.get(&path(&name)).await?;
    match args.format.format {
        Format::Json => context.out.json(&user),
        Format::Text => report_user(&user).print(&mut context.out, args.field.as_deref()),
    }
}

fn report_user(user: &UserReport) -> Report {
    let mut report = Report::new(format!("{} user information", user.name));
    let of_apps = user.access.iter().filter_map(|held| Some((held.app.as_ref()?, held.role)));
    let apps: Vec<_> = of_apps.map(|(app, role)| format!("{app}={role}")).collect();
    report.row("User created at", time(user.created_at));
    report.row("User role", user.role.map_or(String::new(), |role| role.to_string()));
    report.row("User apps", apps.join(" "));
    report.row("User ssh keys", user.ssh_keys.join(" "));
    report.row("User tokens", user.tokens.to_string());
    report.row("User password", user.has_password.to_string());
    report.row("User disabled", user.disabled.to_string());
    report
}

fn report_me(me: &Me) -> Report {
    let mut report = Report::new(format!("{} user information", me.name));
    let apps: Vec<_> = me.access.iter().map(|held| format!("{}={}", held.app, held.role)).collect();
    report.row("User via", me.via.clone());
    report.row("User role", me.role.map_or(String::new(), |role| role.to_string()));
    report.row("User apps", apps.join(" "));
    report
}

async fn set_password(context: &mut Context, args: SetPassword) -> Result<(), Failure> {
    let path = match &args.name {
        Some(name) => format!("{}/password", path(name)),
        None => "/me/password".to_owned(),
    };
    let password = match args.clear {
        true => None,
        false => Some(read_password()?),
    };
    context.client.send(Method::PUT, &path, &NewPassword { password }).await
}

/// The first line of standard input: never an argument, which others on the machine could read.
fn read_password() -> Result<Secret, Failure> {
    use std::io::Read;
    let mut line = String::new();
    let input = std::io::stdin().lock();
    let failed = |error| Failure::usage(format!("read the password from standard input: {error}"));
    std::io::BufReader::new(input.take(MAX_PASSWORD)).read_line(&mut line).map_err(failed)?;
    let line = line.trim_end_matches(['\r', '\n']);
    match line.is_empty() {
        false => Ok(Secret::new(line)),
        true => Err(Failure::usage("give the password as one line on standard input")
            .hint("for example `pass show staithe | staithe users:set-password alice`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn alice() -> UserReport {
        let user: UserName = "alice".parse().unwrap();
        UserReport {
            name: user.clone(),
            role: Some(Role::View),
            disabled: false,
            has_password: true,
            created_at: Timestamp(1_767_323_045_000),
            ssh_keys: vec!["laptop".into()],
            tokens: 2,
            access: vec![
                AccessReport { user: user.clone(), app: None, role: Role::View },
                AccessReport { user, app: Some("shop".parse().unwrap()), role: Role::Admin },
            ],
        }
    }

    #[test]
    fn users_and_their_roles_are_listed() {
        let expected = "\
NAME   ROLE  KEYS  TOKENS  PASSWORD  STATE
alice  view  1     2       yes       enabled";
        assert_eq!(users_table(&[alice()]).render(), expected);
        let expected = "\
USER   ROLE   ON
alice  view   the platform
alice  admin  shop";
        assert_eq!(access_table(&alice().access).render(), expected);
        let report = report_user(&alice()).render();
        assert!(report.contains("User apps:                     shop=admin"), "{report}");
    }
}
