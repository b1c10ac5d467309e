// One model, layer by layer: the worst, the profile, the graph with a detail beside it, the table.

const STEPS = [50, 40, 30, 20, 10]; // dB; the levels of the error scale.
const [WIDEST, NARROWEST, GAP, PADDING] = [520, 260, 32, 36]; // Pixels: of a chart, between two, of the panel's box.
const CEILING = 60; // dB; above it a bar would be too short to see.

// No noise is exact; noise without a signal (a tensor of zeros) has no ratio.
const exact = (r) => r !== null && r.sqnr_db === null && r.mean_lsb !== null && !r.max_lsb;

function levelOf(reading) {
  if (reading === null || (reading.sqnr_db === null && !exact(reading))) return -1;
  if (exact(reading)) return 0;
  const found = STEPS.findIndex((s) => reading.sqnr_db >= s);
  return found < 0 ? STEPS.length : found;
}
const levelClass = (level) => (level < 0 ? "e-none" : `e${level}`);
const decibels = (r) => (r === null ? DASH : r.sqnr_db !== null ? fixed(r.sqnr_db, 1) : exact(r) ? "exact" : DASH);
const rank = (r) => (r === null ? null : r.sqnr_db !== null ? r.sqnr_db : exact(r) ? Infinity : null);
const words = (r) => (/\d/.test(decibels(r)) ? `${decibels(r)} dB` : decibels(r));

function legend() {
  const texts = ["50 dB or more, or exact", "40 to 50", "30 to 40", "20 to 30", "10 to 20", "below 10 dB"];
  return h("p", { class: "legend" }, "Signal to quantization noise:",
    texts.map((t, i) => h("span", {}, h("span", { class: `swatch e${i}` }), t)));
}

function profile(tensors, readings, choose) {
  const n = tensors.length;
  const marker = h("span", { class: "marker" });
  const drawing = svg("svg", { viewBox: `0 0 ${n} ${CEILING}`, preserveAspectRatio: "none", role: "img",
    "aria-label": "Error of every layer in the order of execution; higher is worse" },
    readings.map((r, i) => {
      const value = rank(r);
      if (value === null) return null;
      const height = Math.max(1.5, CEILING - Math.max(0, Math.min(CEILING, value)));
      return svg("rect", { x: i, width: n > 160 ? 1.02 : 0.9, y: CEILING - height, height, class: levelClass(levelOf(r)) },
        svg("title", {}, `${tensors[i].op} ${tensors[i].layer || tensors[i].name}: ${words(r)}`));
    }));
  drawing.addEventListener("click", (event) => {
    const area = drawing.getBoundingClientRect();
    choose(Math.max(0, Math.min(n - 1, Math.floor(((event.clientX - area.left) / area.width) * n))));
  });
  const element = h("figure", { class: "figure profile" },
    h("figcaption", {}, h("strong", {}, "Error along the model"), h("span", {}, "taller is worse")),
    drawing, h("div", { class: "ends" }, h("span", {}, "input"), marker, h("span", {}, "output")));
  return { element, select: (i) => marker.style.setProperty("--at", `${(100 * (i + 0.5)) / n}%`) };
}

function figures(t) {
  const pair = ([a, b]) => `${num(a)} to ${num(b)}`;
  return [
    ["scale", num(t.scale, 6)], ["zero point", grouped(t.zero_point)],
    ["float values", pair(t.observed)], ["grid", pair(t.grid)],
    ["saturated", percent(t.saturation)], ["grid used", percent(t.used)],
    ...(t.channels ? [["channels", grouped(t.channels.count)], ["channel imbalance", num(t.channels.imbalance)],
      ["always zero", grouped(t.channels.dead)], ["silenced", grouped(t.channels.silenced)]] : []),
    ...(t.weights ? [["weights", `${t.weights.dtype}, ${t.weights.per_channel ? "per channel" : "per tensor"}`],
      ["weights SQNR", t.weights.sqnr_db === null ? "exact" : `${fixed(t.weights.sqnr_db, 1)} dB`],
      ["weights imbalance", num(t.weights.imbalance)]] : []),
  ];
}

