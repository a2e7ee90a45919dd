//! What of an app's files stays: volumes and where they are mounted.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::dashboard::fields::{Fields, answer, can, settled};
use crate::dashboard::{Dashboard, Page};
use crate::domain::access::{STORAGE_CREATE, STORAGE_LIST, STORAGE_MOUNT, STORAGE_UNMOUNT};
use crate::domain::{AppName, MountSource, ProcessType, VolumeMount, VolumeName};
use crate::platform::{Error, MountRequest, UnmountRequest, VolumeReport, VolumeRequest};
use crate::web::{App, Caller, Refusal};

pub(super) async fn show(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
) -> Result<Page, Refusal> {
    page(&dashboard, &caller, &app).await
}

async fn page(dashboard: &Dashboard, caller: &Caller, app: &AppName) -> Result<Page, Refusal> {
    let report = dashboard.storage(app).await?;
    let may_list = can(caller, STORAGE_LIST, None);
    let volumes = if may_list { dashboard.volumes().await? } else { Vec::new() };
    let mounts: Vec<Value> = report.mounts.iter().map(|mount| row(mount, &volumes)).collect();
    let changed = report.deployed.as_ref().is_some_and(|deployed| *deployed != report.mounts);
    // Those of services hold their data; nobody mounts them.
    let free: Vec<_> = volumes
        .iter()
        .filter(|volume| volume.service.is_none())
        .map(|volume| json!({ "name": volume.volume.name, "apps": visible(volume, caller) }))
        .collect();
    let context = json!({
        "mounts": mounts,
        "changed": changed,
        "volumes": free,
        "may_mount": can(caller, STORAGE_MOUNT, Some(app)),
        "may_unmount": can(caller, STORAGE_UNMOUNT, Some(app)),
        "may_create": can(caller, STORAGE_CREATE, None),
    });
    Ok(Page::of_app("app/volumes", app, "volumes", context).style("forms.css"))
}

/// The apps that mount it, of those that the caller may see.
fn visible(volume: &VolumeReport, caller: &Caller) -> Vec<String> {
    let apps = volume.apps.iter().filter(|one| caller.grants.sees(&one.app));
    apps.map(|one| one.app.to_string()).collect()
}

fn row(mount: &VolumeMount, volumes: &[VolumeReport]) -> Value {
    let source = mount.source.to_string();
    let volume = volumes.iter().find(|volume| volume.volume.name.to_string() == source);
    json!({
        "source": source,
        "container_dir": mount.container_dir,
        "read_only": mount.read_only,
        "process_types": mount.process_types,
        "size": volume.and_then(|volume| volume.volume.size).map(|size| size.0),
        "used": volume.and_then(|volume| volume.used_bytes),
    })
}

pub(super) async fn mount(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = mount_volume(&dashboard, &caller, &app, &fields).await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/volumes"), page, &fields).await
}

async fn mount_volume(
    dashboard: &Dashboard,
    caller: &Caller,
    app: &AppName,
    fields: &Fields,
) -> Result<String, Error> {
    // A volume by its name: directories of the host's are for whoever is root there.
    let volume: VolumeName = fields.need("volume")?;
    let types: Result<Vec<ProcessType>, _> = fields
        .text("process_types")
        .unwrap_or_default()
        .split([',', ' '])
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .collect();
    let mount = VolumeMount {
        source: MountSource::Volume(volume.clone()),
        container_dir: fields.need("container_dir")?,
        read_only: fields.ticked("read_only"),
        process_types: types?,
    };
    let place = mount.container_dir.to_string();
    let request = MountRequest { mount, no_restart: fields.ticked("no_restart") };
    let operation = dashboard.mount(&caller.actor, app, request).await?;
    settled(operation, |release| match release {
        Some(_) => format!("{volume} is mounted at {place}."),
        None => format!("{volume} will be at {place} from the next release on."),
    })
    .await
}

pub(super) async fn unmount(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        let source: MountSource = fields.need("source")?;
        let request = UnmountRequest {
            source,
            container_dir: fields.maybe("container_dir")?,
            no_restart: false,
        };
        let operation = dashboard.unmount(&caller.actor, &app, request).await?;
        settled(operation, |_| "It is not mounted any more; what is in it stays.".to_owned()).await
    };
    let outcome = outcome.await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/volumes"), page, &fields).await
}

pub(super) async fn create(
    State(dashboard): State<Dashboard>,
    caller: Caller,
    App(app): App,
    fields: Fields,
) -> Result<Response, Refusal> {
    let outcome = async {
        let name: VolumeName = fields.need("name")?;
        let request = VolumeRequest {
            name: name.clone(),
            size: fields.maybe("size")?,
            mode: None,
            host_dir: None,
        };
        dashboard.create_volume(&caller.actor, request).await?;
        Ok(format!("There is a volume {name} now; mount it where the app keeps its files."))
    };
    let outcome = outcome.await;
    let page = page(&dashboard, &caller, &app);
    answer(outcome, format!("/apps/{app}/volumes"), page, &fields).await
}
