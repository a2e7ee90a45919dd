//! `git:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::context::{AppArg, Context};
use super::exit::Failure;
use crate::domain::BranchName;
use crate::wire::DeployBranch;

/// `git:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Sets a property: `deploy-branch`, the branch whose pushes deploy; without a value, its default
    Set(Set),
}

/// `git:set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    app: AppArg,
    /// `deploy-branch`
    property: String,
    /// The branch; the next pushed `main` or `master` if none
    value: Option<BranchName>,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let Self::Set(Set { app: AppArg { app }, property, value: branch }) = self;
        if property != "deploy-branch" {
            let message = format!("git has no property `{}`", property.escape_default());
            return Err(Failure::usage(message).hint("there is `deploy-branch`"));
        }
        let doing = match &branch {
            Some(branch) => format!("Setting deploy-branch to {branch}"),
            None => "Unsetting deploy-branch".to_owned(),
        };
        let path = format!("/apps/{app}/deploy-branch");
        let request = DeployBranch { branch };
        let () = context.client.send(Method::PUT, &path, &request).await?;
        context.out.step(&doing)
    }
}
