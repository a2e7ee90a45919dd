//! `storage:*`.

use clap::{Args, Subcommand};
use hyper::Method;

use super::apps::confirm;
use super::context::{AppArg, Context, ReportArgs};
use super::exit::Failure;
use super::output::{Format, FormatArg, Report, Table, bytes, time};
use crate::domain::{
    AppName, Bytes, ContainerDir, DirectoryMode, HostDir, MountSource, ProcessType, ReleaseVersion,
    VolumeMount, VolumeName,
};
use crate::wire::{
    MountRequest, StorageReport, UnmountRequest, VolumeReport, VolumeRequest, VolumeResize,
};

/// `storage:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes a volume
    Create(Create),
    /// Removes a volume with all that is in it; no app may have it
    Destroy(VolumeArg),
    /// Lists what an app mounts
    List(ListArgs),
    /// Lists the volumes
    ListEntries(FormatArg),
    /// Shows a volume
    Info(Info),
    /// Gives an app a volume, and deploys the app with it
    Mount(Mount),
    /// Takes a volume away from an app; what is in it stays
    Unmount(Unmount),
    /// Shows what apps mount
    Report(ReportArgs),
    /// Gives a volume more room
    Resize(Resize),
}

/// The volume that a command is about.
#[derive(Debug, Args)]
pub(super) struct VolumeArg {
    /// The volume
    volume: VolumeName,
}

/// `storage:create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    volume: VolumeArg,
    /// A directory of the host's that it stands for; the operator must allow it
    path: Option<HostDir>,
    /// The most that fits in, such as `1g`; without, what the disk has
    #[arg(long)]
    size: Option<Bytes>,
    /// Permission bits of its root, such as `0755`
    #[arg(long)]
    mode: Option<DirectoryMode>,
}

/// `storage:list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    app: AppArg,
    #[command(flatten)]
    format: FormatArg,
}

/// `storage:info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    volume: VolumeArg,
    #[command(flatten)]
    format: FormatArg,
}

/// `storage:mount`.
#[derive(Debug, Args)]
pub(super) struct Mount {
    #[command(flatten)]
    app: AppArg,
    /// The volume, or `<volume>:<container-dir>`, or `<host-dir>:<container-dir>`
    volume: String,
    /// Where it is inside, such as `/app/uploads`
    #[arg(long)]
    container_dir: Option<ContainerDir>,
    /// Writing is refused
    #[arg(long, visible_alias = "volume-readonly")]
    readonly: bool,
    /// Only for these process types (`run` and `cron` for one-offs); may be given again
    #[arg(long)]
    process_type: Vec<ProcessType>,
    /// Leaves what runs as it is; the next release has the change
    #[arg(long)]
    no_restart: bool,
}

/// `storage:unmount`.
#[derive(Debug, Args)]
pub(super) struct Unmount {
    #[command(flatten)]
    app: AppArg,
    /// The volume, or `<volume>:<container-dir>`, or `<host-dir>:<container-dir>`
    volume: String,
    /// Only where it is mounted there
    #[arg(long)]
    container_dir: Option<ContainerDir>,
    /// Leaves what runs as it is; the next release has the change
    #[arg(long)]
    no_restart: bool,
}

/// `storage:resize`.
#[derive(Debug, Args)]
pub(super) struct Resize {
    #[command(flatten)]
    volume: VolumeArg,
    /// Its new size, such as `2g`
    size: Bytes,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create(context, args).await,
            Self::Destroy(args) => destroy(context, &args.volume).await,
            Self::List(args) => list(context, args).await,
            Self::ListEntries(format) => list_entries(context, format).await,
            Self::Info(args) => info(context, args).await,
            Self::Mount(args) => mount(context, args).await,
            Self::Unmount(args) => unmount(context, args).await,
            Self::Report(args) => context.report(&args, "/mounts", report).await,
            Self::Resize(args) => resize(context, args).await,
        }
    }
}

async fn create(context: &mut Context, args: Create) -> Result<(), Failure> {
    let Create { volume: VolumeArg { volume: name }, path: host_dir, size, mode } = args;
    context.out.step(&format!("Creating volume {name}"))?;
    let request = VolumeRequest { name, size, mode, host_dir };
    let _: VolumeReport = context.client.send(Method::POST, "/volumes", &request).await?;
    Ok(())
}

async fn destroy(context: &mut Context, name: &VolumeName) -> Result<(), Failure> {
    let path = format!("/volumes/{name}");
    let _: VolumeReport = context.client.get(&path).await?;
    if !context.force {
        confirm("volume", name.as_str(), "all that is in it")?;
    }
    context.out.step(&format!("Destroying volume {name}"))?;
    context.client.send(Method::DELETE, &path, &()).await
}

async fn list(context: &mut Context, args: ListArgs) -> Result<(), Failure> {
    let app = args.app.app;
    let report: StorageReport = context.client.get(&format!("/apps/{app}/mounts")).await?;
    if args.format.format == Format::Json {
        return context.out.json(&report.mounts);
    }
    context.out.header(&format!("{app} volume mounts"))?;
    report.mounts.iter().try_for_each(|mount| context.out.line(&shown(mount)))
}

async fn list_entries(context: &mut Context, format: FormatArg) -> Result<(), Failure> {
    let volumes: Vec<VolumeReport> = context.client.get("/volumes").await?;
    match format.format {
        Format::Json => context.out.json(&volumes),
        Format::Text => context.out.text(&table(&volumes).render()),
    }
}

async fn info(context: &mut Context, args: Info) -> Result<(), Failure> {
    let path = format!("/volumes/{}", args.volume.volume);
    let volume: VolumeReport = context.client.get(&path).await?;
    match args.format.format {
        Format::Json => context.out.json(&volume),
        Format::Text => about(&volume).print(&mut context.out, None),
    }
}