function readingTable(t) {
  const rows = [["Isolated", t.isolated], ["Accumulated", t.accumulated]].filter(([, r]) => r);
  if (!rows.length) return null;
  return table("Error of this tensor; mean, largest and bias in steps of its grid (LSB)", [["Error", ""], ["SQNR dB", "n"], ["Mean", "n"], ["Largest", "n"], ["Bias", "n"], ["Channel bias", "n"]],
    rows.map(([title, r]) => [title, decibels(r), num(r.mean_lsb), num(r.max_lsb), num(r.bias_lsb), num(r.worst_bias_lsb)]), { show: true });
}

function neighbours(tensors, i, choose) {
  const users = tensors.flatMap((t, k) => (t.inputs.includes(i) ? [k] : []));
  const links = (title, list) => (list.length ? h("p", { class: "near" }, h("span", { class: "muted" }, title),
    list.slice(0, 8).map((k) => h("button", { type: "button", class: "link cut", title: tensors[k].name, onclick: () => choose(k) }, tensors[k].layer || tensors[k].name)),
    list.length > 8 ? h("span", { class: "muted" }, `and ${list.length - 8} more`) : null) : null);
  return [links("From", tensors[i].inputs), links("To", users)];
}

// `room`: pixels that the two charts have side by side or below each other; 0 where nobody knows.
function detailOf(report, analysis, i, choose, room = 0) {
  const t = analysis.tensors[i];
  const notes = report.verdicts.filter((v) => covers(v, analysis.model, t));
  const both = t.histogram && t.weights && t.weights.histogram;
  const width = room ? Math.min(WIDEST, both && room >= 2 * NARROWEST + GAP ? (room - GAP) / 2 : room) : chartWidth();
  return h("div", { class: "detail" },
    h("div", {}, h("h3", { class: "name" }, t.layer || t.name),
      t.layer && t.layer !== t.name ? h("p", { class: "small muted name" }, t.name) : null,
      h("p", { class: "small" }, `${t.op}, ${t.dtype} [${t.shape.join(", ")}]`)),
    notes.map((v) => h("p", { class: "note" }, h("strong", {}, `${v.title}. `), v.remedy.text, v.remedy.flag ? [" ", h("code", {}, v.remedy.flag)] : null)),
    readingTable(t),
    h("div", { class: "columns" },
      t.histogram ? histogram(t.histogram, t.grid, "Values", `Values of ${t.name}`, width) : null,
      t.weights && t.weights.histogram ? histogram(t.weights.histogram, null, "Weights", `Weights ${t.weights.name}`, width) : null),
    h("dl", {}, figures(t).map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, v)))),
    choose ? neighbours(analysis.tensors, i, choose) : null);
}

// The same choice in a row: radio buttons that look like one switch.
function switcher(label, options, chosen, change) {
  const group = `switch-${label.toLowerCase().replace(/\W+/g, "-")}`;
  return h("fieldset", { class: "switch", "aria-label": label },
    options.map(([value, text]) => h("label", {}, h("input", { type: "radio", name: group, value, checked: value === chosen, onchange: () => change(value) }), text)));
}

class Layers {
  constructor(report) {
    this.report = report;
    this.analyses = report.layers.filter((a) => a.tensors.length);
    const has = (key) => this.analyses.some((a) => a.tensors.some((t) => rank(t[key]) !== null));
    this.readings = ["isolated", "accumulated"].filter(has);
    this.reading = this.readings[0] || "accumulated";
    this.views = { worst: h("div", {}), graph: h("div", {}), table: h("div", {}) };
    this.printed = h("div", { id: "print-details" });
    this.names = [0, 1, 2].map(() => h("span", { class: "name" }));
    this.leads = h("span", {});
    this.pickers = this.analyses.length > 1 ? this.names.map(() => this.picker()) : [];
    this.which = this.first();
    this.show();
  }

