//! The launch environment and the processes, worked out once at export: the image needs no
//! launcher program, and an instance starts without one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::build::Error;
use crate::build::environment::{LAUNCH_PATHS, Variables, apply, prepend};
use crate::build::layer::{self, Command as CommandToml, LaunchToml, Process, env_files};
use crate::build::tree;
use crate::domain::{Command, ProcessType};

/// A layer that is in the image.
#[derive(Debug)]
pub(super) struct LaunchLayer {
    /// Its directory in the image: `/layers/staithe_nodejs/node`.
    pub image_path: String,
    /// The same directory in the store's snapshot.
    pub host_path: PathBuf,
    /// Whose it is.
    pub buildpack: String,
}

/// The image's environment: the run image's, changed by each launch layer in order.
pub(super) fn environment(
    run_env: &[(String, String)],
    layers: &[LaunchLayer],
) -> Result<Variables, Error> {
    let mut variables: Variables = run_env.iter().cloned().collect();
    variables.insert("HOME".into(), "/app".into());
    for layer in layers {
        for (part, variable) in LAUNCH_PATHS {
            let found = tree::metadata(&layer.host_path.join(part)).unwrap_or_default();
            if found.is_some_and(|found| found.is_dir() || found.is_symlink()) {
                prepend(&mut variables, variable, &format!("{}/{part}", layer.image_path), ":");
            }
        }
        for dir in ["env", "env.launch"] {
            apply_dir(&mut variables, &layer.host_path.join(dir))?;
        }
        refuse_exec_d(layer)?;
    }
    Ok(variables)
}

fn apply_dir(variables: &mut Variables, dir: &Path) -> Result<(), Error> {
    // A name in an `env` directory may be a directory: the variables of one process type.
    if !tree::is_dir(dir) {
        return Ok(());
    }
    let mut files = BTreeMap::new();
    let reading = |path: &Path| Error::files("read", path.to_owned());
    for name in tree::names(dir).map_err(reading(dir))? {
        let path = dir.join(&name);
        if !tree::is_dir(&path) {
            let file = tree::read_file(&path, layer::MAX_TOML).map_err(reading(&path))?;
            files.insert(name, String::from_utf8_lossy(&file.unwrap_or_default()).into_owned());
        }
    }
    apply(variables, &files);
    Ok(())
}

/// Programs of `exec.d` compute variables at each start; without a launcher nobody would run them.
fn refuse_exec_d(layer: &LaunchLayer) -> Result<(), Error> {
    let dir = layer.host_path.join("exec.d");
    match tree::is_dir(&dir) {
        false => Ok(()),
        true => Err(Error::Contract {
            buildpack: layer.buildpack.clone(),
            file: format!("{}/exec.d", layer.image_path),
            why: "programs that set variables at launch (exec.d) are not supported here".into(),
        }),
    }
}

/// The processes of the group's `launch.toml` files.
#[derive(Debug, Default)]
pub(super) struct Processes {
    by_type: BTreeMap<ProcessType, Process>,
    default: Option<ProcessType>,
}

impl Processes {
    /// Adds a buildpack's; the last one wins for each type.
    pub(super) fn add(&mut self, buildpack: &str, file: LaunchToml) -> Result<(), Error> {
        for process in file.processes {
            let process_type: ProcessType =
                process.kind.parse().map_err(|invalid: crate::domain::Invalid| {
                    Error::Contract {
                        buildpack: buildpack.to_owned(),
                        file: "launch.toml".into(),
                        why: invalid.to_string(),
                    }
                })?;
            if process.default {
                self.default = Some(process_type.clone());
            }
            self.by_type.insert(process_type, process);
        }
        Ok(())
    }

    /// The commands, and the type that runs when none is named: the one declared so, `web`, or the
    /// first.
    pub(super) fn finish(
        self,
        shape: &Shape<'_>,
    ) -> Result<(BTreeMap<ProcessType, Command>, ProcessType), Error> {
        let web = ProcessType::web();
        let default = self
            .default
            .or_else(|| self.by_type.contains_key(&web).then_some(web))
            .or_else(|| self.by_type.keys().next().cloned())
            .ok_or(Error::NoProcess)?;
        let mut commands = BTreeMap::new();
        for (process_type, process) in self.by_type {
            let extra = shape.variables_of(&process_type)?;
            commands.insert(process_type, command(process, shape.has_profile, &extra));
        }
        Ok((commands, default))
    }
}

/// What else shapes a command.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    /// The app has `.profile.d/*.sh` or `.profile`.
    pub has_profile: bool,
    pub layers: &'a [LaunchLayer],
    pub environment: &'a Variables,
}

impl Shape<'_> {
    /// The variables of `env.launch/<type>` that differ from the image's.
    fn variables_of(&self, process_type: &ProcessType) -> Result<Variables, Error> {
        let mut variables = self.environment.clone();
        for layer in self.layers {
            let dir = layer.host_path.join("env.launch").join(process_type.as_str());
            let files = env_files(&dir).map_err(Error::files("read", dir))?;
            apply(&mut variables, &files);
        }
        variables.retain(|name, value| self.environment.get(name) != Some(value));
        Ok(variables)
    }
}

/// Sources the app's profile scripts as Heroku does, then becomes the command (`$0`).
const PROFILE: &str = "for file in /app/.profile.d/*.sh; do [ -r \"$file\" ] && . \"$file\"; done; \
    [ -r /app/.profile ] && . /app/.profile; exec /bin/bash -c \"$0\" \"$@\"";

