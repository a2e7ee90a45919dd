//! Stacks: the base images of builds and instances, made out of Debian packages.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::pipeline::blocking;
use super::{Error, Journal, Kind, Operation, Platform, Result, StackReport, clock};
use crate::build::Output;
use crate::build::stack::{BootstrapOptions, StackRecipe, Variant, bootstrap};
use crate::domain::Actor;
use crate::image::{Digest, ImageConfig, ImageSpec, Lease, TarOptions};
use crate::store::StoredStack;
use crate::support::report;

/// How long packing one repository may take.
const MAINTENANCE: Duration = Duration::from_secs(10 * 60);
/// The stacks that can be made.
pub(super) const RECIPES: &[(&str, &str)] =
    &[("debian-13", include_str!("../../buildpacks/stacks/debian-13.toml"))];
/// A bootstrap downloads some 200 MB and unpacks 700 MB.
const BOOTSTRAP_DEADLINE: Duration = Duration::from_secs(30 * 60);

impl Platform {
    /// All stacks by name.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn stacks(&self) -> Result<Vec<StackReport>> {
        self.store.stacks()?.into_iter().map(|stack| self.report_stack(stack)).collect()
    }

    /// One stack.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stack(&self, name: &str) -> Result<StackReport> {
        let stack = self.store.stack(name)?.ok_or_else(|| no_stack(name))?;
        self.report_stack(stack)
    }

    fn report_stack(&self, stack: StoredStack) -> Result<StackReport> {
        let apps = self.store.apps()?.into_iter().filter(|app| app.stack == stack.name);
        Ok(StackReport {
            apps: apps.map(|app| app.name).collect(),
            name: stack.name,
            run_image: stack.run_image,
            build_image: stack.build_image,
            run_bytes: stack.run_bytes,
            build_bytes: stack.build_bytes,
            created_at: stack.created_at,
        })
    }

    /// Makes a stack's images, or makes them anew; apps get them at their next build.
    ///
    /// # Errors
    /// `NotFound` for a stack without a recipe; the operation fails with `Failed` where packages
    /// cannot be had.
    pub async fn build_stack(&self, actor: &Actor, name: &str) -> Result<Operation<StackReport>> {
        let (_, text) =
            RECIPES.iter().find(|(known, _)| *known == name).ok_or_else(|| no_stack(name))?;
        let recipe = StackRecipe::parse(text)
            .map_err(|error| Error::internal("a bundled stack recipe is damaged", error))?;
        let (actor, name) = (actor.clone(), name.to_owned());
        Ok(self.operate(Journal::new(), move |platform, output, cancel| async move {
            let lease = platform.images.lease();
            let make = platform.make_stack(&name, &recipe, &lease, &output);
            let stack = tokio::select! {
                biased;
                // Cancel-safe: only observes.
                () = cancel.cancelled() => return Err(Error::canceled("canceled")),
                // Dropped: the tools are killed; what was unpacked is collected later.
                stack = make => stack?,
            };
            platform.store.set_stack(&stack)?;
            platform.note_named(None, "stack.built", &format!("stack `{name}` built"), &actor);
            platform.report_stack(stack)
        }))
    }

    async fn make_stack(
        &self,
        name: &str,
        recipe: &StackRecipe,
        lease: &Lease,
        output: &Arc<Output>,
    ) -> Result<StoredStack> {
        let work = self
            .settings()
            .data_dir
            .join("builds")
            .join(format!("stack-{name}-{}", super::launch::random_hex()?));
        tokio::fs::create_dir_all(&work)
            .await
            .map_err(|error| Error::internal("cannot make a work directory", error))?;
        let result = async {
            let (run_image, run_bytes) =
                self.make_variant(name, recipe, Variant::Run, lease, &work, output).await?;
            let (build_image, build_bytes) =
                self.make_variant(name, recipe, Variant::Build, lease, &work, output).await?;
            Ok(StoredStack {
                name: name.to_owned(),
                run_image,
                build_image,
                run_bytes,
                build_bytes,
                created_at: clock::now(),
            })
        };
        let result = result.await;
        self.discard_tree(work).await;
        result
    }

    async fn make_variant(
        &self,
        name: &str,
        recipe: &StackRecipe,
        variant: Variant,
        lease: &Lease,
        work: &Path,
        output: &Arc<Output>,
    ) -> Result<(String, u64)> {
        let label = variant.name();
        output.step(&format!("Making the {label} image of {name} out of Debian packages"));
        let tar = work.join(format!("{label}.tar"));
        self.bootstrap_to(recipe, variant, &tar, work, output).await?;
        let config = ImageConfig {
            env: recipe.environment(variant),
            labels: recipe.labels(variant),
            working_dir: recipe.user.home.clone(),
            ..ImageConfig::default()
        };
        let (digest, bytes) =
            self.keep_image(&format!("stack/{name}:{label}"), config, lease, &tar).await?;
        Ok((digest.to_string(), bytes))
    }

    /// Makes an image that is no stack, under `tag`.
    pub(super) async fn make_image(
        &self,
        recipe: &StackRecipe,
        tag: &str,
        lease: &Lease,
        output: &Arc<Output>,
    ) -> Result<Digest> {
        let variant = Variant::Run;
        let name = &recipe.name;
        output.step(&format!("Making the image {name} out of Debian packages, once"));
        let directory = format!("image-{name}-{}", super::launch::random_hex()?);
        let work = self.settings().data_dir.join("builds").join(directory);
        let failed = |error| Error::internal("cannot make a work directory", error);
        tokio::fs::create_dir_all(&work).await.map_err(failed)?;
        let made = async {
            let tar = work.join("image.tar");
            self.bootstrap_to(recipe, variant, &tar, &work, output).await?;
            let config = ImageConfig {
                env: recipe.environment(variant),
                working_dir: recipe.user.home.clone(),
                ..ImageConfig::default()
            };
            Ok(self.keep_image(tag, config, lease, &tar).await?.0)
        };
        let result = made.await;
        self.discard_tree(work).await;
        result
    }

    async fn bootstrap_to(
        &self,
        recipe: &StackRecipe,
        variant: Variant,
        tar: &Path,
        work: &Path,
        output: &Arc<Output>,
    ) -> Result<()> {
        let options = BootstrapOptions {
            mirror: self.settings().debian_mirror.clone(),
            security_mirror: self.settings().debian_security_mirror.clone(),
            ca_bundle: self.settings().build.host_ca_bundle(),
            cache_dir: self.settings().data_dir.join("cache").join("debian"),
            work_dir: work.to_owned(),
            deadline: BOOTSTRAP_DEADLINE,
        };
        let facts = bootstrap(recipe, variant, tar, &options, |line| show(output, line))
            .await
            .map_err(|error| {
                let label = variant.name();
                Error::new(
                    Kind::Failed,
                    format!("the {label} image cannot be made: {}", report(&error)),
                )
            })?;
        output.detail(&format!(
            "{} packages, {} MB, {} s",
            facts.packages.len(),
            facts.tar_bytes >> 20,
            facts.duration.as_secs()
        ));
        Ok(())
    }

    async fn keep_image(
        &self,
        tag: &str,
        config: ImageConfig,
        lease: &Lease,
        tar: &Path,
    ) -> Result<(Digest, u64)> {
        let (tag, tar) = (tag.to_owned(), tar.to_owned());
        // The lease cannot move to the other thread and stay here: one of its own covers the time
        // until the caller's holds the image.
        let images = self.images.clone();
        let (digest, bytes) =
            blocking(move || -> std::result::Result<_, crate::image::Error> {
                let lease = images.lease();
                let file = std::fs::File::open(&tar).map_err(|source| {
                    crate::image::Error::Store { operation: "open", path: tar.clone(), source }
                })?;
                let layer = images.add_layer_from_tar(&lease, file, TarOptions::default())?;
                let digest = images.write_image(
                    &lease,
                    &ImageSpec { config, layers: vec![layer.digest], history: Vec::new() },
                )?;
                images.tag(&tag, &digest)?;
                Ok((digest, layer.tar_bytes))
            })
            .await??;
        lease.hold(&digest)?;
        Ok((digest, bytes))
    }

    /// Removes a stack that no app uses.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while an app uses it.
    pub async fn remove_stack(&self, actor: &Actor, name: &str) -> Result<()> {
        let report = self.stack(name).await?;
        if let Some(app) = report.apps.first() {
            return Err(Error::new(
                Kind::Conflict,
                format!("stack `{name}` is used by app `{app}`"),
            ));
        }
        self.store.remove_stack(name)?;
        for label in ["run", "build"] {
            self.images.untag(&format!("stack/{name}:{label}"))?;
        }
        self.note_named(None, "stack.removed", &format!("stack `{name}` removed"), actor);
        Ok(())
    }

    /// Removes images and layers that no kept release, cache or stack needs; answers freed bytes.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn collect_garbage(&self, actor: &Actor) -> Result<u64> {
        let platform = self.clone();
        let collected = blocking(move || platform.images.gc(|| platform.image_roots())).await??;
        let message = format!(
            "garbage collected: {} layers, {} bytes",
            collected.layers_removed, collected.bytes
        );
        self.note_named(None, "images.collected", &message, actor);
        Ok(collected.bytes)
    }

    /// Packs the repositories' objects and clears away what killed pushes left; failures go to the
    /// log.
    pub async fn maintain_repositories(&self) {
        let apps = self.store.apps().unwrap_or_else(|error| {
            tracing::error!(error = report(&error), "cannot list the apps");
            Vec::new()
        });
        for app in apps {
            let swept = self.repositories.sweep(&app.name).map_err(|error| report(&error));
            let packed = match self.repositories.maintain(&app.name) {
                Ok(mut command) => {
                    match tokio::time::timeout(MAINTENANCE, command.status()).await {
                        Ok(status) => status.map(drop).map_err(|error| error.to_string()),
                        // Dropped, the command is killed; the next round tries again.
                        Err(_) => {
                            Err(format!("git gc took longer than {} s", MAINTENANCE.as_secs()))
                        }
                    }
                }
                Err(error) => Err(report(&error)),
            };
            if let Err(error) = swept.and(packed) {
                tracing::warn!(app.name = app.name.as_str(), error, "cannot tidy a repository");
            }
        }
    }

    /// Everything that must stay: images of kept releases and layers of the build caches.
    fn image_roots(&self) -> std::result::Result<crate::image::Roots, Error> {
        let mut roots = crate::image::Roots::default();
        let stacks =
            self.store.stacks()?.into_iter().flat_map(|stack| [stack.run_image, stack.build_image]);
        // Tags go to newer images; a service stays on the one it was made with.
        let services = self.store.services()?.into_iter().map(|service| service.image);
        for digest in self.store.release_images()?.into_iter().chain(stacks).chain(services) {
            roots.images.push(
                digest
                    .parse()
                    .map_err(|error| Error::internal("a release without an image", error))?,
            );
        }
        for app in self.store.apps()? {
            let path = self.cache_dir(app.id).join("layers.json");
            let record = crate::build::CacheRecord::load(&path);
            roots.layers.extend(
                record.digests().filter_map(|digest| digest.parse::<crate::image::Digest>().ok()),
            );
        }
        Ok(roots)
    }

    /// Drops what is beyond the numbers to keep, after a deploy; failures go to the log.
    pub(super) async fn prune(&self, app: &crate::domain::App) {
        let keep = self.settings();
        let pruned = self
            .store
            .prune_releases(app.id, keep.kept_releases)
            .and_then(|_| self.store.prune_builds(app.id, keep.kept_builds));
        match pruned {
            Ok(builds) => {
                for build in builds {
                    self.remove_build_log(build).await;
                }
            }
            Err(error) => tracing::warn!(error = report(&error), "cannot drop old releases"),
        }
        self.prune_logs(app.id).await;
    }
}

/// Of the tools' output what says how far they are: hooks are printed as whole scripts, and what
/// explains a failure is part of the error.
fn show(output: &Output, line: &str) {
    let progress = ["I: ", "W: ", "E: "].iter().any(|mark| line.starts_with(mark));
    if progress && !line.starts_with("I: running --") {
        output.detail(line);
    }
}

fn no_stack(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no stack `{name}`"))
        .hint("`debian-13` can be made by `staithe stack:build debian-13`")
}
