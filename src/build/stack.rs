//! Stacks: the base images that builds happen in and apps run on, made out of Debian packages.
//!
//! A stack is described by a file (`buildpacks/stacks/debian-13.toml`) and has two variants: a slim
//! *run* image and a *build* image with compilers and headers. [`bootstrap`] makes one variant with
//! `mmdebstrap` and leaves it as a tar; the caller puts it in the image store.
//!
//! The packages are signed by Debian, and their scripts run as root of the host, in mount and PID
//! namespaces of their own, as in any `debootstrap`. Equal packages make an equal image: everything
//! that differs from run to run is removed, and the image store does not look at times.

mod recipe;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

pub use recipe::{Directories, Files, Packages, StackRecipe, Target, User};

/// Programs that must be installed; mmdebstrap itself needs only these and Perl.
const TOOLS: [(&str, &str); 3] =
    [("mmdebstrap", "mmdebstrap"), ("unshare", "util-linux"), ("apt-config", "apt")];
/// The programs find each other here, whatever the daemon's environment is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The build image takes 0.7 GiB and its packages 0.2 GiB twice; more is a mistake in the recipe.
const MEMORY_LIMIT: &str = "2560m";
/// Available memory from which on the work is done there: twice as fast, and rotating disks and
/// journals are spared 25,000 small files.
const MEMORY_NEEDED: u64 = 4 << 30;
/// A longer line of a tool's output is cut.
const MAX_LINE: u64 = 4096;
/// Lines of output that an error quotes.
const QUOTED_LINES: usize = 12;
/// Time for a killed tool to disappear; it has no way to refuse.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

const BOOTSTRAP_SCRIPT: &str = include_str!("stack/bootstrap.sh");
const SETUP_HOOK: &str = include_str!("stack/setup.sh");
const CUSTOMIZE_HOOK: &str = include_str!("stack/customize.sh");

/// Settings of apt on the host that say how it reaches its mirrors. They apply to the bootstrap as
/// well, and do not end up in the image.
const HOST_APT_SETTINGS: [&str; 7] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::https::CaInfo",
    "Acquire::ForceIPv4",
    "Acquire::Retries",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// Which of a stack's two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// What apps run on.
    Run,
    /// What builds happen in: the run image's packages, compilers, headers and tools.
    Build,
}

impl Variant {
    /// Both, in the order in which they are made.
    pub const ALL: [Self; 2] = [Self::Run, Self::Build];

    /// `run` or `build`: the tag of the image `stack/<name>:<variant>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Build => "build",
        }
    }
}

/// Where and how to bootstrap.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// Replaces the recipe's mirror of `deb.debian.org/debian`.
    pub mirror: Option<String>,
    /// Replaces the recipe's mirror of `deb.debian.org/debian-security`.
    pub security_mirror: Option<String>,
    /// Certificates to trust for `https` mirrors; apt's own choice when absent.
    pub ca_bundle: Option<PathBuf>,
    /// Downloaded packages are kept in a directory here, so that a rebuild downloads nothing.
    pub cache_dir: PathBuf,
    /// Scratch space on disk, used when memory is short; the image's size and a half.
    pub work_dir: PathBuf,
    /// The whole bootstrap is given up after this long.
    pub deadline: Duration,
}

/// What a bootstrap made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrapped {
    /// Installed packages with their versions, sorted by name.
    pub packages: Vec<(String, String)>,
    /// Size of the tar in bytes.
    pub tar_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// A failed bootstrap or an unusable recipe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe is not TOML, or not a recipe.
    #[error("read the stack's recipe")]
    Parse { source: Box<toml::de::Error> },
    /// The recipe says things that cannot be. One line per problem.
    #[error("the stack's recipe is not usable: {}", problems.join("; "))]
    Invalid { problems: Vec<String> },
    /// A program is not installed.
    #[error("`{tool}` is not installed (apt-get install {package})")]
    MissingTool { tool: &'static str, package: &'static str, source: io::Error },
    /// The keys to check the mirror's signatures with are not there.
    #[error("keyring `{}` is missing (apt-get install debian-archive-keyring)", path.display())]
    MissingKeyring { path: PathBuf },
    /// A file or directory of the bootstrap's.
    #[error("{operation} `{}`", path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    /// A program could not be started or read from.
    #[error("run {tool}")]
    Run { tool: &'static str, source: io::Error },
    /// mmdebstrap or a step after it failed; the end of its output says why.
    #[error("bootstrap of the {} image failed ({status}): {output}", variant.name())]
    Failed { variant: Variant, status: ExitStatus, output: String },
    /// It took too long.
    #[error(
        "bootstrap of the {} image was given up after {} seconds",
        variant.name(), deadline.as_secs()
    )]
    Deadline { variant: Variant, deadline: Duration },
}

