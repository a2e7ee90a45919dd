//! Reading files of the running build container through the sandbox.
//!
//! The build's own processes may be writing there, so the host must not open anything by path: a
//! directory could turn into a symbolic link between two looks. A shell inside cannot be led
//! outside, and what it prints is as trustworthy as the files themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use crate::build::Error;
use crate::build::environment::Variables;
use crate::build::sandbox::{Sandbox, SandboxError, Step, Stream};

/// Files and directories that matched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub dirs: BTreeSet<String>,
    pub files: BTreeMap<String, String>,
}

/// Reading takes milliseconds; a hostile tree may have very many matches.
const DEADLINE: Duration = Duration::from_secs(20);
/// The most bytes of all files together.
const MAX_TOTAL: usize = 4 << 20;

/// Prints `D <directory>` and `F <file>`, the latter followed by at most 1 MiB of it in
/// hexadecimal. An empty IFS leaves the patterns' matches whole, whatever is in their names.
const SCRIPT: &str = r#"cd "$1" 2>/dev/null || exit 0; shift; IFS=
for pattern do for path in $pattern; do
  if [ -d "$path" ]; then printf 'D %s\n' "$path"
  elif [ -f "$path" ] && [ -s "$path" ]; then
    printf 'F %s\n' "$path"; head -c 1048576 -- "$path" | od -An -v -tx1
  fi
done; done"#;

/// Reads what matches the shell patterns below `dir` in the container.
pub(super) async fn read(
    sandbox: &impl Sandbox,
    dir: &str,
    patterns: &[&str],
) -> Result<Found, Error> {
    let mut args: Vec<String> = ["/bin/sh", "-c", SCRIPT, "read", dir].map(str::to_owned).into();
    args.extend(patterns.iter().map(|pattern| (*pattern).to_owned()));
    let step = Step {
        name: format!("read {dir}"),
        args,
        env: plain_env(),
        cwd: "/".into(),
        deadline: DEADLINE,
    };
    let reader = Mutex::new(Reader::default());
    let exit = sandbox
        .exec(&step, &|stream, line| {
            if stream == Stream::Stdout {
                reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take(line);
            }
        })
        .await?;
    let reader = reader.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if exit.code != 0 || reader.total > MAX_TOTAL {
        let why = format!("exit code {}, {} bytes", exit.code, reader.total);
        return Err(SandboxError::Run { step: step.name, source: why.into() }.into());
    }
    Ok(reader.finish())
}

/// Runs a helper of the lifecycle's own and drops its output.
pub(super) async fn run(sandbox: &impl Sandbox, name: &str, args: &[&str]) -> Result<(), Error> {
    let step = Step {
        name: name.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: plain_env(),
        cwd: "/".into(),
        deadline: DEADLINE,
    };
    match sandbox.exec(&step, &|_, _| {}).await?.code {
        0 => Ok(()),
        code => {
            let why = format!("exit code {code}");
            Err(SandboxError::Run { step: step.name, source: why.into() }.into())
        }
    }
}

fn plain_env() -> Vec<(String, String)> {
    let variables = Variables::from([
        ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
    ]);
    variables.into_iter().collect()
}

#[derive(Debug, Default)]
struct Reader {
    dirs: BTreeSet<String>,
    files: BTreeMap<String, Vec<u8>>,
    current: Option<String>,
    total: usize,
}

impl Reader {
    fn take(&mut self, line: &str) {
        self.total = self.total.saturating_add(line.len() / 3 + 1);
        if self.total > MAX_TOTAL {
            return;
        }
        if let Some(dir) = line.strip_prefix("D ") {
            self.dirs.insert(dir.trim_end_matches('/').to_owned());
        } else if let Some(file) = line.strip_prefix("F ") {
            self.files.insert(file.to_owned(), Vec::new());
            self.current = Some(file.to_owned());
        } else if let Some(contents) =
            self.current.as_ref().and_then(|current| self.files.get_mut(current))
        {
            let bytes = line.split_ascii_whitespace();
            contents.extend(bytes.filter_map(|hex| u8::from_str_radix(hex, 16).ok()));
        }
    }

    fn finish(self) -> Found {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let files = self.files.into_iter().map(|(name, bytes)| (name, text(bytes)));
        Found { dirs: self.dirs, files: files.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_prints_becomes_files_and_directories() {
        let mut reader = Reader::default();
        for line in
            ["D node/bin", "F node.toml", " 5b 61 5d 0a", " c3 a9", "F env/A b.append", " 31"]
        {
            reader.take(line);
        }
        let found = reader.finish();
        assert_eq!(found.dirs, BTreeSet::from(["node/bin".to_owned()]));
        assert_eq!(found.files["node.toml"], "[a]\né");
        assert_eq!(found.files["env/A b.append"], "1");
    }

    #[test]
    fn noise_is_ignored_and_too_much_of_it_bounded() {
        let mut reader = Reader::default();
        reader.take(" 61 zz");
        reader.take("x");
        assert_eq!(reader.finish(), Found::default());
        let mut reader = Reader::default();
        reader.take("F a");
        for _ in 0..2000 {
            reader.take(&" 61".repeat(4000));
        }
        assert!(reader.total > MAX_TOTAL && reader.files["a"].len() <= MAX_TOTAL);
    }
}
