//! The route table on disk: what a proxy serves that was killed and comes back alone.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::support::{atomic_file, report};

use super::{Error, RouteTable};

const NAME: &CStr = c"routes.json";

/// As large as a table can have come over the control socket.
const MAX_SIZE: u64 = super::protocol::MAX_MESSAGE as u64;

/// The table's file.
#[derive(Debug, Clone)]
pub(super) struct RoutesFile {
    path: PathBuf,
}

impl RoutesFile {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join(NAME.to_str().unwrap_or_default()) }
    }

    /// The table that was kept; empty if there is none yet, or if it is damaged, which is logged: the
    /// control plane has the truth and will send it.
    pub(super) fn load_or_empty(&self) -> RouteTable {
        self.load().unwrap_or_else(|error| {
            tracing::error!(error = report(&error), "start without routes");
            RouteTable::default()
        })
    }

    fn load(&self) -> Result<RouteTable, Error> {
        let error = |source| Error::ReadRoutes { path: self.path.clone(), source };
        match self.read() {
            Ok(json) => serde_json::from_slice(&json).map_err(|source| error(source.into())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(RouteTable::default()),
            Err(source) => Err(error(source)),
        }
    }

    /// Root reads this too, in a directory that is the proxy's user's: no link is followed, nothing
    /// but a file of bounded size is read.
    fn read(&self) -> io::Result<Vec<u8>> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let directory = crate::sys::fs::open_directory(directory)?;
        let file = crate::sys::fs::open_file_at(directory.as_fd(), NAME)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > MAX_SIZE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut json = Vec::new();
        file.take(MAX_SIZE).read_to_end(&mut json)?;
        Ok(json)
    }

    /// Keeps `table`, whole or not at all.
    ///
    /// # Errors
    /// `PersistRoutes`.
    pub(super) fn save(&self, table: &RouteTable) -> Result<(), Error> {
        let json = serde_json::to_vec(table).map_err(io::Error::other);
        json.and_then(|json| atomic_file::write(&self.path, &json, 0o640))
            .map_err(|source| Error::PersistRoutes { source })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Route, RouteState};
    use super::*;
    use crate::domain::ReleaseVersion;

    #[test]
    fn a_table_comes_back_as_it_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = RoutesFile::in_directory(directory.path());
        let state = |state| {
            let domains = vec!["shop.example.com".parse().unwrap()];
            Route::web("shop".parse().unwrap(), domains, state)
        };
        let upstreams = vec!["10.1.2.3:5000".parse().unwrap(), "[fd00::1]:5000".parse().unwrap()];
        let routes = [
            RouteState::Live { release: ReleaseVersion(7), upstreams },
            RouteState::Stopped,
            RouteState::Crashed { reason: "exit 1".into() },
            RouteState::Deploying,
        ];
        let table =
            RouteTable { version: 9, routes: routes.map(state).to_vec(), ..RouteTable::default() };
        file.save(&table).unwrap();
        assert_eq!(file.load().unwrap(), table);
    }

    #[test]
    fn a_missing_or_damaged_table_is_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = RoutesFile::in_directory(directory.path());
        assert_eq!(file.load_or_empty(), RouteTable::default());
        atomic_file::write(&file.path, b"{\"version\":", 0o600).unwrap();
        assert_eq!(file.load_or_empty(), RouteTable::default());
    }
}
