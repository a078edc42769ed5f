// A line chart in SVG. Few hundred points a line are one path: setting its text costs far less than a chart library's
// redraw, and no script has to be loaded. The frame is made once; a new answer changes texts and paths alone.

import { make, short } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const WIDE = 760, LEFT = 66, RIGHT = 24, TOP = 12, BOTTOM = 42, TICKS = 5;
const COLOURS = 7;
let made = 0;

export function svg(tag, attributes = {}) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Round values between low and high, for ticks.
export function ticks(low, high, count = TICKS) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

const tickText = (value) => (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6) ? value.toExponential() : String(value));

export class Chart {
  constructor(target, { title, x, y, height = 330, zero = false }) {
    Object.assign(this, { target, title, xName: x, yName: y, zero, height, lines: [], legendKey: null });
    made += 1;
    this.root = svg("svg", { viewBox: `0 0 ${WIDE} ${height}`, role: "img", "aria-label": title });
    this.grid = svg("g");
    this.clip = svg("clipPath", { id: `clip${made}` });
    this.clip.append(svg("rect", { x: LEFT, y: TOP, width: WIDE - LEFT - RIGHT, height: height - TOP - BOTTOM }));
    this.plot = svg("g", { "clip-path": `url(#clip${made})` });
    this.over = svg("g");
    const across = svg("text", { x: (LEFT + WIDE - RIGHT) / 2, y: height - 6, "text-anchor": "middle" });
    across.textContent = x;
    const middle = (TOP + height - BOTTOM) / 2;
    const up = svg("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" });
    up.textContent = y;
    this.root.append(this.clip, this.grid, this.plot, this.over, across, up);
    this.legend = make("ul", { "aria-hidden": "true" });
    this.table = make("table");
    const words = make("summary", {}, "Show numbers");
    const holder = make("div", { class: "scroll", role: "region", "aria-label": `Numbers of: ${title}`, tabindex: "0" }, this.table);
    this.numbers = make("details", {}, words, holder);
    this.numbers.addEventListener("toggle", () => this.tabulate());
    target.replaceChildren(this.root, this.legend, this.numbers);
  }

  // Each line: {name, x, y, low?, high?, colour, main?, dots?}; marks: [{x, text}]; range: [low, high] of y.
  draw(lines, { marks = [], range = null } = {}) {
    this.lines = lines;
    const xs = lines.flatMap((line) => [line.x[0], line.x[line.x.length - 1]]);
    const [low, high] = range ?? bounds(lines, this.zero);
    this.span = { x0: Math.min(...xs), x1: Math.max(...xs), y0: low, y1: high > low ? high : low + 1e-9 };
    if (this.span.x1 <= this.span.x0) this.span.x1 = this.span.x0 + 1;
    this.drawGrid();
    const parts = [];
    for (const line of lines) {
      const colour = line.colour % COLOURS;
      if (line.low) parts.push(svg("path", { class: `band fill${colour}`, d: this.area(line) }));
    }
    for (const line of lines) {
      const colour = line.colour % COLOURS;
      if (line.dots) line.x.forEach((x, i) => parts.push(svg("circle", { class: `fill${colour}`, cx: this.px(x), cy: this.py(line.y[i]), r: 2 })));
      else parts.push(svg("path", { class: `series line${colour}${line.main ? " main" : ""}`, d: this.path(line.x, line.y) }));
    }
    for (const mark of marks) {
      const at = this.px(mark.x);
      parts.push(svg("line", { class: "mark", x1: at, x2: at, y1: TOP, y2: this.height - BOTTOM }));
      const right = at > WIDE * 0.7;
      const words = svg("text", { x: at + (right ? -4 : 4), y: TOP + 14, "text-anchor": right ? "end" : "start" });
      words.textContent = mark.text;
      parts.push(words);
    }
    this.plot.replaceChildren(...parts);
    this.drawLegend();
    if (this.numbers.open) this.tabulate();
  }

  px(x) { return LEFT + (x - this.span.x0) / (this.span.x1 - this.span.x0) * (WIDE - LEFT - RIGHT); }
  py(y) { return TOP + (this.span.y1 - y) / (this.span.y1 - this.span.y0) * (this.height - TOP - BOTTOM); }

  // Values under a pointer.
  under(event) {
    const box = this.root.getBoundingClientRect(), { x0, x1, y0, y1 } = this.span;
    const across = (event.clientX - box.left) / box.width * WIDE, down = (event.clientY - box.top) / box.height * this.height;
    return [x0 + (across - LEFT) / (WIDE - LEFT - RIGHT) * (x1 - x0), y1 - (down - TOP) / (this.height - TOP - BOTTOM) * (y1 - y0)];
  }

  path(x, y) {
    let text = "";
    for (let i = 0; i < x.length; i += 1) text += `${i ? "L" : "M"}${this.px(x[i]).toFixed(1)} ${this.py(y[i]).toFixed(1)}`;
    return text;
  }

  area(line) {
    const back = this.path([...line.x].reverse(), [...line.low].reverse());
    return `${this.path(line.x, line.high)}L${back.slice(1)}Z`;
  }

  drawGrid() {
    const { x0, x1, y0, y1 } = this.span, key = `${x0} ${x1} ${y0} ${y1}`;
    if (key === this.gridKey) return;
    this.gridKey = key;
    const parts = [];
    for (const x of ticks(x0, x1)) {
      parts.push(svg("line", { class: "grid", x1: this.px(x), x2: this.px(x), y1: TOP, y2: this.height - BOTTOM }));
      parts.push(label(tickText(x), { x: this.px(x), y: this.height - BOTTOM + 16, "text-anchor": "middle" }));
    }
    for (const y of ticks(y0, y1)) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: this.py(y), y2: this.py(y) }));
      parts.push(label(tickText(y), { x: LEFT - 6, y: this.py(y) + 4, "text-anchor": "end" }));
    }
    this.grid.replaceChildren(...parts);
  }

  drawLegend() {
    const key = JSON.stringify(this.lines.map((line) => [line.name, line.colour]));
    if (key === this.legendKey) return;
    this.legendKey = key;
    this.legend.replaceChildren(...this.lines.map((line) => {
      const sample = svg("svg", { viewBox: "0 0 26 8" });
      const colour = line.colour % COLOURS;
      if (line.dots) sample.append(svg("circle", { cx: 13, cy: 4, r: 3, class: `fill${colour}` }));
      else sample.append(svg("path", { d: "M0 4H26", class: `series line${colour}${line.main ? " main" : ""}` }));
      return make("li", {}, sample, ` ${line.name}`);
    }));
  }

  // The text alternative: about twenty rows a line.
  tabulate() {
    if (!this.numbers.open) return;
    const head = make("tr", {}, ...["line", this.xName, this.yName, "band"].map((text) => make("th", { scope: "col" }, text)));
    const rows = this.lines.flatMap((line) => {
      const every = Math.max(1, Math.floor(line.x.length / 20));
      return line.x.map((x, i) => [x, i]).filter(([, i]) => i % every === 0 || i === line.x.length - 1).map(([x, i]) => {
        const band = line.low ? `${short(line.low[i])} to ${short(line.high[i])}` : "-";
        return make("tr", {}, ...[line.name, short(x), short(line.y[i]), band].map((text) => make("td", {}, text)));
      });
    });
    this.table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  }
}

function label(text, attributes) {
  const made = svg("text", attributes);
  made.textContent = text;
  return made;
}

// Bounds of y: of the later nine tenths of each line, for the first losses would dwarf the rest.
function bounds(lines, zero) {
  let low = Infinity, high = -Infinity;
  for (const line of lines) {
    const begin = zero ? 0 : Math.floor(line.y.length * 0.1);
    for (let i = begin; i < line.y.length; i += 1) {
      low = Math.min(low, line.main && line.low ? line.low[i] : line.y[i]);
      high = Math.max(high, line.y[i]);
    }
  }
  if (zero) low = 0;
  const room = (high - low) * 0.04 || Math.abs(high) * 0.01 || 1;
  return [zero ? 0 : low - room, high + room];
}
