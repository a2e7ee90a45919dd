//! Pages of an app's own in place of Staithe's, for maintenance and failures.
//!
//! ```text
//! <data_dir>/pages/<SHA-256>.html     root:<the proxy's group> 0640, never changed
//! ```
//!
//! A file is there before a table names it, and is removed long after none does.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Error, Kind, Page, PageReport, Platform, Result};
use crate::domain::{Actor, App, AppName, FrontSettings, PageId, PageOccasion};
use crate::support::{atomic_file, report};

/// The largest page: the proxy keeps pages in memory.
const MAX_PAGE: usize = 64 << 10;
/// How long an unreferenced page stays: the proxy may still be told of the table before.
const KEPT: Duration = Duration::from_secs(3600);

impl Platform {
    /// The app's own pages.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn pages(&self, name: &AppName) -> Result<PageReport> {
        let front = self.store.front(self.find_app(name)?.id)?;
        let pages = front.pages.into_iter().map(|(when, id)| Page { when, id }).collect();
        Ok(PageReport { pages })
    }

    /// Replaces one of Staithe's pages by one of the app's.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an empty page or one of more than 64 KiB.
    pub async fn set_page(
        &self,
        actor: &Actor,
        name: &AppName,
        when: PageOccasion,
        html: &str,
    ) -> Result<PageReport> {
        if html.trim().is_empty() || html.len() > MAX_PAGE {
            let message = format!("a page must have 1 to {MAX_PAGE} bytes, not {}", html.len());
            return Err(Error::new(Kind::Invalid, message)
                .hint("give it as HTML on standard input, with styles and images inside"));
        }
        let message = format!("page `{when}` set");
        let edit = |_: &App, front: &mut FrontSettings| {
            let id = self
                .write_page(html)
                .map_err(|error| Error::internal("the page cannot be written", error))?;
            front.pages.insert(when, id);
            Ok(())
        };
        self.change_front(actor, name, ("app.pages", &message), edit).await?;
        self.pages(name).await
    }

    /// Goes back to Staithe's page.
    ///
    /// # Errors
    /// `NotFound`, also where the app has no such page.
    pub async fn clear_page(
        &self,
        actor: &Actor,
        name: &AppName,
        when: PageOccasion,
    ) -> Result<PageReport> {
        let message = format!("page `{when}` cleared");
        let edit = |_: &App, front: &mut FrontSettings| match front.pages.remove(&when) {
            Some(_) => Ok(()),
            None => {
                let message = format!("app `{name}` has no page of its own for `{when}`");
                Err(Error::new(Kind::NotFound, message)
                    .hint(format!("run `staithe error-pages:report {name}` to see its pages")))
            }
        };
        self.change_front(actor, name, ("app.pages", &message), edit).await?;
        self.pages(name).await
    }

    fn pages_dir(&self) -> PathBuf {
        self.settings().data_dir.join("pages")
    }

    fn write_page(&self, html: &str) -> io::Result<PageId> {
        let directory = self.pages_dir();
        let group = Some(self.proxy.config().user.gid);
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(&directory)?;
        std::os::unix::fs::chown(&directory, None, group)?;
        let digest: String =
            Sha256::digest(html.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let id: PageId = digest.parse().map_err(io::Error::other)?;
        let path = page_path(&directory, &id);
        atomic_file::write(&path, html.as_bytes(), 0o640)?;
        std::os::unix::fs::chown(&path, None, group)?;
        Ok(id)
    }

    /// Removes pages that no app has any more.
    pub async fn collect_pages(&self) {
        let _lock = self.0.front.lock().await;
        if let Err(error) = self.remove_unused_pages() {
            tracing::error!(error = report(&error), "cannot remove unused pages");
        }
    }

    fn remove_unused_pages(&self) -> Result<()> {
        let directory = self.pages_dir();
        let mut used = HashSet::new();
        for app in self.store.apps()? {
            let pages = self.store.front(app.id)?.pages;
            used.extend(pages.values().map(|id| page_path(&directory, id)));
        }
        remove_old_files(&directory, &used)
            .map_err(|error| Error::internal("the pages cannot be looked through", error))
    }
}

fn page_path(directory: &Path, id: &PageId) -> PathBuf {
    directory.join(format!("{id}.html"))
}

fn remove_old_files(directory: &Path, used: &HashSet<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let age = entry.metadata()?.modified()?.elapsed();
        // A clock that was set back makes a file look new, which only delays its end.
        if !used.contains(&entry.path()) && age.is_ok_and(|age| age > KEPT) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_pages_that_nobody_has_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, age: Duration| {
            let path = directory.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
            path
        };
        let used = write("used.html", KEPT * 2);
        let unused = write("unused.html", KEPT * 2);
        let fresh = write("fresh.html", Duration::ZERO);
        remove_old_files(directory.path(), &HashSet::from([used.clone()])).unwrap();
        assert_eq!([used, unused, fresh].map(|path| path.exists()), [true, false, true]);
        remove_old_files(&directory.path().join("missing"), &HashSet::new()).unwrap();
    }
}
