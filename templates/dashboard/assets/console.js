// A terminal in the browser: xterm.js over a WebSocket.

// xterm.js writes its theme into `style` elements, which the page's policy forbids. It gets elements
// that keep what is written in a style sheet of script (CSSOM), which the policy allows.
const make = document.createElement.bind(document);
document.createElement = (name, options) => {
  if (String(name).toLowerCase() !== "style") return make(name, options);
  const sheet = new CSSStyleSheet();
  const holder = make("span");
  holder.hidden = true;
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(holder, "textContent", {
    get: () => "",
    set: (text) => sheet.replaceSync(text),
  });
  const remove = holder.remove.bind(holder);
  holder.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    remove();
  };
  return holder;
};

const { Terminal } = await import("./vendor/xterm.mjs");
const { FitAddon } = await import("./vendor/xterm-addon-fit.mjs");

const form = document.querySelector("[data-console]");
const place = document.querySelector("[data-terminal]");

function open() {
  const status = form.querySelector("[data-status]");
  const say = (text) => (status.textContent = text);
  const css = getComputedStyle(document.documentElement);
  const color = (name) => css.getPropertyValue(name).trim();
  place.replaceChildren();
  place.dataset.open = "1";
  const terminal = new Terminal({
    fontFamily: color("--mono"),
    fontSize: 14,
    cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    scrollback: 5000,
    screenReaderMode: true,
    theme: { background: color("--code-bg"), foreground: color("--code-text") },
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  fit.fit();
  const { instance, command } = form.elements;
  const where = instance.value ? "enter" : "run";
  const query = new URLSearchParams({
    command: command.value,
    columns: terminal.cols,
    rows: terminal.rows,
  });
  if (instance.value) query.set("instance", instance.value);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}${form.dataset.console}/${where}?${query}`);
  socket.binaryType = "arraybuffer";
  const encoder = new TextEncoder();
  const send = (data) => {
    // The server refuses larger messages.
    for (let at = 0; at < data.length; at += 32768) {
      if (socket.readyState === WebSocket.OPEN) socket.send(data.subarray(at, at + 32768));
    }
  };
  terminal.onData((text) => send(encoder.encode(text)));
  terminal.onBinary((text) => send(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ columns: cols, rows }));
  });
  const watcher = new ResizeObserver(() => fit.fit());
  watcher.observe(place);
  let ended = false;
  socket.addEventListener("open", () => {
    say("Open.");
    form.elements.close.hidden = false;
    form.elements.open.disabled = true;
    terminal.focus();
  });
  socket.addEventListener("message", ({ data }) => {
    if (typeof data !== "string") return terminal.write(new Uint8Array(data));
    const told = JSON.parse(data);
    ended = true;
    say("exit" in told ? `Ended with exit code ${told.exit}.` : `Ended: ${told.error}.`);
    return undefined;
  });
  socket.addEventListener("close", () => {
    watcher.disconnect();
    form.elements.close.hidden = true;
    form.elements.open.disabled = false;
    terminal.options.disableStdin = true;
    terminal.options.cursorBlink = false;
    delete place.dataset.open;
    if (!ended) say("It cannot be opened, or was cut off. Reload the page to see whether it still may.");
  });
  form.elements.close.onclick = () => socket.close();
  say("Opening…");
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  open();
});
