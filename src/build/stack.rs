//! Stacks: the base images that builds happen in and apps run on, made out of Debian packages.
//!
//! A stack is described by a file (`buildpacks/stacks/debian-13.toml`) and has two variants: a slim
//! *run* image and a *build* image with compilers and headers. [`bootstrap`] makes one variant with
//! `mmdebstrap` and leaves it as a tar; the caller puts it in the image store.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A stack's description.
#[derive(Debug, Clone)]
pub struct StackRecipe {}

/// Which of a stack's two images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// What apps run on.
    Run,
    /// What builds happen in: the run image's packages, compilers, headers and tools.
    Build,
}

/// Where and how to bootstrap.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// Replaces the recipe's mirror of `deb.debian.org/debian`.
    pub mirror: Option<String>,
    /// Certificates to trust for `https` mirrors; the host's when absent.
    pub ca_bundle: Option<PathBuf>,
    /// Downloaded packages are kept here, so that a rebuild downloads nothing.
    pub cache_dir: PathBuf,
    /// Scratch space; needs room for the image twice when memory is short.
    pub work_dir: PathBuf,
    /// The whole bootstrap is given up after this long.
    pub deadline: Duration,
}

/// What a bootstrap made.
#[derive(Debug, Clone)]
pub struct StackFacts {
    /// Installed packages as `name version`, sorted.
    pub packages: Vec<(String, String)>,
    /// Size of the tar in bytes.
    pub tar_bytes: u64,
    /// How long it took.
    pub duration: Duration,
}

/// A failed bootstrap or an unusable recipe.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

impl StackRecipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// What is wrong with it and where.
    pub fn parse(_text: &str) -> Result<Self, Error> {
        unimplemented!()
    }

    pub fn bundled(_name: &str) -> Option<Result<Self, Error>> {
        unimplemented!()
    }

    pub fn environment(&self, _variant: Variant) -> Vec<(String, String)> {
        unimplemented!()
    }

    pub fn labels(&self, _variant: Variant) -> std::collections::BTreeMap<String, String> {
        unimplemented!()
    }
}

/// Makes `variant` of the stack and writes it to `out_tar`; `on_line` sees the tools' output.
///
/// # Errors
/// A missing tool, an unreachable mirror, a deadline; nothing is left behind but the cache.
///
/// # Cancellation
/// Dropping the future kills the tools and everything they started.
pub async fn bootstrap(
    _recipe: &StackRecipe,
    _variant: Variant,
    _out_tar: &Path,
    _options: &BootstrapOptions,
    _on_line: impl FnMut(&str) + Send,
) -> Result<StackFacts, Error> {
    unimplemented!()
}
