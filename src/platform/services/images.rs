//! Images of services and of plugins' programs: Debian packages on a slim system, made once.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::build::Output;
use crate::build::stack::{Packages, StackRecipe, User};
use crate::domain::PluginName;
use crate::image::Digest as ImageDigest;
use crate::platform::stacks::RECIPES;
use crate::platform::{Error, Platform, Result};

/// What every such image has beside the packages asked for.
const BASE: [&str; 4] = ["ca-certificates", "netbase", "procps", "tzdata"];
/// What packages make for a server of the machine's own, which there is none of: clusters that
/// nobody can read, and secrets that all machines would share.
const REMOVED: [&str; 8] = [
    "/etc/postgresql",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/var/lib/postgresql",
    "/var/lib/mysql",
    "/var/lib/redis",
    "/var/lib/rabbitmq",
    "/var/log/postgresql",
];

/// What an image is for: the first part of its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::platform) enum ImageFor {
    /// A service.
    Service,
    /// A plugin's commands and hooks.
    Plugin,
}

impl ImageFor {
    fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Plugin => "plugin",
        }
    }
}

impl Platform {
    /// The image of `name` with `packages`, made now if there is none; that takes a minute.
    ///
    /// # Errors
    /// `Failed` where packages cannot be had.
    pub(in crate::platform) async fn ensure_image(
        &self,
        purpose: ImageFor,
        name: &PluginName,
        packages: &[String],
        output: &Arc<Output>,
    ) -> Result<ImageDigest> {
        let recipe = recipe(purpose, name, packages)?;
        let tag = tag(purpose, name, &recipe);
        if let Ok(digest) = self.images.resolve(&tag) {
            return Ok(digest);
        }
        let _turn = self.0.services.images.lock().await;
        // Another one may have made it while we waited.
        if let Ok(digest) = self.images.resolve(&tag) {
            return Ok(digest);
        }
        self.make_tagged_image(&recipe, &tag, output).await
    }

    /// The image of `name` made anew, out of the packages that the mirror has now.
    ///
    /// # Errors
    /// `Failed` where packages cannot be had; the image that was there stays then.
    pub(super) async fn renew_image(
        &self,
        purpose: ImageFor,
        name: &PluginName,
        packages: &[String],
        output: &Arc<Output>,
    ) -> Result<ImageDigest> {
        let recipe = recipe(purpose, name, packages)?;
        let _turn = self.0.services.images.lock().await;
        self.make_tagged_image(&recipe, &tag(purpose, name, &recipe), output).await
    }

    async fn make_tagged_image(
        &self,
        recipe: &StackRecipe,
        tag: &str,
        output: &Arc<Output>,
    ) -> Result<ImageDigest> {
        let lease = self.images.lease();
        let digest = self.make_image(recipe, tag, &lease, output).await?;
        for (old, _) in self.images.list() {
            let replaced = old != tag
                && old.rsplit_once(':').map(|(name, _)| name)
                    == tag.rsplit_once(':').map(|(name, _)| name);
            if replaced {
                // Services that run on it keep it.
                self.images.untag(&old)?;
            }
        }
        Ok(digest)
    }

    /// The image of `name` with `packages`, if it was made.
    pub(in crate::platform) fn made_image(
        &self,
        purpose: ImageFor,
        name: &PluginName,
        packages: &[String],
    ) -> Result<Option<ImageDigest>> {
        let recipe = recipe(purpose, name, packages)?;
        Ok(self.images.resolve(&tag(purpose, name, &recipe)).ok())
    }
}

/// The default stack's recipe with other packages and another user.
fn recipe(purpose: ImageFor, name: &PluginName, packages: &[String]) -> Result<StackRecipe> {
    let (_, text) = RECIPES[0];
    let mut recipe = StackRecipe::parse(text)
        .map_err(|error| Error::internal("a bundled stack recipe is damaged", error))?;
    recipe.name = format!("{}-{name}", purpose.word());
    let base = BASE.iter().map(|package| (*package).to_owned());
    recipe.run = Packages { packages: base.chain(packages.iter().cloned()).collect() };
    recipe.build = Packages { packages: Vec::new() };
    recipe.user = User { name: "service".into(), home: "/data".into(), ..recipe.user };
    recipe.directories.user = Vec::new();
    recipe.directories.root = vec!["/plugin".into()];
    recipe.files.remove = REMOVED.iter().map(|path| (*path).to_owned()).collect();
    Ok(recipe)
}

/// `service/postgres:0123456789abcdef`: changes with what goes into the image.
fn tag(purpose: ImageFor, name: &PluginName, recipe: &StackRecipe) -> String {
    let digest = Sha256::digest(format!("{recipe:?}").as_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{name}:{hash}", purpose.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_tag_changes_with_its_packages() {
        let name: PluginName = "postgres".parse().unwrap();
        let tag = |packages: &[&str]| {
            let packages: Vec<_> = packages.iter().map(ToString::to_string).collect();
            let recipe = recipe(ImageFor::Service, &name, &packages).unwrap();
            super::tag(ImageFor::Service, &name, &recipe)
        };
        assert!(tag(&["postgresql-17"]).starts_with("service/postgres:"));
        assert_eq!(tag(&["postgresql-17"]), tag(&["postgresql-17"]));
        assert_ne!(tag(&["postgresql-17"]), tag(&["postgresql-18"]));
    }
}