/// Makes `variant` of the stack and writes it to `out_tar`; `on_line` sees the tools' output.
///
/// # Errors
/// A missing tool, an unreachable mirror, a deadline; nothing is left behind but the cache.
///
/// # Cancellation
/// Dropping the future kills the tools and everything they started. Scratch files that they leave
/// in `work_dir` are removed by the next bootstrap of the same image.
pub async fn bootstrap(
    recipe: &StackRecipe,
    variant: Variant,
    out_tar: &Path,
    options: &BootstrapOptions,
    mut on_line: impl FnMut(&str) + Send,
) -> Result<Bootstrapped, Error> {
    let started = Instant::now();
    if !recipe.keyring.exists() {
        return Err(Error::MissingKeyring { path: recipe.keyring.clone() });
    }
    for (tool, package) in TOOLS {
        check_tool(tool, package).await?;
    }
    let scratch = Scratch::new(recipe, variant, out_tar, options)?;
    let settings = host_apt_settings().await?;
    let command = command(recipe, variant, options, &scratch, &settings);
    let run = run(command, variant, &mut on_line);
    match tokio::time::timeout(options.deadline, run).await {
        Ok(result) => result?,
        Err(_) => return Err(Error::Deadline { variant, deadline: options.deadline }),
    }
    let mut bootstrapped = scratch.finish(out_tar)?;
    bootstrapped.duration = started.elapsed();
    Ok(bootstrapped)
}

async fn check_tool(tool: &'static str, package: &'static str) -> Result<(), Error> {
    let mut command = Command::new(tool);
    command.arg("--version").env("PATH", PATH).stdin(Stdio::null()).kill_on_drop(true);
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status().await {
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            Err(Error::MissingTool { tool, package, source })
        }
        Err(source) => Err(Error::Run { tool, source }),
        Ok(_) => Ok(()),
    }
}

/// Runs the script to its end and reports its output line by line.
async fn run(
    mut command: Command,
    variant: Variant,
    on_line: &mut (impl FnMut(&str) + Send),
) -> Result<(), Error> {
    let failed = |source| Error::Run { tool: "unshare", source };
    let mut child = command.spawn().map_err(failed)?;
    let mut last = VecDeque::new();
    if let Some(output) = child.stdout.take() {
        // Ends when the last process of the namespace has closed its end.
        read_lines(output, |line| {
            on_line(line);
            if last.len() == QUOTED_LINES {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        })
        .await
        .map_err(failed)?;
    }
    let status = tokio::time::timeout(KILL_TIMEOUT, child.wait())
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let output = Vec::from(last).join(" / ");
    Err(Error::Failed { variant, status, output })
}

async fn read_lines(
    output: impl AsyncRead + Unpin,
    mut on_line: impl FnMut(&str),
) -> io::Result<()> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            on_line(text);
        }
    }
}

/// The script in namespaces of its own: when its first process dies, the kernel kills all others
/// (pid_namespaces(7)) and takes the mounts away.
fn command(
    recipe: &StackRecipe,
    variant: Variant,
    options: &BootstrapOptions,
    scratch: &Scratch,
    settings: &[String],
) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        .args(["sh", "-eu", "-c", BOOTSTRAP_SCRIPT, "sh"])
        .args(mmdebstrap_arguments(recipe, variant, options, settings))
        .arg(format!("--setup-hook={SETUP_HOOK}"))
        .arg(format!("--customize-hook={CUSTOMIZE_HOOK}"))
        .arg(&recipe.suites[0])
        .arg(scratch.work.join("root"))
        .args(recipe.sources(options.mirror.as_deref(), options.security_mirror.as_deref()))
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("SOURCE_DATE_EPOCH", recipe.source_date_epoch.to_string())
        .env("STAITHE_WORK", &scratch.work)
        .env("STAITHE_MEMORY", if scratch.in_memory { MEMORY_LIMIT } else { "" })
        .env("STAITHE_CACHE", &scratch.cache)
        .env("STAITHE_OUT", &scratch.out)
        .env("STAITHE_USER", &recipe.user.name)
        .env("STAITHE_UID", recipe.user.uid.to_string())
        .env("STAITHE_GID", recipe.user.gid.to_string())
        .env("STAITHE_HOME", &recipe.user.home)
        .env("STAITHE_USER_DIRECTORIES", recipe.directories.user.join(" "))
        .env("STAITHE_ROOT_DIRECTORIES", recipe.directories.root.join(" "))
        .env("STAITHE_REMOVE", recipe.files.remove.join(" "))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

