//! The operator's settings for containers.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// Settings of the container runtime.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// State lives in `<run_dir>/containers`; should be a file system that a reboot clears.
    pub run_dir: PathBuf,
    /// First directory in every cgroup hierarchy; must differ between instances on one machine.
    pub prefix: String,
    /// Program that is executed as monitor and for exec; this one's own by default.
    pub monitor_exe: PathBuf,
    /// How long setting up one container may take.
    #[serde(rename = "create_timeout_s", deserialize_with = "seconds")]
    pub create_timeout: Duration,
    /// How long killed processes may take to vanish before `kill` and `delete` report an error.
    #[serde(rename = "kill_timeout_s", deserialize_with = "seconds")]
    pub kill_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            run_dir: PathBuf::from("/run/staithe"),
            prefix: "staithe".into(),
            monitor_exe: PathBuf::from("/proc/self/exe"),
            create_timeout: Duration::from_secs(30),
            kill_timeout: Duration::from_secs(10),
        }
    }
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_secs(u64::deserialize(deserializer)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_units_and_unknown_ones_are_refused() {
        let config: Config = toml::from_str("create_timeout_s = 5").unwrap();
        assert_eq!(config.create_timeout, Duration::from_secs(5));
        assert_eq!(config.prefix, "staithe");
        assert!(toml::from_str::<Config>("cgroup = 'x'").is_err());
    }
}
