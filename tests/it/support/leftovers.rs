//! What a Staithe could leave behind on the machine, by its own names.

use std::process::Command;

use super::Staithe;

/// Everything on the machine that carries the names of `staithe`; empty when it left nothing.
pub(crate) fn leftovers(staithe: &Staithe) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/script/lib/leftovers");
    let output = Command::new("sh").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let instance = staithe.instance();
    let prefix = staithe.link_prefix();
    let directory = staithe.directory.path().display().to_string();
    let table = format!("staithe_{}", prefix.trim_end_matches('-'));
    let names = [instance, format!(" {prefix}"), directory, table];
    let mut found: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| names.iter().any(|name| line.contains(name.as_str())))
        .map(str::to_owned)
        .collect();
    found.extend(processes_of(staithe));
    found
}

/// Command lines that name the Staithe's directory.
fn processes_of(staithe: &Staithe) -> Vec<String> {
    let directory = staithe.directory.path().display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if line.contains(&directory) {
            found.push(format!("process {line}"));
        }
    }
    found
}