async fn mount(context: &mut Context, args: Mount) -> Result<(), Failure> {
    let (source, place) = split(&args.volume)?;
    let container_dir = args.container_dir.or(place).ok_or_else(|| {
        Failure::usage("where the volume should be inside is missing")
            .hint("give `--container-dir /app/uploads`, or `<volume>:/app/uploads`")
    })?;
    let mount = VolumeMount {
        source,
        container_dir,
        read_only: args.readonly,
        process_types: args.process_type,
    };
    let request = MountRequest { mount, no_restart: args.no_restart };
    let path = format!("/apps/{}/mounts", args.app.app);
    let _: Option<ReleaseVersion> = context.operation(Method::POST, &path, &request).await?;
    Ok(())
}

async fn unmount(context: &mut Context, args: Unmount) -> Result<(), Failure> {
    let (source, place) = split(&args.volume)?;
    let container_dir = args.container_dir.or(place);
    let request = UnmountRequest { source, container_dir, no_restart: args.no_restart };
    let path = format!("/apps/{}/mounts", args.app.app);
    let _: Option<ReleaseVersion> = context.operation(Method::DELETE, &path, &request).await?;
    Ok(())
}

async fn resize(context: &mut Context, args: Resize) -> Result<(), Failure> {
    let Resize { volume: VolumeArg { volume }, size } = args;
    context.out.step(&format!("Resizing volume {volume} to {size}"))?;
    let path = format!("/volumes/{volume}");
    let _: VolumeReport = context.client.send(Method::PATCH, &path, &VolumeResize { size }).await?;
    Ok(())
}

/// `uploads`, `uploads:/app/uploads`, `/srv/shared:/app/shared`.
fn split(text: &str) -> Result<(MountSource, Option<ContainerDir>), Failure> {
    let (source, place) = match text.split_once(':') {
        Some((source, place)) => (source, Some(place)),
        None => (text, None),
    };
    let refused = |why: crate::domain::Invalid| Failure::usage(why.to_string());
    let place = place.map(|place| place.parse::<ContainerDir>().map_err(refused)).transpose()?;
    Ok((source.parse().map_err(refused)?, place))
}

fn shown(mount: &VolumeMount) -> String {
    let mut text = format!("{}:{}", mount.source, mount.container_dir);
    if mount.read_only {
        text.push_str(":ro");
    }
    if !mount.process_types.is_empty() {
        let types: Vec<_> = mount.process_types.iter().map(ProcessType::as_str).collect();
        text.push_str(&format!(" ({})", types.join(", ")));
    }
    text
}

fn joined(mounts: &[VolumeMount]) -> String {
    mounts.iter().map(shown).collect::<Vec<_>>().join(" ")
}

fn report(app: &AppName, storage: &StorageReport) -> Report {
    let mut report = Report::new(format!("{app} storage information"));
    report.row("Storage mounts", joined(&storage.mounts));
    let deployed = storage.deployed.as_deref().unwrap_or_default();
    report.row("Storage deployed mounts", joined(deployed));
    report
}

fn users(volume: &VolumeReport) -> String {
    let apps = volume.apps.iter().map(|place| format!("{}:{}", place.app, place.container_dir));
    volume.service.clone().into_iter().chain(apps).collect::<Vec<_>>().join(" ")
}

fn size(volume: &VolumeReport) -> String {
    volume.volume.size.map_or_else(|| "-".to_owned(), |size| size.to_string())
}

fn used(volume: &VolumeReport) -> String {
    volume.used_bytes.map_or_else(|| "-".to_owned(), bytes)
}

fn table(volumes: &[VolumeReport]) -> Table {
    let mut table = Table::new(&["NAME", "SIZE", "USED", "MOUNTED BY"]);
    for volume in volumes {
        table.row([volume.volume.name.to_string(), size(volume), used(volume), users(volume)]);
    }
    table
}

fn about(volume: &VolumeReport) -> Report {
    let facts = &volume.volume;
    let mut report = Report::new(format!("{} volume information", facts.name));
    report.row("Storage created at", time(facts.created_at));
    report.row("Storage size", size(volume));
    report.row("Storage used", used(volume));
    report.row("Storage mode", facts.mode);
    report.row(
        "Storage host directory",
        facts.host_dir.as_ref().map(ToString::to_string).unwrap_or_default(),
    );
    report.row("Storage mounted by", users(volume));
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::rendered;

    fn mount(source: &str, place: &str) -> VolumeMount {
        VolumeMount {
            source: source.parse().unwrap(),
            container_dir: place.parse().unwrap(),
            read_only: false,
            process_types: Vec::new(),
        }
    }

    #[test]
    fn mounts_are_written_in_dokkus_way() {
        let (source, place) = split("/srv/shared:/app/shared").unwrap();
        assert_eq!(source.to_string(), "/srv/shared");
        assert_eq!(place.unwrap().to_string(), "/app/shared");
        assert_eq!(split("uploads").unwrap().1, None);
        assert!(split("uploads:/../etc").is_err());
        assert!(split(":/data").is_err());
    }

    #[test]
    fn what_is_mounted_is_reported() {
        let read_only = VolumeMount { read_only: true, ..mount("shared", "/shared") };
        let storage = StorageReport {
            mounts: vec![mount("uploads", "/app/uploads"), read_only],
            deployed: None,
        };
        let expected = "\
=====> shop storage information
       Storage mounts:                uploads:/app/uploads shared:/shared:ro
       Storage deployed mounts:";
        assert_eq!(rendered(&report(&"shop".parse().unwrap(), &storage)), expected);
    }
}
