"use strict";
// The page reads well without any of this; here are the plots, the filters and the veils.

(function plots() {
  const { views } = JSON.parse(document.getElementById("plot-data").textContent);
  const attacks = Object.keys(views);
  const symbols = ["circle-open", "circle", "square", "diamond", "triangle-up", "cross", "star"];
  const shapes = [
    '<circle cx="6" cy="6" r="4.2" fill="none" stroke="C" stroke-width="1.8"/>',
    '<circle cx="6" cy="6" r="5" fill="C"/>',
    '<rect x="1.5" y="1.5" width="9" height="9" fill="C"/>',
    '<path d="M6 .5 11.5 6 6 11.5 .5 6Z" fill="C"/>',
    '<path d="M6 1 11.5 11H.5Z" fill="C"/>',
    '<path d="M4 1h4v3h3v4H8v3H4V8H1V4h3Z" fill="C"/>',
    '<path d="M6 .5 7.6 4.4 11.8 4.7 8.6 7.5 9.6 11.6 6 9.4 2.4 11.6 3.4 7.5 .2 4.7 4.4 4.4Z" fill="C"/>',
  ];
  const words = (name) => (name === "none" ? "undefended" : name.replaceAll("_", " "));
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const order = views[attacks[0]].map((point) => point.defense);
  // The undefended model has the first look to itself, whether or not it is there. Six colors
  // with six shapes each: after every six arms the shapes move on by one.
  const others = order.filter((name) => name !== "none");
  const color = (defense) => (defense === "none" ? 0 : 1 + (others.indexOf(defense) % 6));
  const shape = (defense) => {
    const place = others.indexOf(defense);
    return defense === "none" ? 0 : 1 + ((place + Math.floor(place / 6)) % 6);
  };
  const panels = { utility: "Questions answered right (%)", answered: "Benign requests not refused (%)" };
  let attack = attacks[0];

  function range(values, floor) {
    const low = Math.min(...values.map((v) => v[1]), floor);
    const high = Math.max(...values.map((v) => v[2]));
    const pad = Math.max(2, 0.06 * (high - low));
    return [Math.max(-3, low - pad), Math.min(103, high + pad)];
  }

  function draw() {
    const points = views[attack];
    const ink = css("--ink"), soft = css("--soft"), line = css("--line");
    for (const [panel, title] of Object.entries(panels)) {
      const usable = points.filter((point) => point.x && point[panel]);
      const target = document.getElementById("plot-" + panel);
      target.closest("figure").hidden = !usable.length;
      if (!usable.length) continue;
      const traces = usable.map((point) => {
        const tone = css("--d" + color(point.defense)), x = point.x, y = point[panel];
        const error = (v) => ({
          type: "data", symmetric: false, array: [v[2] - v[0]], arrayminus: [v[0] - v[1]],
          thickness: 1.2, width: 0, color: tone,
        });
        const text = words(point.defense);
        return {
          type: "scatter", mode: "markers", name: text, x: [x[0]], y: [y[0]],
          error_x: error(x), error_y: error(y),
          marker: { color: tone, size: 10, symbol: symbols[shape(point.defense)], line: { width: 1.8, color: tone } },
          hovertemplate: `<b>${text}</b><br>attacks failed ${x[0].toFixed(1)}% (${x[1].toFixed(1)}–${x[2].toFixed(1)})` +
            `<br>${title.replace(" (%)", "")} ${y[0].toFixed(1)}% (${y[1].toFixed(1)}–${y[2].toFixed(1)})<extra></extra>`,
        };
      });
      const axis = {
        zeroline: false, gridcolor: line, linecolor: soft, tickcolor: line, ticks: "", nticks: 6,
        tickfont: { color: soft, size: 12 }, showline: false, fixedrange: true,
      };
      const heading = (text) => ({ text, font: { color: ink, size: 13 }, standoff: 10 });
      Plotly.react(target, traces, {
        margin: { l: 54, r: 14, t: 10, b: 48 }, showlegend: false, hovermode: "closest",
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, color: ink },
        hoverlabel: { bgcolor: css("--page"), bordercolor: line, font: { color: ink } },
        xaxis: { ...axis, title: heading("Attacks that failed (%)"), range: range(usable.map((p) => p.x), 60) },
        yaxis: { ...axis, title: heading(title), range: range(usable.map((p) => p[panel]), 90) },
      }, { displayModeBar: false });
    }
  }

  const legend = document.getElementById("plot-legend");
  for (const defense of order) {
    const item = document.createElement("li");
    const mark = shapes[shape(defense)].replaceAll("C", `var(--d${color(defense)})`);
    item.innerHTML = `<svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">${mark}</svg>`;
    item.append(words(defense));
    legend.append(item);
  }
  const control = document.getElementById("attack-control");
  if (attacks.length > 2) {
    control.hidden = false;
    for (const name of attacks) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name === "all" ? "all attacks" : words(name);
      button.setAttribute("aria-pressed", String(name === attack));
      button.addEventListener("click", () => {
        attack = name;
        for (const other of control.children) other.setAttribute("aria-pressed", String(other === button));
        draw();
      });
      control.append(button);
    }
  }
  draw();
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.data && target.offsetWidth) Plotly.Plots.resize(target);
  });
  for (const panel of Object.keys(panels)) sizes.observe(document.getElementById("plot-" + panel));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", draw);
})();

(function veils() {
  function set(veil, veiled) {
    const content = veil.querySelector(".veil-content"), button = veil.querySelector(".veil-button");
    veil.toggleAttribute("data-veiled", veiled);
    content.toggleAttribute("inert", veiled);
    content.setAttribute("aria-hidden", String(veiled));
    button.setAttribute("aria-expanded", String(!veiled));
    button.textContent = (veiled ? "Show " : "Hide ") + button.dataset.what;
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".veil-button");
    if (!button) return;
    const veil = button.closest(".veil");
    set(veil, !veil.hasAttribute("data-veiled"));
  });
  const all = document.getElementById("unveil-all");
  all?.addEventListener("click", () => {
    const show = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", String(show));
    all.textContent = (show ? "Hide" : "Show") + " all harmful content";
    for (const veil of document.querySelectorAll(".veil")) set(veil, !show);
  });
})();

(function filters() {
  const form = document.getElementById("filters");
  if (!form) return;
  form.hidden = false;
  const cards = [...document.querySelectorAll(".conversation")];
  const shown = document.getElementById("shown"), nothing = document.getElementById("nothing");
  function matches(card, want) {
    if (want.task && card.dataset.task !== want.task) return false;
    if (want.differs && card.dataset.differs !== "yes") return false;
    const verdicts = card.dataset.verdicts.trim().split(/\s+/).map((pair) => pair.split(":"));
    const hit = ([defense, verdict]) =>
      (!want.defense || defense === want.defense) && (!want.verdict || verdict === want.verdict);
    if (!verdicts.some(hit)) return false;
    return !want.text || card.textContent.toLowerCase().includes(want.text.toLowerCase());
  }
  function apply() {
    const want = Object.fromEntries(new FormData(form));
    let count = 0;
    for (const card of cards) {
      card.hidden = !matches(card, want);
      count += card.hidden ? 0 : 1;
    }
    shown.textContent = `${count} of ${cards.length}`;
    nothing.hidden = count > 0;
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
