//! `stack:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::client::escape;
use super::context::Context;
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table, bytes, time};
use crate::wire::{NewStack, StackReport};

/// `stack:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a stack's build and run images out of Debian packages
    Build(Name),
    /// Lists the stacks
    List(FormatArg),
    /// Shows one stack
    Info(Info),
    /// Removes a stack that no app uses
    Remove(Name),
}

/// A stack.
#[derive(Debug, Args)]
pub(super) struct Name {
    /// The stack, such as `debian-13`
    stack: String,
}

/// `stack:info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    format: FormatArg,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Build(name) => build(context, name).await,
            Self::List(format) => list(context, format).await,
            Self::Info(args) => info(context, args).await,
            Self::Remove(name) => {
                let path = format!("/stacks/{}", escape(&name.stack));
                context.client.send(Method::DELETE, &path, &()).await
            }
        }
    }
}

async fn build(context: &mut Context, name: Name) -> Result<(), Failure> {
    let request = NewStack { name: name.stack };
    let _: StackReport = context.operation(Method::POST, "/stacks", &request).await?;
    Ok(())
}

async fn list(context: &mut Context, format: FormatArg) -> Result<(), Failure> {
    let stacks: Vec<StackReport> = context.client.get("/stacks").await?;
    match format.format {
        Format::Json => context.out.json(&stacks),
        Format::Text => context.out.text(&table(&stacks).render()),
    }
}

fn table(stacks: &[StackReport]) -> Table {
    let mut table = Table::new(&["STACK", "RUN IMAGE", "BUILD IMAGE", "CREATED", "APPS"]);
    for stack in stacks {
        table.row([
            stack.name.clone(),
            bytes(stack.run_bytes),
            bytes(stack.build_bytes),
            time(stack.created_at),
            stack.apps.len().to_string(),
        ]);
    }
    table
}

async fn info(context: &mut Context, args: Info) -> Result<(), Failure> {
    let path = format!("/stacks/{}", escape(&args.name.stack));
    let stack: StackReport = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&stack),
        Format::Text => report(&stack).print(&mut context.out, None),
    }
}

fn report(stack: &StackReport) -> Report {
    let mut report = Report::new(format!("{} stack information", stack.name));
    report.row("Run image", &stack.run_image);
    report.row("Run image size", bytes(stack.run_bytes));
    report.row("Build image", &stack.build_image);
    report.row("Build image size", bytes(stack.build_bytes));
    report.row("Created at", time(stack.created_at));
    let apps: Vec<_> = stack.apps.iter().map(ToString::to_string).collect();
    report.row("Apps", apps.join(" "));
    report
}
