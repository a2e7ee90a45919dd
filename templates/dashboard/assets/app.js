// What every page has beyond HTML. Nothing here is needed for a page to work.

const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

/** Sends a change to a path of this site, with the token that it needs. */
export function send(path, options = {}) {
  const headers = { "x-csrf-token": csrf, ...options.headers };
  return fetch(path, { method: "POST", credentials: "same-origin", ...options, headers });
}

/**
 * Server-sent events: `handlers` by event name. The browser connects again by itself and says where
 * it stopped (`Last-Event-ID`). The stream is closed while the page is hidden for good.
 */
export function listen(path, handlers) {
  const source = new EventSource(path);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(event.data, event));
  }
  addEventListener("pagehide", () => source.close(), { once: true });
  return source;
}

/** A sentence in the corner. */
export function toast(text, tone = "ok") {
  const note = document.createElement("p");
  note.className = `toast ${tone}`;
  note.setAttribute("role", "status");
  note.textContent = text;
  document.querySelector("main").prepend(note);
  setTimeout(() => note.remove(), 6000);
}

// --- Times -----------------------------------------------------------------------------------------

function ago(date) {
  const seconds = Math.round((Date.now() - date.getTime()) / 1000);
  const amount = Math.abs(seconds);
  if (amount < 45) return seconds < 0 ? "in a moment" : "just now";
  let words;
  if (amount < 3600) words = `${Math.max(1, Math.floor(amount / 60))} min`;
  else if (amount < 86400) words = `${Math.floor(amount / 3600)} h`;
  else if (amount < 2592000) words = `${Math.floor(amount / 86400)} d`;
  else return date.toISOString().slice(0, 10);
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

export function refreshTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-exact])")) {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    const words = ago(date);
    if (element.textContent !== words) element.textContent = words;
    element.title = date.toLocaleString();
  }
}

// --- Live regions: elements with an id and `data-live` are replaced by what the page has now -------

let refreshing = null;

/** Fetches this page again and replaces its live regions. */
export async function refresh() {
  if (refreshing) return refreshing;
  refreshing = (async () => {
    const answer = await fetch(location.href, { headers: { "x-fragment": "1" } });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) return undefined;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-live][id]")) {
      const next = fresh.getElementById(old.id);
      if (!next || old.contains(document.activeElement)) continue;
      if (next.innerHTML === old.innerHTML) continue;
      old.replaceChildren(...next.childNodes);
    }
    enhance(document);
    return undefined;
  })().finally(() => {
    refreshing = null;
  });
  return refreshing;
}

// --- Small things ----------------------------------------------------------------------------------

function filterRows(input) {
  const region = document.querySelector(input.dataset.filter);
  if (!region) return;
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of region.querySelectorAll("[data-text]")) {
    const text = row.dataset.text.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    if (!row.hidden) shown += 1;
  }
  const empty = region.querySelector(".empty-filter");
  if (empty) empty.hidden = shown > 0;
}

function addCopyButton(block) {
  if (block.querySelector(".copy")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = block.querySelector("code").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without HTTPS there is no clipboard: select it, so that Ctrl-C takes it.
      getSelection().selectAllChildren(block.querySelector("code"));
      button.textContent = "Press Ctrl C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  block.append(button);
}

/** Asks before a form with `data-confirm` is sent; `data-confirm-name` must be typed. */
function confirmDialog(form, submitter) {
  const dialog = document.createElement("dialog");
  const title = document.createElement("h2");
  title.textContent = form.dataset.confirm;
  const buttons = document.createElement("div");
  buttons.className = "buttons";
  const cancel = document.createElement("button");
  cancel.type = "button";
  cancel.className = "button";
  cancel.textContent = "Cancel";
  const go = document.createElement("button");
  go.type = "button";
  go.className = submitter?.classList.contains("danger") ? "button danger" : "button primary";
  go.textContent = submitter?.textContent.trim() || "Yes";
  dialog.append(title);
  const name = form.dataset.confirmName;
  if (name) {
    const label = document.createElement("label");
    label.textContent = `Type ${name} to go on`;
    const input = document.createElement("input");
    input.autocomplete = "off";
    input.addEventListener("input", () => (go.disabled = input.value !== name));
    go.disabled = true;
    label.append(input);
    dialog.append(label);
  }
  buttons.append(cancel, go);
  dialog.append(buttons);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  go.addEventListener("click", () => {
    dialog.close();
    form.dataset.confirmed = "1";
    form.requestSubmit(submitter);
  });
  document.body.append(dialog);
  dialog.showModal();
}

function themeSwitch(button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const root = document.documentElement;
    const dark =
      root.dataset.theme === "dark" ||
      (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // For this page only, then.
    }
  });
}

