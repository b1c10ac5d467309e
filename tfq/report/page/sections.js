// Everything but the layers: what was compared, how good it is, and how it was measured.

const reference = (report) => report.models.find((m) => m.reference) || report.models[0];

function section(id, title, lead, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title), lead ? h("p", { class: "lead" }, lead) : null, children);
}

// Such a warning is about every figure: it stands under the verdict, in full.
const isMisfit = (warning) => warning.startsWith("THE SAMPLES DO NOT FIT");

function verdictSection(report) {
  const { text, status } = report.verdict;
  const [mark, word] = { good: ["✓", "Good enough"], doubtful: ["?", "Doubtful"], bad: ["✕", "Not good enough"], none: ["–", "Nothing to compare with"] }[status];
  const misfits = report.warnings.filter(isMisfit);
  const warned = report.warnings.length - misfits.length;
  return h("section", { id: "verdict", class: `verdict ${status}`, "aria-labelledby": "verdict-title" },
    h("h2", { id: "verdict-title" }, h("span", { class: "mark", "aria-hidden": "true" }, mark), word),
    h("p", {}, text),
    misfits.map((w) => h("p", { class: "misfit", role: "note" }, w)),
    warned ? h("p", { class: "small" }, h("a", { href: "#warnings" }, plural(warned, "warning")), " about these figures") : null);
}

function taskText(task) {
  const scores = task.scores ? ` (scores are ${task.scores})` : "";
  const range = task.data_range ? ` (range of values ${num(task.data_range)})` : "";
  const ignored = typeof task.ignore_index === "number" ? ` (label ${task.ignore_index} is ignored)` : "";
  return `${task.name} on output ${task.output}${scores}${range}${ignored}`;
}

// The output that a row is about, where several are measured.
const outputOf = (report, row) => (report.tasks.length > 1 ? `${row.output}: ` : "");

function comparedSection(report) {
  const base = reference(report);
  const many = report.models.length > 1;
  const lead = [
    `${report.data.description}${report.data.labelled ? "" : ", without labels"}`,
    ...report.tasks.map(taskText),
  ].filter(Boolean).join("; ") + ".";
  const ratio = (m) => (many && m !== base && m.bytes && base.bytes ? `${decimal(base.bytes / m.bytes, 1)} × smaller` : "");
  const rows = report.models.map((m) => [
    [name(m.name), m.reference && many ? h("span", { class: "muted small" }, " reference") : null],
    m.kind,
    [bytes(m.bytes), ratio(m) ? h("span", { class: "muted" }, ` (${ratio(m)})`) : null],
    m.full_integer ? "yes" : "no",
    m.min_runtime_version || DASH,
    m.sha256 ? h("code", { title: m.sha256 }, m.sha256.slice(0, 12)) : DASH,
    m.path ? h("span", { class: "name" }, m.path) : DASH,
  ]);
  return section("models", "What was compared", lead,
    table("The models", [["Model", ""], ["Type", ""], ["Size", ""], ["Full integer", ""], ["Runs from runtime", ""], ["SHA-256", ""], ["File", ""]], rows, { class: "models" }));
}

// Two digits of the interval's half width, or three of the values where there is none; never more
// than four decimals of a number of order 1, or four significant digits below.
function decimalsOf(metric) {
  const halves = [...metric.values, ...metric.differences].filter((v) => v.low !== null && v.high !== null).map((v) => (v.high - v.low) / 2).filter((w) => w > 0);
  const values = metric.values.map((v) => Math.abs(v.value || 0)).filter((v) => v > 0);
  const size = halves.length ? Math.min(...halves) : values.length ? Math.min(...values) / 10 : 1;
  const largest = values.length ? Math.max(...values) : 1;
  const most = (largest >= 1 ? 4 : 3) - Math.floor(Math.log10(largest));
  return Math.max(metric.unit === "%" ? 1 : 0, Math.min(most, 1 - Math.floor(Math.log10(size))), 0);
}

// With enough samples no difference is chance, however small. Nobody acts on 0.1 % of the value, nor
// on 1/20 of the width to which the samples tell the value itself: such a difference is not shouted.
function negligible(d, reference) {
  if (!reference || reference.value === null) return false;
  const width = reference.low === null || reference.high === null ? 0 : reference.high - reference.low;
  return Math.abs(d.value) < Math.max(Math.abs(reference.value) / 1000, width / 20);
}

// Every sample counted the same.
const identical = (d) => d.value === 0 && d.low === 0 && d.high === 0;

