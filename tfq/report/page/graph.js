// The graph of one model from top to bottom: a tensor a row, in the order of execution. A tensor keeps
// its lane until its last consumer, so no edge runs through another node.

function laneOf(tensors) {
  const last = tensors.map((_, i) => i);
  tensors.forEach((t, i) => t.inputs.forEach((k) => { last[k] = Math.max(last[k], i); }));
  const busy = [];
  return tensors.map((_, i) => {
    busy.forEach((holder, lane) => { if (holder !== null && last[holder] <= i) busy[lane] = null; });
    const free = busy.indexOf(null);
    const lane = free < 0 ? busy.length : free;
    busy[lane] = i;
    return lane;
  });
}

const ZOOM = [5, 9, 16, 26];

class Graph {
  constructor(tensors, choose) {
    this.tensors = tensors;
    this.choose = choose;
    this.at = -1;
    this.zoom = 3;
    this.lanes = laneOf(tensors);
    const widest = Math.max(0, ...this.lanes) + 1;
    this.gap = Math.max(5, Math.min(16, 130 / widest));
    this.width = 12 + widest * this.gap + 8;
    this.list = h("ol", { role: "listbox", tabindex: "0", "aria-label": "Layers in the order of execution",
      onkeydown: (e) => this.key(e) });
    this.list.addEventListener("click", (e) => {
      const row = e.target.closest("li");
      if (row) this.choose(Number(row.dataset.index));
    });
    this.rows = tensors.map((t, i) => h("li", { role: "option", id: `node-${i}`, "data-index": i, "aria-selected": "false" },
      h("span", { class: "op" }, t.op), tail(t.layer || t.name), h("span", { class: "db" })));
    this.list.append(...this.rows);
    this.canvas = h("div", { class: "canvas", "--lanes": `${this.width}px` }, this.list);
    this.box = h("div", { class: "graph", "--rows": tensors.length }, this.canvas);
    this.draw();
  }

  x(i) { return 12 + this.lanes[i] * this.gap; }

  y(i) { return (i + 0.5) * this.row; }

  edge(k, i) {
    const [x0, x1] = [this.x(k), this.x(i)];
    const bend = this.y(i) - this.row;
    if (x0 === x1) return `M${x0} ${this.y(k)}V${this.y(i)}`;
    return `M${x0} ${this.y(k)}V${bend}C${x0} ${bend + this.row * 0.6} ${x1} ${bend + this.row * 0.4} ${x1} ${this.y(i)}`;
  }

  draw() {
    this.row = ZOOM[this.zoom];
    const size = Math.max(1.8, Math.min(5.5, this.row / 3.4));
    const edges = this.tensors.map((t, i) => t.inputs.map((k) => this.edge(k, i)).join("")).join("");
    this.near = svg("path", { class: "edges near" });
    this.nodes = this.tensors.map((_, i) => svg("rect", { x: this.x(i) - size, y: this.y(i) - size, width: 2 * size, height: 2 * size, rx: size * 0.55, class: "node" }));
    const drawing = svg("svg", { width: this.width, height: this.row * this.tensors.length, "aria-hidden": "true" },
      svg("path", { class: "edges", d: edges }), this.near, this.nodes);
    this.canvas.querySelector("svg")?.remove();
    this.canvas.style.setProperty("--row", `${this.row}px`);
    this.canvas.classList.toggle("dense", this.row < 14);
    this.canvas.prepend(drawing);
    this.color();
    this.mark();
  }

  // The level (0 best, 5 worst, -1 none) and the words of every tensor, by the chosen reading.
  paint(levels, words) {
    this.levels = levels;
    this.rows.forEach((row, i) => {
      row.lastChild.textContent = words[i];
      row.title = `${this.tensors[i].op} ${this.tensors[i].name}: ${words[i]}`;
    });
    this.color();
  }

  color() {
    if (!this.levels) return;
    this.nodes.forEach((n, i) => n.setAttribute("class", `node ${levelClass(this.levels[i])}${i === this.at ? " at" : ""}`));
  }

  mark() {
    if (this.at < 0) return;
    const users = this.tensors.flatMap((t, i) => (t.inputs.includes(this.at) ? [i] : []));
    this.near.setAttribute("d", [...this.tensors[this.at].inputs.map((k) => this.edge(k, this.at)), ...users.map((i) => this.edge(this.at, i))].join(""));
    this.nodes[this.at].classList.add("at");
  }

  select(i) {
    if (this.at >= 0) {
      this.rows[this.at].setAttribute("aria-selected", "false");
      this.nodes[this.at].classList.remove("at");
    }
    this.at = i;
    this.rows[i].setAttribute("aria-selected", "true");
    this.list.setAttribute("aria-activedescendant", `node-${i}`);
    this.mark();
    const top = i * this.row;
    if (top < this.box.scrollTop + this.row || top > this.box.scrollTop + this.box.clientHeight - 2 * this.row) {
      this.box.scrollTop = top - this.box.clientHeight / 2;
    }
  }

  resize(by) {
    this.zoom = Math.max(0, Math.min(ZOOM.length - 1, this.zoom + by));
    this.draw();
    if (this.at >= 0) this.box.scrollTop = this.at * this.row - this.box.clientHeight / 2;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.row) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 }[event.key];
    if (!by) return;
    event.preventDefault();
    this.choose(Math.max(0, Math.min(this.tensors.length - 1, this.at + by)));
  }
}
