// The drawings: intervals, histograms, reliability, confusion.

// The range that the intervals of one metric share; zero is always in it.
function intervalScale(differences) {
  const ends = differences.flatMap((d) => [d.value, d.low, d.high]).filter((x) => x !== null);
  const low = Math.min(0, ...ends);
  const high = Math.max(0, ...ends);
  const pad = (high - low) * 0.06 || 1;
  const x = (v) => 4 + ((v - low + pad) / (high - low + 2 * pad)) * 224;
  return { low, high, x, empty: !ends.length };
}

function intervalAxis(scale, unit) {
  if (scale.empty || scale.low === scale.high) return null;
  const marks = ticks(scale.low, scale.high, 4);
  return svg("svg", { viewBox: "0 0 232 30", "aria-hidden": "true" },
    marks.map((t) => [
      svg("line", { x1: scale.x(t), x2: scale.x(t), y1: 24, y2: 30, class: "zero" }),
      svg("text", { x: scale.x(t), y: 18, "text-anchor": "middle" }, tickText(t, marks)),
    ]));
}

function intervalPlot(d, scale, tone) {
  if (d.value === null) return null;
  const y = 15;
  const open = d.low !== null && d.low <= 0 && d.high >= 0;
  return svg("svg", { viewBox: "0 0 232 30", class: `${tone} ${open ? "open" : ""}`, "aria-hidden": "true" },
    svg("line", { x1: scale.x(0), x2: scale.x(0), y1: 0, y2: 30, class: "zero" }),
    d.low === null ? null : svg("line", { x1: scale.x(d.low), x2: scale.x(d.high), y1: y, y2: y, class: "span" }),
    svg("circle", { cx: scale.x(d.value), cy: y, r: 4, class: "dot" }));
}

// Counts fall over many decades; a logarithm keeps the three outliers visible that set the range.
let logarithmic = true;
const chartWidth = () => Math.max(260, Math.min(520, document.documentElement.clientWidth - 76));

function histogram(data, grid, title, what, width) {
  const [top, bottom, height] = [grid ? 22 : 6, 22, grid ? 186 : 150];
  const span = data.high - data.low || 1;
  // A grid far wider than the values is cut, and says so, or the values would be a single line.
  const low = grid ? Math.max(Math.min(data.low, grid[0]), data.low - span) : data.low;
  const high = grid ? Math.min(Math.max(data.high, grid[1]), data.high + span) : data.low + span;
  const x = (v) => 1 + ((v - low) / (high - low || 1)) * (width - 2);
  const most = Math.max(1, ...data.float, ...(data.quantized || []));
  const level = (n) => (logarithmic ? Math.log1p(n) / Math.log1p(most) : n / most);
  const y = (n) => height - bottom - level(n) * (height - bottom - top);
  const base = height - bottom;
  const step = span / data.float.length;
  const at = (i) => x(data.low + i * step);
  const bars = data.float.map((n, i) => (n ? `M${at(i).toFixed(1)} ${base}V${y(n).toFixed(1)}H${at(i + 1).toFixed(1)}V${base}Z` : "")).join("");
  const line = (data.quantized || []).map((n, i) => `${i ? "" : `M${at(0).toFixed(1)} ${base}`}V${y(n).toFixed(1)}H${at(i + 1).toFixed(1)}`).join("");
  const marks = ticks(low, high, 5);
  const [from, to] = grid ? [Math.max(low, grid[0]), Math.min(high, grid[1])] : [low, high];
  const said = `${what}: values from ${num(data.low)} to ${num(data.high)}` + (grid ? `, grid from ${num(grid[0])} to ${num(grid[1])}` : "");
  return h("figure", { class: "hist" },
    h("figcaption", {}, h("strong", {}, title),
      h("span", {}, h("span", { class: "key float" }), "float"),
      data.quantized ? h("span", {}, h("span", { class: "key quantized" }), "quantized") : null,
      grid ? h("span", {}, h("span", { class: "key range" }), "grid") : null),
    svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": said },
      svg("path", { d: bars, class: "float" }),
      grid && from > low ? svg("rect", { x: x(low), y: top, width: x(from) - x(low), height: base - top, class: "outside" }) : null,
      grid && to < high ? svg("rect", { x: x(to), y: top, width: x(high) - x(to), height: base - top, class: "outside" }) : null,
      line ? svg("path", { d: line, class: "quantized" }) : null,
      svg("line", { x1: 0, x2: width, y1: base, y2: base, class: "axis" }),
      marks.map((t) => [
        svg("line", { x1: x(t), x2: x(t), y1: base, y2: base + 4, class: "axis" }),
        svg("text", { x: Math.min(width - 12, Math.max(10, x(t))), y: height - 5, "text-anchor": "middle" }, tickText(t, marks)),
      ]),
      grid ? rangeMarks(grid, low, high, x, top, base, width) : null));
}