// Whether chance can explain it: neither the test nor the interval, where there is one, may say so.
function conclusion(d, better, reference) {
  if (d.value === null || (d.p === null && d.low === null)) return ["", ""];
  if (identical(d)) return ["", "no difference"];
  const real = (d.p === null || d.p < 0.05) && (d.low === null || d.low > 0 || d.high < 0);
  if (!real) return ["", "may be chance"];
  if (better === "neither" || d.value === 0) return ["", "really different"];
  const tone = (d.value > 0) === (better === "higher") ? "better" : "worse";
  return negligible(d, reference) ? ["", `${tone}, but negligible`] : [tone, `really ${tone}`];
}

function metricRows(metric, models, compared, title) {
  const decimals = decimalsOf(metric);
  const scale = intervalScale(metric.differences);
  const interval = (v, f) => (v.low === null ? null : h("span", { class: "muted nowrap" }, ` (${f(v.low)} to ${f(v.high)})`));
  const signed = (x) => (x > 0 && Number(decimal(x, decimals)) > 0 ? `+${fixed(x, decimals)}` : fixed(x, decimals));
  const plain = (x) => fixed(x, decimals);
  const side = { higher: "higher is better", lower: "lower is better", neither: "" }[metric.better];
  const resamples = metric.differences.length ? `${grouped(metric.differences[0].resamples)} resamples` : "";
  const head = h("tr", { class: "group", role: "row" },
    h("th", { scope: "rowgroup", colspan: compared ? "4" : "2", role: "rowheader" }, title, h("span", { class: "muted small" }, [metric.unit ? ` ${metric.unit}` : "", side ? `, ${side}` : "", resamples ? `, ${resamples}` : ""].join(""))),
    compared ? h("td", { class: "plot", role: "cell" }, intervalAxis(scale)) : null);
  const rows = models.filter((m) => metric.values.some((v) => v.model === m.name)).map((m) => {
    const v = metric.values.find((x) => x.model === m.name);
    const d = metric.differences.find((x) => x.model === m.name);
    const [tone, words] = d ? conclusion(d, metric.better, metric.values.find((x) => models.some((r) => r.reference && r.name === x.model))) : ["", ""];
    return h("tr", { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, name(m.name)),
      h("td", { role: "cell", "data-label": "" }, h("strong", {}, plain(v.value)), interval(v, plain)),
      compared && [h("td", { role: "cell", class: "difference", "data-label": d ? "difference" : null },
        d && identical(d) ? h("span", { class: "muted" }, words) : d ? [signed(d.value), interval(d, signed), words ? [" ", h("span", { class: `chip ${{ worse: "bad", better: "good" }[tone] || ""}` }, words)] : null]
          : m.reference ? h("span", { class: "muted" }, "reference") : ""),
      h("td", { class: "n", role: "cell", "data-label": d && d.p !== null ? "p" : null }, d ? chance(d.p) : ""),
      h("td", { class: "plot", role: "cell" }, d ? intervalPlot(d, scale, tone) : null)]);
  });
  return h("tbody", { role: "rowgroup" }, head, rows);
}

function metricTable(report, which) {
  const metrics = report.metrics.filter((m) => m.data === which && m.values.length);
  if (!metrics.length) return null;
  const compared = metrics.some((m) => m.differences.length);
  const heads = [["Model", ""], ["Value (95 % interval)", ""], ["Difference to the reference (95 % interval)", ""], ["p", "n"], ["Difference", ""]];
  return h("div", { class: "scroll metrics", tabindex: "0", role: "region", "aria-label": "Metrics" },
    h("table", { role: "table" },
      h("caption", {}, "Metrics of every model and differences to the reference"),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        heads.slice(0, compared ? 5 : 2).map(([text, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, text)))),
      metrics.map((m) => metricRows(m, report.models, compared, outputOf(report, m) + m.title))));
}

function agreementTable(report, which) {
  const rows = report.agreement.filter((a) => a.data === which);
  if (!rows.length) return null;
  return table("Answers against the reference's, sample by sample; p of McNemar's exact test", [
    ["Model", ""], ["Same answer", "n"], ["Right, now wrong", "n"], ["Wrong, now right", "n"], ["Another wrong answer", "n"], ["p", "n"], ["Samples", "n"]],
    rows.map((a) => [[outputOf(report, a), name(a.model)], percent(a.same), grouped(a.right_to_wrong), grouped(a.wrong_to_right), grouped(a.wrong_to_wrong), chance(a.p), grouped(a.samples)]), { show: true });
}

