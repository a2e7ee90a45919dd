// Config: reveals one value in place, counts what is staged, adds rows.

const form = document.getElementById("config");

/** Asks for the page with one value in it, and takes that value out. */
async function reveal(link) {
  const row = link.closest("[data-key]");
  const answer = await fetch(link.href, { headers: { "x-fragment": "1" } });
  if (!answer.ok) return location.assign(link.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const cell = page.querySelector(`[data-key="${CSS.escape(row.dataset.key)}"] [data-value]`);
  const shown = cell?.querySelector("code");
  if (!shown) return location.assign(link.href);
  const target = row.querySelector("[data-value]");
  const before = [...target.childNodes];
  const code = document.createElement("code");
  code.textContent = shown.textContent;
  const hide = document.createElement("button");
  hide.type = "button";
  hide.className = "button small";
  hide.textContent = "Hide";
  hide.addEventListener("click", () => {
    target.replaceChildren(...before);
    link.focus();
  });
  target.replaceChildren(code, " ", hide);
  hide.focus();
  return undefined;
}

/** How many edits the form holds, by name. */
function staged() {
  const data = new FormData(form);
  const edited = new Set();
  for (const [name, value] of data) {
    if (name.startsWith("set.") && value) edited.add(name.slice(4));
    if (name.startsWith("unset.")) edited.add(name.slice(6));
    if (name.startsWith("new.key.") && value.trim()) edited.add(value.trim());
    if (name === "paste") {
      for (const line of value.split("\n")) {
        const key = line.trim().replace(/^export /, "").split("=")[0].trim();
        if (line.includes("=") && !key.startsWith("#")) edited.add(key);
      }
    }
  }
  return edited;
}

function count() {
  const edited = staged();
  for (const row of form.querySelectorAll("[data-key]")) {
    row.classList.toggle("edited", edited.has(row.dataset.key));
    const box = row.querySelector("input[type=checkbox]");
    row.classList.toggle("removed", Boolean(box?.checked));
  }
  const note = form.querySelector("[data-staged]");
  if (!note) return;
  const s = edited.size === 1 ? "" : "s";
  note.textContent = edited.size
    ? `${edited.size} change${s} staged; nothing happens until you have seen the difference.`
    : "Nothing happens until you have seen the difference.";
}

function addRow() {
  const rows = form.querySelectorAll("[data-row]");
  const row = rows[rows.length - 1].cloneNode(true);
  const next = rows.length + 1;
  for (const field of row.querySelectorAll("input, textarea")) {
    field.name = field.name.replace(/\d+$/, next);
    field.setAttribute("aria-label", field.getAttribute("aria-label").replace(/\d+$/, next));
    field.value = "";
  }
  form.querySelector("[data-rows]").append(row);
  row.querySelector("input").focus();
}

if (form) {
  form.addEventListener("click", (event) => {
    const link = event.target.closest("[data-reveal]");
    if (!link) return;
    event.preventDefault();
    reveal(link);
  });
  form.addEventListener("input", count);
  const add = form.querySelector("[data-add-row]");
  if (add) {
    add.hidden = false;
    add.addEventListener("click", addRow);
  }
  count();
}
