// The table of all layers: sorted by any column, filtered by text and op; a row opens its detail.

const COLUMNS = [
  { key: "index", title: "#", value: (r) => r.index + 1, show: (r) => r.index + 1, kind: "n" },
  { key: "layer", title: "Layer, tensor", value: (r) => (r.t.layer || r.t.name).toLowerCase() },
  { key: "op", title: "Op", value: (r) => r.t.op, show: (r) => r.t.op },
  { key: "dtype", title: "Type", value: (r) => r.t.dtype, show: (r) => r.t.dtype },
  { key: "sqnr", title: "SQNR dB", value: (r) => rank(r.reading), kind: "n",
    show: (r) => [h("span", { class: `swatch ${levelClass(levelOf(r.reading))}` }), decibels(r.reading)] },
  { key: "mean", title: "Mean error LSB", kind: "n", value: (r) => r.reading?.mean_lsb, show: (r) => num(r.reading?.mean_lsb) },
  { key: "max", title: "Largest error LSB", kind: "n", value: (r) => r.reading?.max_lsb, show: (r) => num(r.reading?.max_lsb) },
  { key: "bias", title: "Bias LSB", kind: "n", value: (r) => r.reading?.bias_lsb, show: (r) => num(r.reading?.bias_lsb, 2) },
  { key: "worst", title: "Channel bias LSB", kind: "n", value: (r) => r.reading?.worst_bias_lsb, show: (r) => num(r.reading?.worst_bias_lsb, 2) },
  { key: "saturation", title: "Saturated", kind: "n", value: (r) => r.t.saturation, show: (r) => percent(r.t.saturation) },
  { key: "used", title: "Grid used", kind: "n", value: (r) => r.t.used, show: (r) => percent(r.t.used) },
  { key: "imbalance", title: "Channel imbalance", kind: "n", value: (r) => r.t.channels?.imbalance, show: (r) => num(r.t.channels?.imbalance) },
  { key: "weights", title: "Weights SQNR dB", kind: "n", value: (r) => (r.t.weights ? r.t.weights.sqnr_db ?? Infinity : null),
    show: (r) => (r.t.weights ? (r.t.weights.sqnr_db === null ? "exact" : fixed(r.t.weights.sqnr_db, 1)) : DASH) },
  { key: "cause", title: "Cause", value: (r) => r.cause || null, show: (r) => r.cause },
];

class LayerTable {
  // `causeOf(tensor)` is text; `detail(index)` builds what a row opens; `opened(index)` hears of it.
  constructor(tensors, readingOf, causeOf, detail, opened) {
    this.causeOf = causeOf;
    this.tensors = tensors;
    this.readingOf = readingOf;
    this.detail = detail;
    this.opened = opened;
    this.sort = { key: "index", down: false };
    this.open = -1;
    this.body = h("tbody", {});
    this.heads = COLUMNS.map((c) => h("th", { scope: "col", class: c.kind || c.key, "aria-sort": "none", "data-key": c.key },
      h("button", { type: "button", onclick: () => this.sortBy(c.key) }, c.title)));
    const ops = [...new Set(tensors.map((t) => t.op))].sort();
    this.text = h("input", { type: "search", placeholder: "layer or tensor", "aria-label": "Filter by text", oninput: () => this.order() });
    this.op = h("select", { "aria-label": "Filter by op", onchange: () => this.order() },
      h("option", { value: "" }, "all ops"), ops.map((op) => h("option", { value: op }, op)));
    this.count = h("span", { class: "muted", role: "status" });
    this.controls = h("div", { class: "controls" }, h("label", {}, "Filter ", this.text), this.op, this.count);
    this.box = h("div", { class: "box", role: "region", tabindex: "0", "aria-label": "All layers" },
      h("table", { class: "layers" },
        h("caption", {}, "All layers; a row opens its detail"),
        h("thead", {}, h("tr", {}, this.heads)), this.body));
    this.body.addEventListener("click", (e) => {
      const row = e.target.closest("tr.row");
      if (row) this.toggle(Number(row.dataset.index));
    });
    this.body.addEventListener("keydown", (e) => this.key(e));
  }

  // Builds the rows; called at first and whenever the reading changes.
  refresh() {
    this.rows = this.tensors.map((t, index) => ({ t, index, reading: this.readingOf(t), cause: this.causeOf(t) }));
    for (const r of this.rows) {
      r.search = `${r.t.layer || ""}\n${r.t.name}`.toLowerCase();
      r.element = h("tr", { class: "row", tabindex: "-1", "data-index": r.index, "aria-expanded": "false" },
        COLUMNS.map((c) => (c.key === "layer"
          ? h("th", { scope: "row", class: "where" }, tail(r.t.layer || r.t.name),
            h("span", { class: "narrow muted" }, r.t.op), r.t.layer && r.t.layer !== r.t.name ? cut(r.t.name) : null)
          : h("td", { class: c.kind || c.key }, c.show(r)))));
    }
    this.order();
  }

  sortBy(key) {
    // Where large is bad the large come first; a decibel or a name is best read from the low end.
    const down = this.sort.key === key ? !this.sort.down : ["mean", "max", "bias", "worst", "saturation", "imbalance"].includes(key);
    this.sort = { key, down };
    this.order();
  }

  order() {
    const { key, down } = this.sort;
    const column = COLUMNS.find((c) => c.key === key);
    this.heads.forEach((th) => th.setAttribute("aria-sort", th.dataset.key !== key ? "none" : down ? "descending" : "ascending"));
    const wanted = this.text.value.trim().toLowerCase();
    const shown = this.rows.filter((r) => (!this.op.value || r.t.op === this.op.value) && r.search.includes(wanted));
    const missing = (v) => v === null || v === undefined;
    for (const r of shown) r.key = column.value(r);
    shown.sort((a, b) => {
      if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key) || a.index - b.index;
      const sign = a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
      return (down ? -sign : sign) || a.index - b.index;
    });
    this.shown = shown;
    this.count.textContent = shown.length === this.rows.length ? plural(shown.length, "tensor") : `${shown.length} of ${plural(this.rows.length, "tensor")}`;
    this.body.replaceChildren(...(shown.length ? shown.map((r) => r.element)
      : [h("tr", {}, h("td", { colspan: COLUMNS.length, class: "empty" }, "No layer has this name and op."))]));
    if (shown.length) shown[0].element.tabIndex = 0;
    const still = shown.some((r) => r.index === this.open);
    const open = this.open;
    this.open = -1;
    if (still) this.toggle(open);
  }

  toggle(index) {
    this.body.querySelector("tr.opened")?.remove();
    if (this.open >= 0) this.rows[this.open].element.setAttribute("aria-expanded", "false");
    this.open = this.open === index ? -1 : index;
    if (this.open < 0) return;
    const row = this.rows[index].element;
    row.setAttribute("aria-expanded", "true");
    row.after(h("tr", { class: "opened" }, h("td", { colspan: COLUMNS.length }, this.detail(index))));
    this.opened(index);
  }

  key(event) {
    const row = event.target.closest("tr.row");
    if (!row || event.target !== row) return;
    const at = this.shown.findIndex((r) => r.element === row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.shown.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.shown[Math.max(0, Math.min(this.shown.length - 1, to))].element.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.toggle(Number(row.dataset.index));
    } else if (event.key === "Escape" && this.open >= 0) {
      this.toggle(this.open);
    }
  }
}
