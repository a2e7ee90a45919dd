//! Pictures of what was sampled: series over time, the newest sample, sparklines.

use std::collections::{BTreeMap, VecDeque};

use super::fields::{Figure, HOST as HOST_FIGURES, TRAFFIC, USAGE, traffic, usage};
use super::{HOST, Platform, now, series_of, single};
use crate::domain::{App, AppName, InstanceName, Invalid, ProcessType, ReleaseStatus, Timestamp};
use crate::platform::{Error, Kind, Result, pipeline};
use crate::series::{Cell, Columns, Window};
use crate::wire::{
    InstanceSample, MetricMark, MetricMarkKind, MetricName, MetricSeries, MetricValue, MetricsBy,
    MetricsQuery, MetricsReport, MetricsSample, Sparkline,
};

/// Points of a picture unless told otherwise: about one for each pixel or two of a chart.
const POINTS: usize = 400;
/// The most points that may be asked for: a day of single samples.
const MAX_POINTS: usize = 5_760;
/// The most instances whose lines are in one picture; the first by name.
const MAX_INSTANCES: usize = 100;
/// Releases that are looked through for marks.
const MAX_MARKS: usize = 500;

/// Points of a sparkline, and the span of each in steps: an hour of 15 s.
const LINE_POINTS: usize = 60;
const LINE_STEPS: i64 = 4;
/// Fields of an app's row that a sparkline shows.
const LINE_FIELDS: [usize; 2] = [usage::CPU, usage::MEMORY];

impl Platform {
    /// An app's figures over time.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for series that there are not, or too many points.
    pub async fn app_metrics(&self, name: &AppName, query: &MetricsQuery) -> Result<MetricsReport> {
        let app = self.find_app(name)?;
        let figures = chosen(&[USAGE, TRAFFIC].concat(), query.series.as_deref())?;
        let window = self.window(query)?;
        let groups = self.groups(&app, query.by)?;
        let mut names = vec![series_of(app.id)];
        names.extend(groups.iter().flat_map(|(_, _, series)| series.iter().cloned()));
        let mut columns = self.read_series(names, window).await?;
        let own = columns.split_off(1);
        let mut picture = Picture { window, step_s: self.step_s(), series: Vec::new() };
        let whole = |figure: &&Figure| {
            query.by == MetricsBy::App || TRAFFIC.iter().any(|one| one.name == figure.name)
        };
        for figure in figures.iter().filter(whole) {
            picture.draw(figure, (None, None), &columns[..1]);
        }
        let mut rest = own.as_slice();
        for (process, instance, series) in groups {
            let (these, after) = rest.split_at(series.len());
            rest = after;
            for figure in figures.iter().filter(|figure| !whole(figure)) {
                picture.draw(figure, (Some(process.clone()), instance.clone()), these);
            }
        }
        let mut marks = self.deploy_marks(&app, &window)?;
        marks.extend(end_marks(&columns[0], &window));
        marks.sort_by_key(|mark| mark.at);
        Ok(picture.report(Some(app.name), query, marks))
    }

    /// The machine's figures over time.
    ///
    /// # Errors
    /// `Invalid` for series that there are not, or too many points.
    pub async fn host_metrics(&self, query: &MetricsQuery) -> Result<MetricsReport> {
        let figures = chosen(HOST_FIGURES, query.series.as_deref())?;
        let window = self.window(query)?;
        let columns = self.read_series(vec![HOST.to_owned()], window).await?;
        let mut picture = Picture { window, step_s: self.step_s(), series: Vec::new() };
        for figure in &figures {
            picture.draw(figure, (None, None), &columns);
        }
        Ok(picture.report(None, query, Vec::new()))
    }

