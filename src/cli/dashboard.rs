//! `dashboard:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, time};
use crate::wire::{LoginCode, NewLoginCode};

/// `dashboard:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Prints a link with which one may sign in once
    Login(Login),
}

/// `dashboard:login`.
#[derive(Debug, Args)]
pub(super) struct Login {
    /// For whom; by default yourself, and `admin` for root
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Login(args) => login(context, args).await,
        }
    }
}

async fn login(context: &mut Context, args: Login) -> Result<(), Failure> {
    let new = NewLoginCode { user: args.user };
    let code: LoginCode = context.client.send(Method::POST, "/dashboard/codes", &new).await?;
    match args.format.format {
        Format::Json => context.out.json(&code),
        Format::Text => {
            context.out.line(&code.link)?;
            let (user, until) = (&code.user, time(code.expires_at));
            context.out.detail(&format!("signs in as `{user}`, once, until {until}"))
        }
    }
}