fn mmdebstrap_arguments(
    recipe: &StackRecipe,
    variant: Variant,
    options: &BootstrapOptions,
    settings: &[String],
) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--mode=root",
        "--variant=essential",
        "--format=directory",
        // The cache's packages are there from the start and are to be there at the end.
        "--skip=download/empty",
        "--skip=check/empty",
        "--skip=essential/unlink",
        // A crash throws the new system away as a whole.
        "--dpkgopt=force-unsafe-io",
        "--aptopt=APT::Install-Recommends \"false\"",
        "--aptopt=Acquire::Languages \"none\"",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--keyring={}", recipe.keyring.display()));
    arguments.push(format!("--components={}", recipe.components.join(",")));
    arguments.push(format!("--include={}", recipe.packages(variant).join(",")));
    // dpkg lets the last match win.
    arguments.extend(recipe.files.exclude.iter().map(|p| format!("--dpkgopt=path-exclude={p}")));
    arguments.extend(recipe.files.include.iter().map(|p| format!("--dpkgopt=path-include={p}")));
    arguments.extend(settings.iter().map(|setting| format!("--aptopt={setting}")));
    if let Some(bundle) = &options.ca_bundle {
        arguments.push(format!("--aptopt=Acquire::https::CaInfo \"{}\"", bundle.display()));
    }
    arguments
}

async fn host_apt_settings() -> Result<Vec<String>, Error> {
    let mut command = Command::new("apt-config");
    command.arg("dump").env("PATH", PATH).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        command.output().await.map_err(|source| Error::Run { tool: "apt-config", source })?;
    Ok(pick_apt_settings(&String::from_utf8_lossy(&output.stdout)))
}

/// The lines of `apt-config dump` that matter, without their semicolons.
fn pick_apt_settings(dump: &str) -> Vec<String> {
    dump.lines()
        .filter_map(|line| line.strip_suffix(';')?.split_once(' '))
        .filter(|(key, value)| HOST_APT_SETTINGS.contains(key) && *value != "\"\"")
        .map(|(key, value)| format!("{key} {value}"))
        .collect()
}

/// The files of one bootstrap under way; removed when dropped.
#[derive(Debug)]
struct Scratch {
    /// Where the new system is put together; a file system in memory is mounted there, if so.
    work: PathBuf,
    in_memory: bool,
    cache: PathBuf,
    /// The tar in the making, beside the place where it goes.
    out: PathBuf,
}

impl Scratch {
    fn new(
        recipe: &StackRecipe,
        variant: Variant,
        out_tar: &Path,
        options: &BootstrapOptions,
    ) -> Result<Self, Error> {
        let name = format!("{}-{}", recipe.name, variant.name());
        let work = options.work_dir.join(format!("bootstrap-{name}"));
        let mut out = out_tar.as_os_str().to_owned();
        out.push(".partial");
        let scratch = Self {
            work,
            in_memory: available_memory() >= MEMORY_NEEDED,
            cache: options.cache_dir.join(name),
            out: PathBuf::from(out),
        };
        scratch.remove();
        for directory in [&scratch.work, &options.cache_dir] {
            std::fs::create_dir_all(directory).map_err(file_error("create", directory))?;
        }
        Ok(scratch)
    }

    fn packages_path(&self) -> PathBuf {
        let mut path = self.out.as_os_str().to_owned();
        path.push(".packages");
        PathBuf::from(path)
    }

    /// Moves the tar to its place.
    fn finish(self, out_tar: &Path) -> Result<Bootstrapped, Error> {
        let list = self.packages_path();
        let list = std::fs::read_to_string(&list).map_err(file_error("read", &list))?;
        let metadata = std::fs::metadata(&self.out).map_err(file_error("measure", &self.out))?;
        std::fs::rename(&self.out, out_tar).map_err(file_error("move the image to", out_tar))?;
        let mut packages: Vec<(String, String)> = list
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .collect();
        packages.sort();
        Ok(Bootstrapped { packages, tar_bytes: metadata.len(), duration: Duration::ZERO })
    }

    fn remove(&self) {
        // Nothing there is the usual case; what cannot be removed is met again by the next attempt,
        // whose tools then say why.
        let _ = std::fs::remove_dir_all(&self.work);
        let _ = std::fs::remove_file(&self.out);
        let _ = std::fs::remove_file(self.packages_path());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { operation, path, source }
}

/// Bytes that can be taken without swapping; 0 where the kernel does not say. proc_meminfo(5).
fn available_memory() -> u64 {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_meminfo(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        .saturating_mul(1024)
}

#[cfg(test)]
mod tests;
