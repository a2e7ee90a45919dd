// Scale: sliders and numbers move together, the bars behind show what is used now.

import { refresh } from "./app.js";

const EVERY_MS = 3000;

for (const scale of document.querySelectorAll("[data-type]")) {
  const slider = scale.querySelector("[data-slider]");
  const number = scale.querySelector("[data-number]");
  slider.addEventListener("input", () => (number.value = slider.value));
  number.addEventListener("input", () => (slider.value = number.value));
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return unit ? `${count.toFixed(1)} ${units[unit]}` : `${count} B`;
}

/** Sets a bar; what is nearly all of a quota stands out. */
function bar(meter, value) {
  meter.value = value;
  const share = meter.max > 0 ? value / meter.max : 0;
  meter.classList.toggle("near", share > 0.8 && share <= 0.95);
  meter.classList.toggle("full", share > 0.95);
}

let before = null;

async function look() {
  if (document.hidden) return;
  const answer = await fetch(`${location.pathname}/usage.json`);
  if (!answer.ok) return;
  const now = { at: performance.now(), ...(await answer.json()) };
  for (const scale of document.querySelectorAll("[data-type]")) {
    const mine = now.instances.filter((one) => one.type === scale.dataset.type);
    const memory = mine.reduce((sum, one) => sum + (one.memory_bytes ?? 0), 0);
    bar(scale.querySelector("[data-memory]"), memory);
    const most = Number(scale.dataset.memoryMost);
    scale.querySelector("[data-memory-text]").textContent =
      bytes(memory) + (most ? ` of ${bytes(most)}` : "");
    if (before) {
      const spent = mine.reduce((sum, one) => {
        const old = before.instances.find((other) => other.name === one.name);
        // An instance that was replaced counts from zero.
        return sum + Math.max(0, (one.cpu_ms ?? 0) - (old?.cpu_ms ?? one.cpu_ms ?? 0));
      }, 0);
      const milli = (spent / (now.at - before.at)) * 1000;
      bar(scale.querySelector("[data-cpu]"), milli);
      const cpus = Number(scale.dataset.cpuMost);
      scale.querySelector("[data-cpu-text]").textContent =
        `${(milli / 1000).toFixed(2)}` + (cpus ? ` of ${cpus / 1000} CPUs` : " CPUs");
    }
  }
  before = now;
  await refresh();
}

const timer = setInterval(look, EVERY_MS);
addEventListener("pagehide", () => clearInterval(timer), { once: true });
look();