  // The model that the causes are about; without causes, that of the worst layer.
  first() {
    const severity = this.analyses.map((a) => Math.max(-1, ...this.report.verdicts.filter((v) => v.model === a.model).map((v) => v.severity)));
    const most = Math.max(...severity);
    if (most >= 0) return severity.indexOf(most);
    const lowest = this.analyses.map((a) => Math.min(Infinity, ...a.tensors.map((t) => rank(this.readingOf(t)) ?? Infinity)));
    return lowest.indexOf(Math.min(...lowest));
  }

  picker() {
    return h("select", { "aria-label": "Model", onchange: (e) => { this.which = Number(e.target.value); this.show(); } },
      this.analyses.map((a, i) => h("option", { value: i }, a.model)));
  }

  get analysis() { return this.analyses[this.which]; }

  readingOf(t) { return t[this.reading]; }

  // The worst first; what was not measured or is exact is not among them.
  ranked() {
    const known = this.analysis.tensors.map((t, i) => [rank(this.readingOf(t)), i]).filter(([v]) => v !== null && v !== Infinity);
    return known.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, i]) => i);
  }

  controls() {
    return h("div", { class: "controls" },
      this.readings.length > 1 ? h("span", { class: "switch-label" }, "Error",
        switcher("Reading", [["isolated", "Isolated"], ["accumulated", "Accumulated"]], this.reading, (v) => { this.reading = v; this.update(); })) : null,
      h("span", { class: "switch-label" }, "Counts",
        switcher("Counts", [["log", "Logarithmic"], ["linear", "Linear"]], logarithmic ? "log" : "linear", (v) => { logarithmic = v === "log"; this.redraw(); })));
  }

  show() {
    const { tensors, model, samples } = this.analysis;
    this.names.forEach((n) => { n.textContent = model; });
    this.pickers.forEach((p) => { p.value = this.which; });
    this.leads.textContent = plural(samples, "sample");
    this.chosen = this.ranked()[0] ?? 0;
    this.panel = h("div", { class: "panel", role: "region", "aria-label": "The chosen layer", tabindex: "0" });
    this.graph = new Graph(tensors, (i) => this.choose(i));
    const detail = (i) => detailOf(this.report, this.analysis, i, (k) => this.reveal(k));
    this.table = new LayerTable(tensors, (t) => this.readingOf(t), (t) => this.causeOf(t), detail, (i) => this.choose(i, false));
    this.head = h("div", {}, this.controls());
    this.profiles = h("div", {});
    const zoom = h("span", { class: "zoom" },
      h("button", { type: "button", "aria-label": "Smaller", onclick: () => this.graph.resize(-1) }, "−"),
      h("button", { type: "button", "aria-label": "Larger", onclick: () => this.graph.resize(1) }, "+"));
    this.views.graph.replaceChildren(this.head, this.profiles, h("div", { class: "controls" }, legend(), zoom),
      h("div", { class: "split" }, this.graph.box, this.panel), this.printed);
    this.views.table.replaceChildren(this.table.controls, this.table.box);
    this.update();
  }

  // What depends on the reading.
  update() {
    const { tensors } = this.analysis;
    const readings = tensors.map((t) => this.readingOf(t));
    this.profile = profile(tensors, readings, (i) => this.choose(i));
    this.profiles.replaceChildren(...(this.readings.length ? [this.profile.element] : []));
    this.graph.paint(readings.map(levelOf), readings.map(words));
    this.table.refresh();
    this.views.worst.replaceChildren(this.worst());
    this.choose(this.chosen);
  }

  redraw() {
    this.choose(this.chosen);
    if (this.table.open >= 0) this.table.order();
  }

  choose(i, draw = true) {
    this.chosen = i;
    this.graph.select(i);
    this.profile.select(i);
    if (draw || this.panel.dataset.at !== String(i)) {
      this.panel.replaceChildren(detailOf(this.report, this.analysis, i, (k) => this.choose(k), Math.max(0, this.panel.clientWidth - PADDING)));
      this.panel.dataset.at = i;
    }
  }

  // Chosen from afar: the graph and the panel come into view.
  reveal(i) {
    this.choose(i);
    document.getElementById("graph").scrollIntoView({ block: "start" });
    this.panel.focus({ preventScroll: true });
  }

  causeOf(t) {
    return [...new Set(this.report.verdicts.filter((v) => covers(v, this.analysis.model, t)).map((v) => v.title))].join("; ");
  }

  // `name`: of a tensor, or of a layer, which stands for its first tensor.
  open(model, name) {
    const which = this.analyses.findIndex((a) => a.model === model);
    const found = (key) => (which < 0 ? -1 : this.analyses[which].tensors.findIndex((t) => t[key] === name));
    const i = found("name") < 0 ? found("layer") : found("name");
    if (i < 0) return;
    if (which !== this.which) {
      this.which = which;
      this.show();
    }
    this.reveal(i);
  }

  worst() {
    const { tensors, model } = this.analysis;
    const ranked = this.ranked().slice(0, 10);
    if (!ranked.length) return h("p", { class: "muted" }, "No layer has a measured error.");
    const bar = (r) => svg("svg", { width: "100%", height: 10, "aria-hidden": "true" },
      svg("rect", { width: `${(100 * (CEILING - Math.max(0, Math.min(CEILING - 1, r.sqnr_db)))) / CEILING}%`, height: 10, rx: 2, class: `node ${levelClass(levelOf(r))}` }));
    return h("div", { class: "scroll worst graphic", tabindex: "0", role: "region", "aria-label": "Worst layers" },
      h("table", { role: "table" }, h("caption", {}, `The worst layers of ${model}, by ${this.reading} error`),
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ["Layer", "Op", "Error", "SQNR dB", "Cause"].map((t, i) =>
          h("th", { scope: "col", role: "columnheader", class: i === 3 ? "n" : null }, t)))),
        h("tbody", { role: "rowgroup" }, ranked.map((i) => {
          const t = tensors[i];
          return h("tr", { role: "row" }, h("th", { scope: "row", role: "rowheader", class: "where" },
            h("button", { type: "button", class: "link cut", title: t.name, onclick: () => this.reveal(i) }, tail(t.layer || t.name))),
            h("td", { role: "cell", class: "op nowrap muted small" }, t.op), h("td", { role: "cell", class: "track" }, bar(this.readingOf(t))),
            h("td", { role: "cell", class: "n" }, decibels(this.readingOf(t))), h("td", { role: "cell", class: "small cause" }, this.causeOf(t)));
        }))));
  }

  // Paper has no clicks: the worst layers are opened on it.
  print(on) {
    if (on) this.zoomed = this.graph.zoom;
    this.graph.resize((on ? Math.min(2, this.zoomed) : this.zoomed) - this.graph.zoom);
    this.printed.replaceChildren(...(on ? [h("h3", {}, "The worst layers"), ...this.ranked().slice(0, 10).map((i) => detailOf(this.report, this.analysis, i, null))] : []));
  }

  sections() {
    const reduced = this.report.reduced;
    const left = reduced ? [
      ` To keep this page small, histograms have at most ${reduced.bins} bins`,
      reduced.histograms === null ? "" : ` and are those of the ${plural(reduced.histograms, "worst layer")}`,
      reduced.names ? ", and long names are cut" : "", "; the JSON report has all."].join("") : "";
    // One model governs all three: each says which, and can change it.
    const governed = (i, id, title, lead, view) => {
      const made = section(id, [`${title} of `, this.names[i]], lead, view);
      if (this.pickers.length) made.prepend(h("div", { class: "heading" }, made.firstChild, h("label", {}, "Model ", this.pickers[i])));
      return made;
    };
    return [
      this.readings.length ? governed(0, "worst", "Worst layers", "The ten with the least signal over quantization noise.", this.views.worst) : null,
      governed(1, "graph", "Graph", ["Every tensor from the first to the last, measured on ", this.leads, `. Isolated: only this layer is quantized. Accumulated: as the model runs.${left}`], this.views.graph),
      governed(2, "layers", "All layers", null, this.views.table),
    ];
  }
}
