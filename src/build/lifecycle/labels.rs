//! The labels by which other CNB tools know an image (CNB platform specification, "Labels").

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Group, Job};
use crate::build::LayerRef;
use crate::build::cache::CacheRecord;
use crate::domain::{Command, ProcessType};

pub(super) fn labels(
    job: &Job,
    group: &Group,
    record: &CacheRecord,
    app_layer: &LayerRef,
    processes: &BTreeMap<ProcessType, Command>,
) -> BTreeMap<String, String> {
    let buildpacks: Vec<Value> = group
        .members
        .iter()
        .map(|member| json!({"id": member.buildpack.id, "version": member.buildpack.version}))
        .collect();
    let processes: Vec<Value> = processes
        .iter()
        .map(|(process_type, command)| {
            json!({
                "type": process_type.as_str(),
                "command": command.args.first().into_iter().collect::<Vec<_>>(),
                "args": command.args.iter().skip(1).collect::<Vec<_>>(),
                "direct": true,
                "working-dir": command.working_dir,
            })
        })
        .collect();
    let lifecycle: Vec<Value> = group
        .members
        .iter()
        .map(|member| {
            let id = &member.buildpack.id;
            let own = record.layers.iter().filter(|layer| layer.buildpack == *id);
            let layers: BTreeMap<&str, Value> = own
                .filter(|layer| layer.types.launch)
                .map(|layer| {
                    let types = layer.types;
                    let data = json!({
                        "sha": layer.digest, "launch": types.launch,
                        "build": types.build, "cache": types.cache,
                    });
                    (layer.name.as_str(), data)
                })
                .collect();
            json!({"key": id, "version": member.buildpack.version, "layers": layers})
        })
        .collect();
    let value = |value: Value| value.to_string();
    BTreeMap::from([
        (
            "io.buildpacks.build.metadata".to_owned(),
            value(json!({"buildpacks": buildpacks, "processes": processes})),
        ),
        (
            "io.buildpacks.lifecycle.metadata".to_owned(),
            value(json!({
                "app": [{"sha": app_layer.digest}],
                "buildpacks": lifecycle,
                "runImage": {"reference": job.stack.run_digest},
            })),
        ),
        (
            "io.buildpacks.project.metadata".to_owned(),
            value(json!({"source": {"type": "git", "version": {"commit": job.commit}}})),
        ),
        ("io.buildpacks.stack.id".to_owned(), job.stack.name.clone()),
    ])
}
