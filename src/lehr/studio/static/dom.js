// Elements made of text: names from files reach the page through textContent alone.

export const at = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Fill a table: heads are texts, rows lists of texts or elements; numbers stand to the right.
export function fill(table, heads, rows, caption) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => {
    const numeric = typeof cell === "string" && /^[-+]?[0-9.]/.test(cell) && cell.length < 30;
    return make("td", { class: numeric ? "number" : "name" }, cell);
  })));
  const parts = [make("thead", {}, head), make("tbody", {}, ...body)];
  if (caption) parts.unshift(make("caption", {}, caption));
  table.replaceChildren(...parts);
}

export function options(select, names, chosen) {
  select.replaceChildren(...names.map((name) => {
    const [value, text] = Array.isArray(name) ? name : [name, name];
    return make("option", { value: String(value) }, text);
  }));
  if (chosen !== undefined && chosen !== null) select.value = chosen;
}

export function list(target, texts) {
  target.replaceChildren(...texts.map((text) => make("li", {}, text)));
}

export function fail(error) {
  at("alert").textContent = error.message;
  at("alert").hidden = false;
}

export function clearAlert() {
  at("alert").hidden = true;
}

// Do what a button asks, and show what goes wrong.
export function onClick(id, act) {
  at(id).addEventListener("click", () => guarded(act));
}

export function onSubmit(id, act) {
  at(id).addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(act);
  });
}

export async function guarded(act) {
  clearAlert();
  try {
    await act();
  } catch (error) {
    fail(error);
  }
}

export const loss = (value) => value.toFixed(4);
export const short = (value) => (value === null || value === undefined ? "-" : String(Number(value.toPrecision(4))));
export const optional = (id) => (at(id).value === "" ? undefined : Number(at(id).value));