function rangeMarks(grid, low, high, x, top, base, width) {
  const [from, to] = [x(Math.max(low, grid[0])), x(Math.min(high, grid[1]))];
  const cutLow = grid[0] < low;
  const cutHigh = grid[1] > high;
  const text = `${cutLow ? "← " : ""}${num(grid[0])} to ${num(grid[1])}${cutHigh ? " →" : ""}`;
  const middle = Math.min(width - 60, Math.max(60, (from + to) / 2));
  return [
    cutLow ? null : svg("line", { x1: from, x2: from, y1: top - 6, y2: base, class: "grid" }),
    cutHigh ? null : svg("line", { x1: to, x2: to, y1: top - 6, y2: base, class: "grid" }),
    svg("path", { d: `M${from} ${top - 6}H${to}`, class: "bracket" }),
    svg("text", { x: middle, y: 11, "text-anchor": "middle", class: "range" }, text),
  ];
}

// One pattern for the whole page: the part of an axis that the grid does not reach.
function hatchPattern() {
  return svg("svg", { width: 0, height: 0, "aria-hidden": "true", class: "defs" },
    svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("line", { x1: 0, x2: 0, y1: 0, y2: 6, class: "hatch" }))));
}

function reliabilityDiagram(row) {
  const size = 240;
  const [left, bottom] = [42, 26];
  const x = (v) => left + v * (size - left - 6);
  const y = (v) => size - bottom - v * (size - bottom - 6);
  const most = Math.max(1, ...row.bins.map((b) => b.count));
  const full = row.bins.filter((b) => b.count && b.accuracy !== null && b.confidence !== null);
  const said = `Reliability of ${row.model}: ${full.map((b) => `${percent(b.confidence)} sure, ${percent(b.accuracy)} right`).join("; ")}`;
  return h("figure", { class: "figure rel" },
    h("figcaption", {}, h("strong", {}, row.model), h("span", {}, `expected calibration error ${num(row.ece)}`)),
    svg("svg", { viewBox: `0 0 ${size} ${size}`, width: size, height: size, role: "img", "aria-label": said },
      row.bins.map((b) => (b.accuracy === null ? null : svg("rect", {
        x: x(b.low) + 1, width: Math.max(0, x(b.high) - x(b.low) - 2), y: y(b.accuracy), height: y(0) - y(b.accuracy), class: "bin" }))),
      svg("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal zero" }),
      full.map((b) => [
        svg("line", { x1: x(b.confidence), x2: x(b.confidence), y1: y(b.accuracy), y2: y(b.confidence), class: "gap" }),
        svg("circle", { cx: x(b.confidence), cy: y(b.accuracy), r: 2 + 3 * Math.sqrt(b.count / most), class: "point" },
          svg("title", {}, `${plural(b.count, "sample")}: ${percent(b.confidence)} sure, ${percent(b.accuracy)} right`)),
      ]),
      [0, 0.5, 1].map((t) => [
        svg("text", { x: x(t), y: size - 11, "text-anchor": t === 1 ? "end" : "middle" }, t),
        svg("text", { x: left - 5, y: y(t) + 4, "text-anchor": "end" }, t),
      ]),
      svg("text", { x: x(0.5), y: size - 1, "text-anchor": "middle" }, "confidence"),
      svg("text", { x: 0, y: 0, transform: `translate(10 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "accuracy")));
}

const classNames = (n, names) => Array.from({ length: n }, (_, i) => (names && names[i] !== undefined ? names[i] : String(i)));

function confusionFigure(row, names) {
  const n = row.matrix.length;
  const labels = classNames(n, names);
  const totals = row.matrix.map((r) => r.reduce((a, b) => a + b, 0));
  const wrong = row.matrix
    .flatMap((r, i) => r.map((count, j) => ({ count, i, j })))
    .filter((c) => c.i !== c.j && c.count)
    .sort((a, b) => b.count - a.count || a.i - b.i || a.j - b.j)
    .slice(0, 5);
  return h("figure", { class: "figure" },
    h("figcaption", {}, h("strong", {}, row.model)),
    n <= 16 ? confusionTable(row, labels, totals) : confusionCanvas(row, labels, totals),
    wrong.length
      ? h("p", { class: "small muted name" }, "Most frequent: ",
          wrong.map((c, k) => [k ? "; " : "", name(labels[c.i]), " taken for ", name(labels[c.j]), `, ${c.count} of ${totals[c.i]}`]))
      : null);
}

function confusionTable(row, labels, totals) {
  const heat = (count, i) => Math.sqrt(totals[i] ? count / totals[i] : 0) * 0.9;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Confusion of ${row.model}` },
    h("table", { class: "matrix" },
      h("caption", {}, `Confusion of ${row.model}: rows are labels, columns are answers`),
      h("thead", {}, h("tr", {}, h("td", {}), labels.map((t) => h("th", { scope: "col" }, cut(t))))),
      h("tbody", {}, row.matrix.map((r, i) => h("tr", {}, h("th", { scope: "row" }, cut(labels[i])),
        r.map((count, j) => {
          const s = heat(count, i);
          return h("td", { "--s": s.toFixed(3), class: s > 0.65 ? "full" : null,
            title: `${labels[i]}, answered ${labels[j]}: ${count} of ${totals[i]}` }, count || "");
        }))))));
}

const painters = []; // Canvases do not follow the theme by themselves.

function confusionCanvas(row, labels, totals) {
  const n = row.matrix.length;
  const canvas = h("canvas", { width: n, height: n, role: "img", "aria-label": `Confusion of ${row.model}: rows are labels, columns are answers` });
  const readout = h("p", { class: "readout" }, "Rows: labels. Columns: answers. Point at a cell.");
  const paint = () => {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const [from, to] = ["--raised", "--heat"].map((key) => resolvedColor(key));
    const image = context.createImageData(n, n);
    row.matrix.forEach((r, i) => r.forEach((count, j) => {
      const s = Math.sqrt(totals[i] ? count / totals[i] : 0);
      const at = 4 * (i * n + j);
      for (let k = 0; k < 3; k++) image.data[at + k] = from[k] + (to[k] - from[k]) * s;
      image.data[at + 3] = 255;
    }));
    context.putImageData(image, 0, 0);
  };
  painters.push(paint);
  canvas.addEventListener("pointermove", (event) => {
    const area = canvas.getBoundingClientRect();
    const j = Math.min(n - 1, Math.floor(((event.clientX - area.left) / area.width) * n));
    const i = Math.min(n - 1, Math.floor(((event.clientY - area.top) / area.height) * n));
    if (row.matrix[i]?.[j] === undefined) return;
    readout.textContent = `${labels[i]}, answered ${labels[j]}: ${row.matrix[i][j]} of ${totals[i]}`;
  });
  return h("div", {}, canvas, readout);
}

function resolvedColor(property) {
  const probe = h("span", {});
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return found;
}