function metricsSection(report) {
  const found = metricTable(report, 1);
  if (!found) return null;
  if (!report.metrics.some((m) => m.data === 1 && m.differences.length)) return section("metrics", "Metrics", null, found);
  return section("metrics", "Is the drop real?",
    "Differences are paired: the same samples, resampled together. An interval that crosses zero, drawn open, may be chance.", found);
}

function agreementSection(report) {
  const found = agreementTable(report, 1);
  return found && section("agreement", "Decisions that flip", null, found);
}

const CLASSES = 24; // So many of a segmentation's are read; the others are asked for.

function classTable(report, which) {
  return report.segmentation.filter((s) => s.data === which && s.classes.length).map((s) => {
    const models = report.models.filter((m) => s.classes[0].values.some((v) => v.model === m.name));
    const base = models.find((m) => m.reference) || models[0];
    const value = (c, m, key) => c.values.find((v) => v.model === m.name)[key];
    const change = (c, m) => (value(c, m, "iou") === null || value(c, base, "iou") === null ? null : value(c, m, "iou") - value(c, base, "iou"));
    const others = models.filter((m) => m !== base);
    const loss = (c) => Math.max(...others.map((m) => -(change(c, m) ?? -Infinity)).filter(Number.isFinite), others.length ? -1000 : -value(c, base, "iou"));
    const ordered = [...s.classes].sort((a, b) => loss(b) - loss(a) || a.index - b.index);
    const heads = [["Class", ""], ["Share of pixels", "n"],
      ...models.map((m) => [`IoU % ${m.name}`, "n"]), ...others.map((m) => [others.length > 1 ? `Change ${m.name}` : "Change", "n"]),
      ...models.map((m) => [`Accuracy % ${m.name}`, "n"])];
    const one = (x) => (x === null ? DASH : fixed(x, 1));
    const signed = (x) => (x === null ? DASH : x > 0 && Number(fixed(x, 1)) > 0 ? `+${fixed(x, 1)}` : fixed(x, 1));
    const rows = (list) => list.map((c) => [`class ${c.index}`, percent(c.pixels / Math.max(s.pixels, 1)),
      ...models.map((m) => one(value(c, m, "iou"))), ...others.map((m) => signed(change(c, m))), ...models.map((m) => one(value(c, m, "accuracy")))]);
    const ignored = s.ignored ? `; ${grouped(s.ignored)} ignored` : "";
    const caption = `${outputOf(report, s)}${grouped(s.pixels)} labelled pixels${ignored}; ${others.length ? "what loses most" : "the least IoU"} comes first`;
    const more = ordered.slice(CLASSES);
    return h("div", {}, table(caption, heads, rows(ordered.slice(0, CLASSES)), { show: true }),
      more.length ? h("details", {}, h("summary", {}, `${more.length} more`), table("Further classes", heads, rows(more))) : null);
  });
}

function classesSection(report) {
  const found = classTable(report, 1);
  return found.length ? section("classes", "Class by class", null, found) : null;
}

// Whether a cause is about a tensor: itself, one of several, or one of a layer.
function covers(v, model, t) {
  if (v.model !== model) return false;
  const names = v.layers || [];
  return v.tensor === t.name || (v.tensors || []).includes(t.name) || names.includes(t.name) || (t.layer !== null && names.includes(t.layer));
}

const FIRST = 5; // So many further names are read; the others are asked for.

function alsoOf(v, open) {
  const all = v.layers && v.layers.length ? v.layers : v.tensors || [];
  const names = [...new Set(all)].filter((n) => n !== v.layer && n !== v.tensor);
  if (!names.length) return null;
  const item = (n) => h("li", {}, open ? h("button", { type: "button", class: "link name", onclick: () => open(v.model, n) }, n) : name(n));
  return h("div", { class: "also small" }, h("span", { class: "muted" }, "Also of:"),
    h("ul", {}, names.slice(0, FIRST).map(item)),
    names.length > FIRST ? h("details", {}, h("summary", {}, `${names.length - FIRST} more`), h("ul", {}, names.slice(FIRST).map(item))) : null);
}

function finding(v, report, open) {
  const blocks = Math.max(1, Math.ceil(v.severity * 4));
  const where = v.layer || v.tensor;
  return h("li", { class: "finding" },
    h("header", {},
      h("h3", {}, v.title),
      h("span", { class: "meter" }, Array.from({ length: 4 }, (_, i) => h("i", { class: i < blocks ? "on" : null })),
        ` severity ${fixed(v.severity, 2)} of 1`),
      report.layers.length > 1 || report.models.length > 2 ? h("span", { class: "chip name" }, v.model) : null),
    where ? h("p", { class: "small" }, v.tensor && open
      ? h("button", { type: "button", class: "link name", onclick: () => open(v.model, v.tensor) }, where) : name(where)) : null,
    alsoOf(v, open),
    h("p", {}, v.text),
    h("p", {}, h("strong", {}, "Remedy: "), v.remedy.text),
    v.remedy.flag ? copyable(v.remedy.flag) : null,
    v.remedy.call ? copyable(v.remedy.call) : null);
}

