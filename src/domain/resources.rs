//! Quotas: what an instance and an app may use.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid::text_serde;
use super::{Invalid, ProcessType};

/// An amount of memory or disk in bytes; text form `512m`, `1g`, `64k`, bare numbers are MiB as in
/// Dokku's `resource:limit --memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid =
            || Invalid::new("size", text, "must be a number with k, m or g, such as `512m`");
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match &lower[digits.len()..] {
            "b" => 0,
            "k" | "kb" | "kib" => 10,
            "" | "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(invalid()),
        };
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [(30, "g"), (20, "m"), (10, "k")]
            .into_iter()
            .find(|(shift, _)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((shift, name)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}b", self.0),
        }
    }
}

text_serde!(Bytes);

/// Processor time in thousandths of a processor; text form `0.5`, `2`, `1500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliCpus(pub u32);

impl FromStr for MilliCpus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                "cpu limit",
                text,
                "must be a number of processors from 0.01 to 1024, such as `0.5`",
            )
        };
        let milli = match text.strip_suffix('m') {
            Some(milli) => milli.parse::<u32>().map_err(|_| invalid())?,
            None => whole_and_fraction(text).ok_or_else(invalid)?,
        };
        match (10..=1_024_000).contains(&milli) {
            true => Ok(Self(milli)),
            false => Err(invalid()),
        }
    }
}

fn whole_and_fraction(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 3 || !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let thousandths: u32 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(thousandths)
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

text_serde!(MilliCpus);

/// What one instance, one build or one app as a whole may use. A missing field means: not set here.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// The most memory; more, and the kernel kills the largest process (cgroup memory.max).
    pub memory: Option<Bytes>,
    /// The most processor time (cgroup cpu.max).
    pub cpu: Option<MilliCpus>,
    /// The most processes and threads (cgroup pids.max).
    pub pids: Option<u32>,
}

impl Resources {
    /// What an instance gets unless told otherwise.
    pub const INSTANCE_DEFAULT: Self =
        Self { memory: Some(Bytes(512 << 20)), cpu: Some(MilliCpus(1000)), pids: Some(512) };

    /// What all instances of an app may use together unless told otherwise.
    pub const APP_DEFAULT: Self =
        Self { memory: Some(Bytes(4 << 30)), cpu: None, pids: Some(4096) };

    /// What a build gets unless told otherwise.
    pub const BUILD_DEFAULT: Self =
        Self { memory: Some(Bytes(2 << 30)), cpu: Some(MilliCpus(2000)), pids: Some(2048) };

    /// These, and `other`'s where these are not set.
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            cpu: self.cpu.or(other.cpu),
            pids: self.pids.or(other.pids),
        }
    }
}

/// An app's quotas as the user set them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ResourceSettings {
    /// For every process type that has no own setting.
    #[serde(default)]
    pub default: Resources,
    /// By process type; the pseudo type `build` is for builds, as in Dokku.
    #[serde(default)]
    pub by_type: BTreeMap<ProcessType, Resources>,
    /// For the app as a whole.
    #[serde(default)]
    pub app: Resources,
    /// Memory kept for the instances of a type (cgroup memory.low or soft limit).
    #[serde(default)]
    pub reserved: BTreeMap<ProcessType, Resources>,
}

impl ResourceSettings {
    /// The limits in force for an instance of `process_type`.
    pub fn instance(&self, process_type: &ProcessType) -> Resources {
        let own = self.by_type.get(process_type).copied().unwrap_or_default();
        own.or(self.default).or(Resources::INSTANCE_DEFAULT)
    }

    /// The limits in force for a build.
    pub fn build(&self) -> Resources {
        let own = self.by_type.iter().find(|(process_type, _)| process_type.as_str() == "build");
        own.map(|(_, limits)| *limits).unwrap_or_default().or(Resources::BUILD_DEFAULT)
    }

    /// The limits in force for the app as a whole.
    pub fn whole_app(&self) -> Resources {
        self.app.or(Resources::APP_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_and_print_in_the_largest_whole_unit() {
        for (text, bytes, shown) in [
            ("512m", 512 << 20, "512m"),
            ("512", 512 << 20, "512m"),
            ("1G", 1 << 30, "1g"),
            ("1536mb", 1536 << 20, "1536m"),
            ("100b", 100, "100b"),
        ] {
            let size: Bytes = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "m", "1x", "-1", "1.5g", "99999999999999g"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus_parse_as_decimals_or_thousandths() {
        for (text, milli, shown) in
            [("0.5", 500, "0.5"), ("2", 2000, "2"), ("1500m", 1500, "1.5"), ("0.25", 250, "0.25")]
        {
            let cpus: MilliCpus = text.parse().unwrap();
            assert_eq!((cpus.0, cpus.to_string().as_str()), (milli, shown));
        }
        for bad in ["", "0", "0.001", "x", "1.2345", "-1", "2000"] {
            assert!(bad.parse::<MilliCpus>().is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_fall_back_from_type_to_app_to_platform() {
        let mut settings = ResourceSettings::default();
        settings.default.memory = Some(Bytes(1 << 30));
        let web = ProcessType::web();
        settings.by_type.insert(web.clone(), Resources { pids: Some(7), ..Resources::default() });
        let limits = settings.instance(&web);
        assert_eq!(limits.memory, Some(Bytes(1 << 30)));
        assert_eq!(limits.pids, Some(7));
        assert_eq!(limits.cpu, Resources::INSTANCE_DEFAULT.cpu);
    }
}