    /// The newest sample of an app; none before the first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn newest_app_metrics(&self, name: &AppName) -> Result<Option<MetricsSample>> {
        let app = self.find_app(name)?;
        let below = format!("{}/", series_of(app.id));
        let state = self.0.meters.lock();
        let Some(at) = state.newest.at else { return Ok(None) };
        let values = |row: &[f32], figures: &[Figure]| newest_values(row, figures, self.step_s());
        let whole = state.newest.rows.get(&series_of(app.id));
        let figures = [USAGE, TRAFFIC].concat();
        let mut instances: Vec<InstanceSample> = state
            .newest
            .rows
            .iter()
            .filter_map(|(series, row)| {
                let instance = series.strip_prefix(&below)?.parse().ok()?;
                Some(InstanceSample { instance, values: values(row, USAGE) })
            })
            .collect();
        instances.sort_by(|a, b| a.instance.cmp(&b.instance));
        Ok(whole.map(|row| MetricsSample {
            at,
            step_s: self.sample_s(),
            values: values(row, &figures),
            instances,
        }))
    }

    /// The newest sample of the machine; none before the first.
    pub fn newest_host_metrics(&self) -> Option<MetricsSample> {
        let state = self.0.meters.lock();
        let row = state.newest.rows.get(HOST)?;
        Some(MetricsSample {
            at: state.newest.at?,
            step_s: self.sample_s(),
            values: newest_values(row, HOST_FIGURES, self.step_s()),
            instances: Vec::new(),
        })
    }

    /// The last hour of each of `apps` in small, in their order; apps that do not exist are left out.
    ///
    /// # Errors
    /// `Internal`.
    pub fn sparklines(&self, apps: &[AppName]) -> Result<Vec<Sparkline>> {
        let ids: BTreeMap<AppName, _> =
            self.store.apps()?.into_iter().map(|app| (app.name, app.id)).collect();
        let step_ms = self.series.step_ms();
        let (now, state) = (now(), self.0.meters.lock());
        let none = Lines::default();
        let line = |name: &AppName| {
            let lines = state.lines.get(ids.get(name)?).unwrap_or(&none);
            Some(lines.draw(name, now, step_ms))
        };
        Ok(apps.iter().filter_map(line).collect())
    }

    fn sample_s(&self) -> u32 {
        u32::try_from(self.series.step_ms() / 1000).unwrap_or(u32::MAX)
    }

    fn step_s(&self) -> f64 {
        f64::from(self.sample_s())
    }

    fn window(&self, query: &MetricsQuery) -> Result<Window> {
        let (span, step) = (query.range.millis(), self.series.step_ms());
        let Some(apart) = query.step_s else {
            return Ok(Window::last(now(), span, step, POINTS));
        };
        let window = Window::with_points_apart(now(), span, step, i64::from(apart) * 1000);
        if window.points > MAX_POINTS {
            let message = format!(
                "{} points are too many for one picture, {MAX_POINTS} are the most",
                window.points
            );
            return Err(Error::new(Kind::Invalid, message)
                .hint("ask for a shorter range or for a larger step"));
        }
        Ok(window)
    }

    async fn read_series(&self, names: Vec<String>, window: Window) -> Result<Vec<Columns>> {
        let platform = self.clone();
        Ok(pipeline::blocking(move || platform.series.read(&names, &window)).await??)
    }

    /// The series that are added up for each line: process type, instance, series.
    fn groups(&self, app: &App, by: MetricsBy) -> Result<Vec<Group>> {
        if by == MetricsBy::App {
            return Ok(Vec::new());
        }
        let below = format!("{}/", series_of(app.id));
        let known = self.series.below(&series_of(app.id));
        let mut instances: Vec<InstanceName> =
            known.iter().filter_map(|series| series.strip_prefix(&below)?.parse().ok()).collect();
        instances.sort();
        if by == MetricsBy::Instance {
            let one = |name: InstanceName| {
                let series = vec![format!("{below}{name}")];
                (name.process_type.clone(), Some(name), series)
            };
            return Ok(instances.into_iter().take(MAX_INSTANCES).map(one).collect());
        }
        let mut types: BTreeMap<ProcessType, Vec<String>> = BTreeMap::new();
        for name in instances {
            types.entry(name.process_type.clone()).or_default().push(format!("{below}{name}"));
        }
        Ok(types.into_iter().map(|(process, series)| (process, None, series)).collect())
    }

    fn deploy_marks(&self, app: &App, window: &Window) -> Result<Vec<MetricMark>> {
        let releases = self.store.releases(app.id, MAX_MARKS)?;
        let within = |at: Timestamp| at >= window.from() && at < window.to();
        let mark = |release: crate::domain::Release| MetricMark {
            at: release.created_at,
            kind: MetricMarkKind::Deploy,
            text: format!("{}: {}", release.version, release.description),
            release: Some(release.version),
        };
        Ok(releases
            .into_iter()
            .filter(|release| release.status == ReleaseStatus::Succeeded)
            .filter(|release| within(release.created_at))
            .map(mark)
            .collect())
    }
}