/** Wires what was added to the page. Each page's own script may call it for its additions. */
export function enhance(root) {
  refreshTimes(root);
  for (const input of root.querySelectorAll("input[data-filter]")) {
    if (!input.dataset.wired) {
      input.dataset.wired = "1";
      input.addEventListener("input", () => filterRows(input));
    }
    if (input.value) filterRows(input);
  }
  for (const block of root.querySelectorAll("pre.code")) addCopyButton(block);
}

enhance(document);
for (const button of document.querySelectorAll("[data-theme-switch]")) themeSwitch(button);
setInterval(() => refreshTimes(), 30_000);
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.confirm || form.dataset.confirmed) return;
  event.preventDefault();
  confirmDialog(form, event.submitter);
});

// The rail is a menu on phones and always open beside the page.
const rail = document.querySelector("[data-rail]");
const wide = matchMedia("(min-width: 52rem)");
const openRail = () => rail && (rail.open = wide.matches);
openRail();
wide.addEventListener("change", openRail);

// --- What is new: live regions are asked for again after events, and now and then for figures ------

if (document.querySelector("[data-live][id]")) {
  let timer = null;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 300);
  };
  listen("/live", { event: soon });
  setInterval(() => document.visibilityState === "visible" && refresh(), 15_000);
}

// --- Ctrl-K ----------------------------------------------------------------------------------------

let places = null;

function score(title, words) {
  const text = title.toLowerCase();
  let total = 0;
  for (const word of words) {
    const at = text.indexOf(word);
    if (at < 0) return -1;
    total += at === 0 || " ·-".includes(text[at - 1]) ? 2 : 1;
  }
  return total - title.length / 1000;
}

async function palette() {
  if (document.querySelector("dialog.palette")) return;
  const dialog = document.createElement("dialog");
  dialog.className = "palette";
  dialog.setAttribute("aria-label", "Search");
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "Search apps, pages, actions";
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-label", input.placeholder);
  input.setAttribute("aria-expanded", "true");
  input.setAttribute("aria-controls", "palette-list");
  const list = document.createElement("ul");
  list.id = "palette-list";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Found");
  dialog.append(input, list);
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.showModal();
  input.focus();
  let shown = [];
  let chosen = 0;
  const mark = () => {
    [...list.children].forEach((item, index) => {
      item.setAttribute("aria-selected", String(index === chosen));
      if (index === chosen) {
        input.setAttribute("aria-activedescendant", item.id);
        item.scrollIntoView({ block: "nearest" });
      }
    });
  };
  const draw = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = (places ?? [])
      .map((place) => ({ place, rank: score(place.title, words) }))
      .filter(({ rank }) => rank >= 0 || words.length === 0)
      .sort((a, b) => (words.length ? b.rank - a.rank : 0))
      .slice(0, 12)
      .map(({ place }) => place);
    chosen = 0;
    list.replaceChildren(
      ...shown.map((place, index) => {
        const item = document.createElement("li");
        item.id = `palette-${index}`;
        item.setAttribute("role", "option");
        const title = document.createElement("span");
        title.textContent = place.title;
        const kind = document.createElement("small");
        kind.textContent = place.kind;
        item.append(title, kind);
        item.addEventListener("click", () => location.assign(place.href));
        return item;
      }),
    );
    mark();
  };
  input.addEventListener("input", draw);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length) {
      event.preventDefault();
      chosen = (chosen + step + shown.length) % shown.length;
      mark();
    } else if (event.key === "Enter" && shown[chosen]) {
      event.preventDefault();
      location.assign(shown[chosen].href);
    }
  });
  try {
    places = await (await fetch("/palette.json")).json();
  } catch {
    places ??= [];
  }
  draw();
}

for (const button of document.querySelectorAll("[data-palette]")) {
  button.hidden = false;
  button.addEventListener("click", palette);
}
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && document.querySelector("[data-palette]")) {
    event.preventDefault();
    palette();
  }
});