/// The argument vector. A shell command is left to `bash -c`, which becomes the program itself
/// when the command is a simple one, so that signals reach it.
fn command(process: Process, has_profile: bool, extra: &Variables) -> Command {
    let words = match process.command {
        CommandToml::List(list) => list,
        CommandToml::Text(text) if process.direct => vec![text],
        CommandToml::Text(text) => vec!["bash".into(), "-c".into(), text],
    };
    let words: Vec<String> = words.into_iter().chain(process.args).collect();
    let is_bash = |program: &str| ["bash", "/bin/bash", "sh", "/bin/sh"].contains(&program);
    let mut args = match words.as_slice() {
        [program, flag, text, rest @ ..] if is_bash(program) && flag == "-c" => {
            let mut args: Vec<String> = vec!["/bin/bash".into(), "-c".into()];
            if has_profile {
                args.push(PROFILE.into());
            }
            args.push(text.clone());
            args.extend_from_slice(rest);
            args
        }
        _ => words,
    };
    if !extra.is_empty() {
        let assignments = extra.iter().map(|(name, value)| format!("{name}={value}"));
        args = std::iter::once("/usr/bin/env".to_owned()).chain(assignments).chain(args).collect();
    }
    Command { args, working_dir: process.working_dir.unwrap_or_else(|| "/app".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(launch: &str, has_profile: bool, expected: &[&str]) {
        let mut processes = Processes::default();
        processes.add("a/b", toml::from_str(launch).unwrap()).unwrap();
        let environment = Variables::new();
        let shape = Shape { has_profile, layers: &[], environment: &environment };
        let (commands, _) = processes.finish(&shape).unwrap();
        assert_eq!(commands[&ProcessType::web()].args, expected, "{launch}");
    }

    #[test]
    fn commands_become_argument_vectors() {
        let web = "[[processes]]\ntype = \"web\"\n";
        check(&format!("{web}command = [\"node\", \"a.js\"]"), true, &["node", "a.js"]);
        check(&format!("{web}command = [\"node\"]\nargs = [\"x y\"]"), false, &["node", "x y"]);
        let shell = format!("{web}command = [\"bash\", \"-c\", \"a && b\"]");
        check(&shell, false, &["/bin/bash", "-c", "a && b"]);
        check(&shell, true, &["/bin/bash", "-c", PROFILE, "a && b"]);
        check(&format!("{web}command = \"run it\""), false, &["/bin/bash", "-c", "run it"]);
        check(&format!("{web}command = \"run\"\ndirect = true"), false, &["run"]);
    }

    #[test]
    fn the_last_buildpack_wins_and_web_is_the_default() {
        let mut processes = Processes::default();
        let launch = |text: &str| toml::from_str(text).unwrap();
        let first = "[[processes]]\ntype = \"web\"\ncommand = [\"a\"]\n\
                     [[processes]]\ntype = \"console\"\ncommand = [\"c\"]";
        processes.add("a/a", launch(first)).unwrap();
        processes.add("b/b", launch("[[processes]]\ntype = \"web\"\ncommand = [\"b\"]")).unwrap();
        let environment = Variables::new();
        let shape = Shape { has_profile: false, layers: &[], environment: &environment };
        let (commands, default) = processes.finish(&shape).unwrap();
        assert_eq!(commands[&ProcessType::web()].args, ["b"]);
        assert_eq!((commands.len(), default), (2, ProcessType::web()));
    }

    #[test]
    fn bad_process_types_and_no_process_are_errors() {
        let mut processes = Processes::default();
        let bad = "[[processes]]\ntype = \"we b\"\ncommand = [\"a\"]";
        let error = processes.add("a/a", toml::from_str(bad).unwrap()).unwrap_err();
        assert!(error.to_string().contains("process type `we b`"), "{error}");
        let environment = Variables::new();
        let shape = Shape { has_profile: false, layers: &[], environment: &environment };
        let error = processes.finish(&shape).unwrap_err();
        assert!(error.to_string().contains("add a Procfile"), "{error}");
    }

    #[test]
    fn layers_lengthen_paths_and_set_variables_also_for_one_type() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("layer");
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        std::fs::create_dir_all(dir.join("env.launch/worker")).unwrap();
        std::fs::create_dir_all(dir.join("env")).unwrap();
        for (file, text) in [("env/A.default", "1"), ("env.launch/worker/B", "2")] {
            crate::support::atomic_file::write(&dir.join(file), text.as_bytes(), 0o644).unwrap();
        }
        let layers = [LaunchLayer {
            image_path: "/layers/a/l".into(),
            host_path: dir,
            buildpack: "a".into(),
        }];
        let run_env = [("PATH".to_owned(), "/bin".to_owned())];
        let environment = environment(&run_env, &layers).unwrap();
        assert_eq!(environment["PATH"], "/layers/a/l/bin:/bin");
        assert_eq!((environment["A"].as_str(), environment["HOME"].as_str()), ("1", "/app"));
        let mut processes = Processes::default();
        let launch = "[[processes]]\ntype = \"worker\"\ncommand = [\"w\"]";
        processes.add("a", toml::from_str(launch).unwrap()).unwrap();
        let shape = Shape { has_profile: false, layers: &layers, environment: &environment };
        let (commands, _) = processes.finish(&shape).unwrap();
        let worker: ProcessType = "worker".parse().unwrap();
        assert_eq!(commands[&worker].args, ["/usr/bin/env", "B=2", "w"]);
    }
}