/// What is drawn as one line: of which type, of which instance if of one, from which series.
type Group = (ProcessType, Option<InstanceName>, Vec<String>);

/// The figures that are asked for.
fn chosen(all: &[Figure], names: Option<&str>) -> Result<Vec<Figure>> {
    let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(all.to_vec()) };
    let mut figures: Vec<Figure> = Vec::new();
    for text in names.split(',') {
        let name: std::result::Result<MetricName, _> =
            serde_json::from_value(serde_json::Value::String(text.trim().to_owned()));
        let found = name.ok().and_then(|name| all.iter().find(|figure| figure.name == name));
        let Some(figure) = found else {
            let known: Vec<String> = all.iter().map(|figure| name_of(figure.name)).collect();
            let why = format!("is none; there are {}", known.join(", "));
            return Err(Invalid::new("series", text, why).into());
        };
        if !figures.iter().any(|known| known.name == figure.name) {
            figures.push(*figure);
        }
    }
    Ok(figures)
}

/// A series' name as it is asked for.
pub(super) fn name_of(name: MetricName) -> String {
    match serde_json::to_value(name) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("names serialize to text"),
    }
}

fn newest_values(row: &[f32], figures: &[Figure], step_s: f64) -> Vec<MetricValue> {
    let cell = |field: usize| {
        let mut cell = Cell::default();
        row.get(field).into_iter().for_each(|value| cell.add(*value));
        cell
    };
    figures
        .iter()
        .filter_map(|figure| {
            let value = figure.source.value(cell, step_s)?;
            Some(MetricValue { name: figure.name, unit: figure.unit, value })
        })
        .collect()
}

/// Marks where processes were killed for want of memory, and where instances ended otherwise.
fn end_marks(whole: &Columns, window: &Window) -> Vec<MetricMark> {
    let mut marks = Vec::new();
    for point in 0..window.points {
        let begin = window.from().0 + window.pitch_ms() * i64::try_from(point).unwrap_or(0);
        let kills = whole.cell(point, usage::OOM_KILLS).sum;
        let restarts = whole.cell(point, usage::RESTARTS).sum;
        let mark = |kind, text| MetricMark { at: Timestamp(begin), kind, text, release: None };
        if kills > 0.0 {
            let what = if kills > 1.0 { format!("{kills} processes") } else { "a process".into() };
            let text = format!("the kernel killed {what} for want of memory");
            marks.push(mark(MetricMarkKind::Oom, text));
        } else if restarts > 0.0 {
            let times = if restarts > 1.0 { format!("{restarts} times") } else { "once".into() };
            let text = format!("an instance ended by itself, {times}");
            marks.push(mark(MetricMarkKind::Crash, text));
        }
    }
    marks
}

struct Picture {
    window: Window,
    step_s: f64,
    series: Vec<MetricSeries>,
}

