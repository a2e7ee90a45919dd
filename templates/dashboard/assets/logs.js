// An app's log, live: new lines at the end, older ones when somebody scrolls up.

import { listen, toast } from "./app.js";
import { Lines } from "./lines.js";

const box = document.querySelector("[data-logs]");
const word = document.querySelector("[data-live-word]");
const button = document.querySelector("[data-hold]");

if (box && !new URLSearchParams(location.search).has("before")) {
  const query = new URLSearchParams(box.dataset.query);
  const path = (end, more) => `${box.dataset.logs}${end}?${new URLSearchParams([...query, ...Object.entries(more)])}`;
  const lines = new Lines(box, (held) => say(held));
  let connected = false;
  let first = box.dataset.first;
  let more = "more" in box.dataset;
  let reading = false;

  const say = (held = !lines.following) => {
    button.textContent = held ? "Go on" : "Pause";
    button.setAttribute("aria-pressed", String(held));
    const state = connected ? (held ? "paused; new lines wait" : "live") : "connecting…";
    word.textContent = lines.count > 0 ? `${state} · ${lines.count.toLocaleString()} new lines` : state;
  };

  button.hidden = false;
  button.addEventListener("click", () => (lines.following ? lines.hold(true) : lines.toEnd()));
  box.scrollTop = box.scrollHeight;
  say();

  // Counted in words a few times a second: a status that changes with each batch is not readable.
  setInterval(say, 500);
  const after = box.dataset.last ? { after: box.dataset.last } : {};
  const source = listen(path("/stream", after), {
    lines: (data) => {
      const { html, count } = JSON.parse(data);
      lines.add(html, count);
    },
    open: () => {
      connected = true;
    },
    error: () => {
      connected = source.readyState === EventSource.OPEN;
    },
  });

  // Told to tests and to whoever looks: how many lines have come, and are drawn.
  box.lines = lines;

  async function older() {
    if (reading || !more || !first) return;
    reading = true;
    try {
      const answer = await fetch(path("/older", { before: first }), { headers: { "x-fragment": "1" } });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      lines.prepend(await answer.text());
      first = answer.headers.get("x-log-first") || first;
      more = Boolean(answer.headers.get("x-log-more"));
    } catch (error) {
      toast(`Older lines cannot be read: ${error.message}`, "bad");
    } finally {
      reading = false;
    }
  }

  box.addEventListener("scroll", () => box.scrollTop < 200 && older(), { passive: true });
  document.querySelector("[data-older]")?.addEventListener("click", (event) => {
    event.preventDefault();
    lines.hold(true);
    box.scrollTop = 0;
    older();
  });
}
