// Building elements, and numbers as a person reads them.

const SVG = "http://www.w3.org/2000/svg";
const DASH = "–";

// Every text goes in as a text node: a tensor may be called "<script>".
function fill(element, props, children) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}
const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
const svg = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

const minus = (text) => text.replace("-", "−");

// Halves are rounded up, after the noise beyond 12 digits is gone, as digits.py does it: the console
// and the page show the same digits.
function decimal(x, decimals) {
  if (!(Math.abs(x) < 1e15)) return x.toFixed(decimals);
  const [digits, power] = Math.abs(x).toPrecision(12).split("e");
  const steps = Math.round(Number(`${digits}e${Number(power || 0) + decimals}`));
  if (!(steps < 1e21)) return x.toFixed(decimals);
  return (x < 0 && steps ? "-" : "") + Number(`${steps}e${-decimals}`).toFixed(decimals);
}

const fixed = (x, decimals) => (x === null ? DASH : minus(decimal(x, decimals)));

// Three significant digits, without an exponent where a person would not write one.
function num(x, digits = 3) {
  if (x === null || x === undefined) return DASH;
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return minus(x.toExponential(digits - 1)).replace("+", "");
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return minus(decimals ? decimal(x, decimals) : grouped(Number(decimal(x, 0))));
}

function grouped(n) {
  return n === null ? DASH : minus(String(n).replace(/\B(?=(\d{3})+$)/g, " "));
}

function percent(share) {
  if (share === null || share === undefined) return DASH;
  const x = share * 100;
  if (x === 0 || x === 100) return `${x} %`;
  if (x < 0.01) return "< 0.01 %";
  if (x > 99.9 && x < 100) return "> 99.9 %";
  return `${decimal(x, x < 1 ? 2 : 1)} %`;
}

function chance(p) {
  if (p === null) return DASH;
  if (p < 0.0001) return "< 0.0001";
  return String(Number(decimal(p, 1 - Math.floor(Math.log10(p)))));
}

function bytes(n) {
  if (n === null) return DASH;
  return n >= 1e6 ? `${decimal(n / 1e6, 2)} MB` : n >= 1e3 ? `${decimal(n / 1e3, 1)} KB` : `${n} B`;
}

function withUnit(text, unit) {
  return unit && text !== DASH ? `${text} ${unit}` : text;
}

function plural(n, word) {
  return `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;
}

// Round numbers that cover [low, high] in about n steps.
function ticks(low, high, n) {
  if (!(high > low)) return [low];
  const raw = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

// As many decimals as tell the ticks apart.
function tickText(t, marks) {
  if (t === 0) return "0";
  const step = marks.length > 1 ? Math.abs(marks[1] - marks[0]) : Math.abs(t);
  if (step >= 1e6 || step < 1e-6) return num(t, 2);
  return minus(t.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9))));
}

// A table: columns are [heading, "n" for numbers or ""], rows are arrays of cells. On a narrow screen
// every row is a small list of headings and values; the roles keep it a table for those who listen.
function table(caption, columns, rows, options = {}) {
  const cell = (content, i) =>
    i === 0
      ? h("th", { scope: "row", role: "rowheader", class: columns[i][1] }, content)
      : h("td", { role: "cell", class: columns[i][1], "data-label": columns[i][0] }, content);
  const box = h("div", { class: "scroll stack", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { class: options.class, role: "table" },
      h("caption", {}, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        columns.map(([text, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, text)))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, row.map(cell))))));
  // A visible caption stays outside of what scrolls.
  return options.show ? [h("p", { class: "caption", "aria-hidden": "true" }, caption), box] : box;
}

function copyable(text, wrap) {
  const code = h("code", {}, text);
  const button = h("button", { type: "button", "aria-label": `Copy ${text.slice(0, 80)}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without permission the text is at least selected, ready for Ctrl-C.
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return h("div", { class: wrap ? "copy wrap" : "copy" }, code, button);
}

const name = (text) => h("span", { class: "name" }, text);
const cut = (text) => h("span", { class: "cut", title: text }, text);
// Of a path the end tells most: the beginning gives way.
const tail = (text) => h("span", { class: "cut tail", title: text }, h("bdi", {}, text));
