//! What is kept of a build beside its record: what the commit says, its stages, what to do next.

use rusqlite::{OptionalExtension, params};

use super::{Result, Store, failed, from_json, to_json};
use crate::domain::{BuildId, BuildStages};

/// What people look at when a build has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildDetails {
    /// The first line of the commit's message.
    pub subject: String,
    /// How far it came.
    pub stages: BuildStages,
    /// What can be done about its failure.
    pub hint: Option<String>,
}

impl Store {
    /// Keeps what there is to say about a build.
    pub fn set_build_details(&self, id: BuildId, details: &BuildDetails) -> Result<()> {
        self.lock()
            .execute(
                "insert into build_details (build, subject, stages, hint) values (?1, ?2, ?3, ?4)
                 on conflict (build) do update set subject = ?2, stages = ?3, hint = ?4",
                params![id.0, details.subject, to_json(&details.stages), details.hint],
            )
            .map_err(failed("write build details"))?;
        Ok(())
    }

    /// What there is to say about a build; builds of before it was kept have nothing.
    pub fn build_details(&self, id: BuildId) -> Result<BuildDetails> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("select subject, stages, hint from build_details where build = ?")
            .map_err(failed("read build details"))?;
        let columns: Option<(String, String, Option<String>)> = statement
            .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()
            .map_err(failed("read build details"))?;
        let Some((subject, stages, hint)) = columns else { return Ok(BuildDetails::default()) };
        Ok(BuildDetails { subject, stages: from_json("build stages", &stages)?, hint })
    }
}
