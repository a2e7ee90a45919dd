// Pages whose live regions say how often they change: `data-every`, in seconds.

import { refresh } from "./app.js";

async function loop() {
  for (;;) {
    const every = [...document.querySelectorAll("[data-live][data-every]")].map(
      (region) => Number(region.dataset.every) || 10,
    );
    await new Promise((done) => setTimeout(done, 1000 * Math.min(10, ...every)));
    // A tab that nobody sees asks for nothing.
    if (document.hidden) continue;
    try {
      await refresh();
    } catch {
      // The server is not there at the moment; the next round tries again.
    }
  }
}

loop();