impl Picture {
    /// Adds a line: the sum of what `columns` have.
    fn draw(
        &mut self,
        figure: &Figure,
        (process, instance): (Option<ProcessType>, Option<InstanceName>),
        columns: &[Columns],
    ) {
        let points = self.window.points;
        let sum = |lines: Vec<Vec<Option<f64>>>| -> Vec<Option<f64>> {
            let point = |n: usize| {
                let mut known = lines.iter().filter_map(|line| line.get(n).copied().flatten());
                known.next().map(|first| rounded(first + known.sum::<f64>()))
            };
            (0..points).map(point).collect()
        };
        let source = figure.source;
        let values =
            sum(columns.iter().map(|one| source.values(one, points, self.step_s)).collect());
        let highest = match source.has_highest() {
            true => sum(columns.iter().map(|one| source.highest(one, points)).collect()),
            false => Vec::new(),
        };
        let (name, unit) = (figure.name, figure.unit);
        self.series.push(MetricSeries { name, unit, process, instance, values, highest });
    }

    fn report(
        self,
        app: Option<AppName>,
        query: &MetricsQuery,
        marks: Vec<MetricMark>,
    ) -> MetricsReport {
        MetricsReport {
            app,
            range: query.range,
            from: self.window.from(),
            to: self.window.to(),
            step_ms: self.window.pitch_ms(),
            points: self.window.points,
            series: self.series,
            marks,
        }
    }
}

/// To a millionth: samples have seven digits, and answers need not be longer than them.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// An app's last hour, kept in memory: lists of all apps are drawn often.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(VecDeque<(i64, [Cell; 3])>);

impl Lines {
    /// The last hour up to `now`.
    pub(super) fn window(now: Timestamp, step_ms: i64) -> Window {
        let pitch = step_ms * LINE_STEPS;
        let points = i64::try_from(LINE_POINTS).unwrap_or(1);
        Window::with_points_apart(now, pitch * points, step_ms, pitch)
    }

    /// From what was kept of it.
    pub(super) fn load(columns: &Columns, window: &Window) -> Self {
        let first = window.from().0.div_euclid(window.pitch_ms());
        let cells = |point: usize| {
            let [cpu, memory] = LINE_FIELDS.map(|field| columns.cell(point, field));
            let mut requests = Cell::default();
            for class in 0..6 {
                let ended = columns.cell(point, traffic::ENDED + class);
                requests.sum += ended.sum;
                requests.count = requests.count.max(ended.count);
            }
            [cpu, memory, requests]
        };
        Self((first..).zip(0..window.points).map(|(at, point)| (at, cells(point))).collect())
    }

    /// Adds a sample.
    pub(super) fn add(&mut self, at: Timestamp, step_ms: i64, row: &[f32]) {
        let point = at.0.div_euclid(step_ms * LINE_STEPS);
        // A clock that was set back.
        self.0.retain(|(known, _)| *known <= point);
        if self.0.back().is_none_or(|(last, _)| *last < point) {
            self.0.push_back((point, Default::default()));
        }
        while self.0.len() > LINE_POINTS {
            self.0.pop_front();
        }
        let Some((_, cells)) = self.0.back_mut() else { return };
        for (cell, field) in cells.iter_mut().zip(LINE_FIELDS) {
            row.get(field).into_iter().for_each(|value| cell.add(*value));
        }
        let ended = row.get(traffic::ENDED..traffic::ENDED + 6).unwrap_or_default();
        cells[2].add(ended.iter().sum());
    }

    fn draw(&self, app: &AppName, now: Timestamp, step_ms: i64) -> Sparkline {
        let window = Self::window(now, step_ms);
        let first = window.from().0.div_euclid(window.pitch_ms());
        let mut points = vec![[Cell::default(); 3]; window.points];
        for (at, cells) in &self.0 {
            let place = usize::try_from(at - first).ok().and_then(|place| points.get_mut(place));
            place.into_iter().for_each(|place| *place = *cells);
        }
        let line = |n: usize, divided: f64| -> Vec<Option<f32>> {
            let value = |cells: &[Cell; 3]| cells[n].mean().map(|mean| single(mean / divided));
            points.iter().map(value).collect()
        };
        let step_s = step_ms as f64 / 1000.0;
        Sparkline {
            app: app.clone(),
            step_ms: window.pitch_ms(),
            cpu: line(0, 1.0),
            memory: line(1, 1.0),
            requests: line(2, step_s),
        }
    }
}
