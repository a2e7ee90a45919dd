// One deployment, live: its lines as they are printed, its stages as they change.

import { listen, refresh } from "./app.js";
import { Lines } from "./lines.js";

const box = document.querySelector("[data-build]");
const word = document.querySelector("[data-live-word]");
const going = () => document.querySelector("#deployment-state[data-going-on], #deployment-state .stages .running");

function showTook() {
  for (const element of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, (Date.now() - Number(element.dataset.since)) / 1000);
    element.textContent = `${seconds.toFixed(1)} s`;
  }
}

if (box) {
  const lines = new Lines(box, (held) => {
    if (word.dataset.over) return;
    word.textContent = held ? "paused; scroll to the end to go on" : "live";
  });
  box.scrollTop = box.scrollHeight;
  if (going()) {
    const from = Number(box.dataset.count) || 0;
    const source = listen(`${box.dataset.build}?from=${from}`, {
      lines: (data) => lines.add(JSON.parse(data).html),
      state: () => refresh(),
      end: () => {
        source.close();
        word.dataset.over = "1";
        word.textContent = "ended";
        refresh();
      },
    });
    setInterval(showTook, 200);
    showTook();
  }
}