function findingsSection(report, open) {
  if (!report.verdicts.length) return null;
  const items = report.verdicts.map((v) => finding(v, report, open));
  return section("findings", "Causes and remedies", null,
    h("ol", { class: "findings" }, items.slice(0, 8)),
    items.length > 8 ? h("details", {}, h("summary", {}, `${items.length - 8} more`), h("ol", { class: "findings" }, items.slice(8))) : null);
}

function outputsSection(report) {
  if (!report.outputs.length) return null;
  return section("outputs", "Distance of the outputs", "From the reference's, over all samples.",
    table("Outputs", [["Model", ""], ["Output", ""], ["SQNR dB", "n"], ["Largest difference", "n"], ["Mean difference", "n"], ["Cosine", "n"]],
      report.outputs.flatMap((o) => [[name(o.model), name(o.output), distanceInDecibels(o), num(o.max_abs), num(o.mean_abs), num(o.cosine, 5)],
        ...o.parts.map((p) => [name(o.model), name(`${o.output}${p.part}: ${num(p.low)} to ${num(p.high)}${p.steps === null ? "" : ` in ${num(p.steps, 2)} steps`}`),
          distanceInDecibels(p), num(p.max_abs), DASH, DASH])])));
}

function distanceInDecibels(o) {
  return o.sqnr_db === null ? (o.max_abs === 0 ? "exact" : DASH) : fixed(o.sqnr_db, 1);
}

const EFFECTS = 24; // Rows of improvements that are read; the others are asked for.

// An improvement has a row for each output that it was judged by; the first says what became of it.
function improvementRows(i, several) {
  const words = i.name.replaceAll("_", " ");
  const title = several ? [words, h("span", { class: "muted small name" }, ` ${i.model}`)] : words;
  const where = (e) => (e.part.startsWith("[") ? e.output + e.part : [e.output, e.part].filter(Boolean).join(" "));
  const level = (db) => (db === null ? "exact" : fixed(db, 1));
  const kept = i.kept ? h("span", { class: "chip good" }, i.kept) : h("span", { class: "muted" }, i.tried ? "nothing" : "not tried");
  const said = [
    i.refused ? [`${i.refused.what}: `, name(where(i.refused)), ` would lose ${withUnit(fixed(i.refused.loss_db, 1), "dB")}`] : null,
    i.note ? (i.refused ? `; ${i.note}` : i.note) : null,
  ];
  const effects = i.outputs.length ? i.outputs : [null];
  return effects.map((e, k) => [
    k ? h("span", { class: "muted" }, title) : title,
    k ? "" : i.tried,
    k ? "" : kept,
    e ? name(where(e)) : DASH,
    e ? level(e.before_db) : DASH,
    e ? (i.kept ? level(e.after_db) : h("span", { class: "muted" }, `would be ${level(e.after_db)}`)) : DASH,
    k ? "" : said.some(Boolean) ? h("span", {}, said) : DASH,
  ]);
}

function improvementsSection(report) {
  const found = report.improvements || [];
  if (!found.length) return null;
  const several = new Set(found.map((i) => i.model)).size > 1;
  const rows = found.flatMap((i) => improvementRows(i, several));
  const heads = [["Improvement", ""], ["Attempts", "n"], ["Kept", ""], ["Output", ""], ["Before dB", "n"], ["After dB", "n"], ["Refused", ""]];
  return section("improvements", "Improvements: tried, kept, refused",
    "What conversion tried, in this order. Each attempt was judged on samples that it was not made from, and kept only where something gains and no output loses. Where nothing was kept, the figures are those of the best attempt.",
    table("Improvements", heads, rows.slice(0, EFFECTS), { class: "improvements" }),
    rows.length > EFFECTS ? h("details", {}, h("summary", {}, `${rows.length - EFFECTS} more`), table("Further outputs", heads, rows.slice(EFFECTS), { class: "improvements" })) : null);
}

function reliabilitySection(report) {
  if (!report.reliability.length) return null;
  return section("reliability", "Can the confidence be believed?",
    "Points on the diagonal: of the answers given with 80 % confidence, 80 % are right. Larger points are more samples.",
    h("div", { class: "columns" }, report.reliability.map((r) => reliabilityDiagram({ ...r, model: outputOf(report, r) + r.model }))));
}

