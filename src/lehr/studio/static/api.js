// Questions to the server. The token comes once in the address, moves to sessionStorage and leaves the address bar.

const KEY = "lehr-token";

export function takeToken() {
  const url = new URL(location.href);
  const given = url.searchParams.get("token");
  if (given === null) return;
  sessionStorage.setItem(KEY, given);
  url.searchParams.delete("token");
  history.replaceState(null, "", url);
}

async function ask(method, path, body, kind = "application/json") {
  const headers = { "X-Lehr-Token": sessionStorage.getItem(KEY) ?? "" };
  if (body !== undefined) headers["Content-Type"] = kind;
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { method, headers, body });
  } catch {
    throw new Error("The studio does not answer: is `lehr studio` still running?");
  }
  let content;
  try {
    content = await answer.json();
  } catch {
    throw new Error(`The studio gave no readable answer (status ${answer.status}).`);
  }
  if (!answer.ok) throw new Error(content.error ?? `The studio refused (status ${answer.status}).`);
  return content;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, JSON.stringify(body));
export const upload = (file) => ask("POST", `upload?name=${encodeURIComponent(file.name)}`, file, "application/octet-stream");
export const remove = (path) => ask("DELETE", path);

// Keep one question in flight and, of those that wait, the newest alone: an idle page asks at once.
export function newest(act, fail) {
  let waiting = false, busy = false;
  return async function go() {
    if (busy) { waiting = true; return; }
    busy = true;
    try {
      await act();
    } catch (error) {
      fail(error);
    }
    busy = false;
    if (waiting) { waiting = false; go(); }
  };
}

// Ask again until a job ends; `seen` is told each answer.
export async function follow(path, seen) {
  for (;;) {
    const answer = await get(path);
    seen(answer);
    if (answer.status !== "running") return answer;
    await new Promise((done) => setTimeout(done, 300));
  }
}
