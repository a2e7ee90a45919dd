// Charts of one app. The numbers come from the server as it keeps them; every line shares one axis.

import { refresh } from "./app.js";
import uPlot from "./vendor/uplot.js";

const root = document.querySelector("[data-metrics]");
const EVERY = 15_000;
const DASH = new Set(["quota", "limit"]);
const charts = new Map();

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function palette() {
  return {
    line: [css("--accent"), css("--busy"), css("--warn"), css("--bad")],
    byName: {
      "2xx": css("--ok"), "3xx": css("--busy"), "4xx": css("--warn"), "5xx": css("--bad"),
      p50: css("--ok"), p95: css("--warn"), p99: css("--bad"),
      quota: css("--muted"), limit: css("--muted"), restarts: css("--bad"),
    },
    text: css("--muted"), grid: css("--line"), mark: css("--accent"), bad: css("--bad"),
  };
}

function words(value, unit) {
  if (value == null) return "–";
  if (unit.startsWith("bytes")) {
    const names = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    let size = value;
    while (size >= 1024 && at < names.length - 1) [size, at] = [size / 1024, at + 1];
    return `${size >= 100 || at === 0 ? Math.round(size) : size.toFixed(1)} ${names[at]}`;
  }
  if (unit === "seconds") return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`;
  if (unit === "share") return `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toFixed(value < 1 ? 3 : 2)));
}

/** Vertical lines where something happened. */
function marksPlugin(marks, colors) {
  return {
    hooks: {
      draw: (plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.lineWidth = devicePixelRatio;
        for (const mark of marks) {
          const x = plot.valToPos(mark.at, "x", true);
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          const deploy = mark.kind === "deploy";
          ctx.strokeStyle = deploy ? colors.mark : colors.bad;
          ctx.setLineDash(deploy ? [4 * devicePixelRatio, 4 * devicePixelRatio] : []);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
      },
    },
  };
}

function options(chart, place, marks) {
  const colors = palette();
  const axis = { stroke: colors.text, grid: { stroke: colors.grid, width: 1 }, ticks: { stroke: colors.grid, width: 1 } };
  const series = chart.series.map(({ label }, index) => {
    const color = colors.byName[label] ?? colors.line[index % colors.line.length];
    return {
      label,
      stroke: color,
      width: 1.5,
      dash: DASH.has(label) ? [6, 4] : undefined,
      fill: chart.series.length <= 2 && index === 0 ? `color-mix(in srgb, ${color} 14%, transparent)` : undefined,
      points: { show: false },
      value: (_, value) => words(value, chart.unit),
    };
  });
  return {
    width: place.clientWidth,
    height: Math.max(120, place.clientHeight - 30),
    legend: { live: true },
    cursor: { sync: { key: "app", setSeries: false }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => words(tick, chart.unit)) },
    ],
    series: [{ label: "time", value: (_, at) => (at == null ? "–" : new Date(at * 1000).toLocaleTimeString()) }, ...series],
    plugins: [marksPlugin(marks, colors)],
  };
}

function draw({ times, charts: told, marks }) {
  for (const chart of told) {
    const place = root.querySelector(`[data-chart="${chart.key}"]`);
    if (!place) continue;
    charts.get(chart.key)?.destroy();
    if (chart.series.length === 0) {
      place.textContent = "Nothing is known yet. The first sample comes within 15 seconds.";
      continue;
    }
    place.textContent = "";
    const data = [times, ...chart.series.map(({ values }) => values)];
    charts.set(chart.key, new uPlot(options(chart, place, marks), data, place));
  }
}

let last = null;

async function load() {
  const answer = await fetch(root.dataset.metrics, { headers: { "x-fragment": "1" } });
  if (answer.status === 401) return location.reload();
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  last = await answer.json();
  return draw(last);
}

async function again() {
  try {
    await load();
  } catch (error) {
    // What is drawn stays; the next round tries again.
    console.warn(error);
  }
}

if (root) {
  again();
  setInterval(() => {
    if (document.hidden) return;
    again();
    refresh().catch(() => {});
  }, EVERY);
  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => last && draw(last), 150);
  });
  // The theme's colors are drawn into the pictures.
  new MutationObserver(() => last && draw(last)).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}
