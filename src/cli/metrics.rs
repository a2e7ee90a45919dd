//! `metrics:*`.

use clap::{Args, Subcommand};

use super::context::{AppArg, Context};
use super::exit::Failure;
use super::output::{Format, FormatArg, Table, bytes, time};
use crate::wire::{MetricSeries, MetricUnit, MetricsRange, MetricsReport};

/// `metrics:<verb>`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Shows what is counted of all apps and the machine, as OpenMetrics text
    Show(Show),
    /// Shows what an app used: processors, memory, requests, latencies
    Report(Report),
}

/// `metrics:show`.
#[derive(Debug, Args)]
pub(super) struct Show {}

/// `metrics:report`.
#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    app: AppArg,
    /// How far back: `1h`, `6h`, `24h`, `7d`, `30d`
    #[arg(long, default_value = "1h")]
    range: MetricsRange,
    /// Figures of processes for the app as a whole, or for each of these
    #[arg(long, value_enum, default_value_t)]
    by: By,
    /// Only these, such as `cpu,memory`
    #[arg(long)]
    series: Option<String>,
    #[command(flatten)]
    format: FormatArg,
}

/// How finely figures are taken apart.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum By {
    #[default]
    App,
    Process,
    Instance,
}

impl Verb {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::Show(Show {}) => {
                let text = context.client.text("/metrics").await?;
                context.out.line(text.trim_end())
            }
            Self::Report(report) => report.run(context).await,
        }
    }
}

impl Report {
    async fn run(self, context: &mut Context) -> Result<(), Failure> {
        let by = match self.by {
            By::App => "app",
            By::Process => "process",
            By::Instance => "instance",
        };
        let series = self.series.map(|names| format!("&series={}", encoded(&names)));
        let (app, range) = (&self.app.app, self.range.as_str());
        let query = format!("range={range}&by={by}{}", series.unwrap_or_default());
        let report: MetricsReport =
            context.client.get(&format!("/apps/{app}/metrics?{query}")).await?;
        if self.format.format == Format::Json {
            return context.out.json(&report);
        }
        context.out.header(&format!("{app} metrics, last {range}"))?;
        context.out.text(&table(&report).render())?;
        for mark in &report.marks {
            context.out.line(&format!("{}  {}", time(mark.at), mark.text))?;
        }
        Ok(())
    }
}

/// What is not a letter, a digit or a comma in a query, in hexadecimal.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b',' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn table(report: &MetricsReport) -> Table {
    let mut table = Table::new(&["METRIC", "NOW", "MEAN", "HIGHEST"]);
    for series in &report.series {
        let of = series.instance.as_ref().map(ToString::to_string);
        let of = of.or_else(|| series.process.as_ref().map(ToString::to_string));
        let name = serde_json::to_value(series.name).unwrap_or_default();
        let name = name.as_str().unwrap_or_default().replace('_', " ");
        let name = of.map_or(name.clone(), |of| format!("{of} {name}"));
        let [now, mean, highest] = summary(series);
        table.row([name, now, mean, highest]);
    }
    table
}

/// The last value, the mean (of what is counted: the sum) and the highest, for people.
fn summary(series: &MetricSeries) -> [String; 3] {
    let known: Vec<f64> = series.values.iter().flatten().copied().collect();
    let Some(last) = known.last() else { return ["-"; 3].map(str::to_owned) };
    let sum: f64 = known.iter().sum();
    let highest = series.highest.iter().flatten().chain(&known).copied().fold(f64::MIN, f64::max);
    let show = |value: f64| shown(value, series.unit);
    match series.unit {
        MetricUnit::PerPoint => [show(*last), format!("{} in all", show(sum)), show(highest)],
        _ => [show(*last), show(sum / known.len() as f64), show(highest)],
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes are whole and not negative; `as` saturates"
)]
fn shown(value: f64, unit: MetricUnit) -> String {
    match unit {
        MetricUnit::Cpus => format!("{value:.2}"),
        MetricUnit::Ratio => format!("{:.1} %", value * 100.0),
        MetricUnit::Bytes => bytes(value as u64),
        MetricUnit::BytesPerSecond => format!("{}/s", bytes(value as u64)),
        MetricUnit::PerSecond => format!("{value:.2}/s"),
        MetricUnit::PerPoint => format!("{value:.0}"),
        MetricUnit::Count => format!("{value:.1}"),
        MetricUnit::Seconds => format!("{:.0} ms", value * 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MetricName;

    #[test]
    fn a_series_is_summed_up_for_people() {
        let series = |unit, values: &[f64]| MetricSeries {
            name: MetricName::Memory,
            unit,
            process: None,
            instance: None,
            values: values.iter().map(|value| Some(*value)).chain([None]).collect(),
            highest: vec![Some(3.0 * 1024.0 * 1024.0)],
        };
        let memory = summary(&series(MetricUnit::Bytes, &[1_048_576.0, 2_097_152.0]));
        assert_eq!(memory, ["2.0 MiB", "1.5 MiB", "3.0 MiB"]);
        let mut kills = series(MetricUnit::PerPoint, &[0.0, 2.0, 1.0]);
        kills.highest.clear();
        assert_eq!(summary(&kills), ["1", "3 in all", "2"]);
        assert_eq!(summary(&series(MetricUnit::Cpus, &[])), ["-", "-", "-"]);
    }

    #[test]
    fn what_is_asked_for_stays_one_value_of_the_query() {
        assert_eq!(encoded("cpu,latency_p50&x=1 "), "cpu,latency_p50%26x%3D1%20");
    }
}
