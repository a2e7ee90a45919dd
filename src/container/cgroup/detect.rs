//! Which controller is mounted where.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Controller, Place, View, read};
use crate::container::error::Error;

/// A cgroup mount, from /proc/self/mountinfo.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CgroupMount {
    pub(super) target: PathBuf,
    /// Controllers of a v1 mount; `None` for v2.
    pub(super) v1: Option<Vec<String>>,
}

pub(super) fn places() -> Result<BTreeMap<Controller, Place>, Error> {
    let mounts = parse(&read(Path::new("/proc/self/mountinfo"))?);
    Ok(assign(&mounts, |root| {
        // A v2 mount that cannot be read offers nothing.
        fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
    }))
}

/// proc_pid_mountinfo(5): `… <target> <options> … - <type> <source> <super options>`.
pub(super) fn parse(mountinfo: &str) -> Vec<CgroupMount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let target = PathBuf::from(front.split(' ').nth(4)?);
            let mut back = back.split(' ');
            match back.next()? {
                "cgroup2" => Some(CgroupMount { target, v1: None }),
                "cgroup" => {
                    let options = back.nth(1)?.split(',').map(str::to_owned).collect();
                    Some(CgroupMount { target, v1: Some(options) })
                }
                _ => None,
            }
        })
        .collect()
}

/// v1 wins: a controller can be on one hierarchy only, and what a v2 mount lists is not on v1.
pub(super) fn assign(
    mounts: &[CgroupMount],
    v2_controllers: impl Fn(&Path) -> String,
) -> BTreeMap<Controller, Place> {
    let mut places = BTreeMap::new();
    for controller in Controller::ALL {
        let name = controller.v1_name();
        let v1 = mounts.iter().find(|mount| {
            mount.v1.as_ref().is_some_and(|names| names.iter().any(|known| known == name))
        });
        let v2 = || {
            let name = controller.v2_name()?;
            let mount = mounts.iter().find(|mount| mount.v1.is_none())?;
            let has = v2_controllers(&mount.target).split_whitespace().any(|known| known == name);
            has.then(|| Place::V2(mount.target.clone()))
        };
        if let Some(place) = v1.map(|mount| Place::V1(mount.target.clone())).or_else(v2) {
            places.insert(controller, place);
        }
    }
    places
}

/// v1 hierarchies by their controllers, joined as they are mounted here, or v2 alone.
pub(super) fn views(places: &BTreeMap<Controller, Place>) -> Vec<View> {
    let mut by_root: BTreeMap<&Path, Vec<String>> = BTreeMap::new();
    let mut v2 = false;
    for (controller, place) in places {
        match place {
            Place::V1(root) => {
                by_root.entry(root).or_default().push(controller.v1_name().to_owned());
            }
            Place::V2(_) => v2 = true,
        }
    }
    if by_root.is_empty() {
        return vec![View { name: String::new(), controllers: Vec::new() }];
    }
    let told = ["cpu", "cpuacct", "cpuset", "memory", "pids"];
    let mut views: Vec<View> = by_root
        .into_values()
        .filter(|controllers| controllers.iter().any(|name| told.contains(&name.as_str())))
        .map(|controllers| View { name: controllers.join(","), controllers })
        .collect();
    if v2 {
        views.push(View { name: "unified".into(), controllers: Vec::new() });
    }
    views
}
