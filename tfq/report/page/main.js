// The page: its data, its sections in the order a person wants them, theme and printing.

function main() {
  const report = JSON.parse(document.getElementById("report").textContent);
  const layers = report.layers.some((a) => a.tensors.length) ? new Layers(report) : null;
  const open = layers ? (model, tensor) => layers.open(model, tensor) : null;
  const sections = [
    ["", verdictSection(report)],
    ["Models", comparedSection(report)],
    ["Metrics", metricsSection(report)],
    ["Flips", agreementSection(report)],
    ["Classes", classesSection(report)],
    ["Causes", findingsSection(report, open)],
    ...(layers ? layers.sections().map((s, i) => [["Worst", "Graph", "Layers"][i], s]) : []),
    ["Outputs", outputsSection(report)],
    ["Improvements", improvementsSection(report)],
    ["Confidence", reliabilitySection(report)],
    ["Confusion", confusionSection(report)],
    ["Behaviour", behaviourSection(report)],
    ["Sizes", sizesSection(report)],
    ["Inputs", interfaceSection(report)],
    ["Second data", secondSection(report)],
    ["Warnings", warningsSection(report)],
    ["Command", madeSection(report)],
  ].filter(([, element]) => element);
  document.querySelector("nav.contents").append(h("ul", {},
    sections.filter(([title]) => title).map(([title, element]) => h("li", {}, h("a", { href: `#${element.id}` }, title)))));
  document.body.append(hatchPattern());
  document.querySelector("main").append(...sections.map(([, element]) => element));
  // Only now does the graph's box have a height to scroll in.
  if (layers) layers.choose(layers.chosen);
  painters.forEach((paint) => paint());
  theme();
  printing(layers);
}

function theme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const settle = () => {
    button.setAttribute("aria-pressed", String(dark()));
    painters.forEach((paint) => paint());
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    settle();
  });
  system.addEventListener("change", settle);
  settle();
}

function printing(layers) {
  document.getElementById("print").addEventListener("click", () => window.print());
  let closed = [];
  const before = () => {
    if (closed.length) return;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((d) => { d.open = true; });
    if (layers) layers.print(true);
    painters.forEach((paint) => paint());
  };
  const after = () => {
    closed.forEach((d) => { d.open = false; });
    closed = [];
    if (layers) layers.print(false);
    painters.forEach((paint) => paint());
  };
  const media = matchMedia("print");
  media.addEventListener("change", () => (media.matches ? before() : after()));
  window.addEventListener("beforeprint", before);
  window.addEventListener("afterprint", after);
}

main();