function confusionSection(report) {
  const rows = report.confusion.filter((c) => c.matrix.length);
  if (!rows.length) return null;
  const names = (row) => report.tasks.find((t) => t.output === row.output)?.class_names;
  return section("confusion", "Confusion", "Rows are labels, columns are answers; the shade is the share of the row.",
    h("div", { class: "columns" }, rows.map((c) => confusionFigure({ ...c, model: outputOf(report, c) + c.model }, names(c)))));
}

function behaviourSection(report) {
  if (!report.behaviour.length) return null;
  const better = { higher: "higher is better", lower: "lower is better", neither: "" };
  return section("behaviour", "Behaviour", "What else changed besides the metric.",
    table("Behaviour", [["Probe", ""], ...report.models.map((m) => [m.name, "n"]), ["Samples", "n"]],
      report.behaviour.map((b) => [
        [outputOf(report, b) + b.title, better[b.better] ? h("span", { class: "muted small" }, ` ${better[b.better]}`) : null],
        ...report.models.map((m) => withUnit(num(b.values.find((v) => v.model === m.name)?.value), b.unit)),
        grouped(b.samples)])));
}

function sizesSection(report) {
  const models = report.models.filter((m) => m.ops.length || m.weights.length);
  if (!models.length) return null;
  const heads = models.map((m) => [m.name, "n"]);
  const dtypes = [...new Set(models.flatMap((m) => m.weights.map((w) => w.dtype)))].sort();
  const kinds = [...new Set(models.flatMap((m) => m.ops.map((o) => o.op)))].sort();
  const weight = (m, d) => m.weights.find((w) => w.dtype === d);
  return section("sizes", "Sizes and ops", null, h("div", { class: models.length > 3 ? null : "columns" },
    dtypes.length ? h("div", {}, h("h3", {}, "Constants"), table("Constants by type", [["Type", ""], ...heads],
      [...dtypes.map((d) => [d, ...models.map((m) => {
        const w = weight(m, d);
        return w ? [bytes(w.bytes), h("span", { class: "muted" }, ` ${grouped(w.values)}`)] : "";
      })]), ["file", ...models.map((m) => bytes(m.bytes))]])) : null,
    kinds.length ? h("div", {}, h("h3", {}, "Ops"), table("Ops", [["Op", ""], ...heads],
      kinds.map((k) => [k, ...models.map((m) => grouped(m.ops.find((o) => o.op === k)?.count ?? null).replace(DASH, ""))]))) : null));
}

function interfaceSection(report) {
  const rows = report.models.flatMap((m) => [["input", m.inputs], ["output", m.outputs]].flatMap(([what, list]) => list.map((a) => [
    name(m.name), what, name(a.name), a.dtype, h("span", { class: "nowrap" }, `[${a.shape.join(", ")}]`),
    a.scale === null ? DASH : h("span", { class: "nowrap" }, `(q ${a.zero_point > 0 ? "−" : "+"} ${Math.abs(a.zero_point)}) × ${num(a.scale, 6)}`)])));
  if (!rows.length) return null;
  return section("interface", "Inputs and outputs", null,
    table("Inputs and outputs", [["Model", ""], ["Kind", ""], ["Name", ""], ["Type", ""], ["Shape", ""], ["Real value of q", ""]], rows));
}

function secondSection(report) {
  const found = [metricTable(report, 2), agreementTable(report, 2), classTable(report, 2)].flat().filter(Boolean);
  if (!report.second_data && !found.length) return null;
  const d = report.second_data;
  const count = d && (d.description.endsWith(` ${d.samples} sample${d.samples === 1 ? "" : "s"}`) ? "" : `, ${plural(d.samples, "sample")}`);
  return section("second", "Second data set", d ? `${d.description}${count}${d.labelled ? "" : ", without labels"}.` : null, found);
}

function madeSection(report) {
  const versions = Object.entries(report.versions).map(([k, v]) => `${k} ${v ?? "not installed"}`).join(", ");
  return section("made", "How this was made", null,
    report.command ? copyable(report.command, true) : h("p", {}, "Called from Python."),
    versions ? h("p", { class: "small muted name" }, versions) : null);
}

function warningsSection(report) {
  const warnings = report.warnings.filter((w) => !isMisfit(w));
  if (!warnings.length) return null;
  return section("warnings", "Warnings", null, h("ul", { class: "plain" }, warnings.map((w) => h("li", {}, w))));
}
