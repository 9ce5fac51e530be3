"use strict";
// The page reads well without any of this; here are the curves and the heat maps of a look inside.

(function layers() {
  const figures = JSON.parse(document.getElementById("layer-data").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const veiled = (hex) => {
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    return `rgba(${r},${g},${b},0.13)`;
  };

  const ranks = [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000];

  function curves(figure) {
    const traces = [];
    for (const curve of figure.curves) {
      const color = css("--d" + curve.look), x = curve.y.map((_, layer) => layer);
      const group = { legendgroup: curve.name, x, mode: "lines" };
      if (curve.low) {
        const edge = { ...group, showlegend: false, hoverinfo: "skip", line: { width: 0 } };
        traces.push({ ...edge, y: curve.low });
        // Only solid curves are filled: with twice as many bands none could be told apart.
        traces.push({ ...edge, y: curve.high, ...(curve.dash === "solid" && { fill: "tonexty", fillcolor: veiled(color) }) });
      }
      traces.push({
        ...group, mode: "lines+markers", name: curve.name, y: curve.y,
        line: { color, width: 2, dash: curve.dash },
        marker: { color, size: 5, symbol: curve.dash === "solid" ? "circle" : "circle-open" },
        text: curve.y.map((_, i) => (curve.low ? ` (${curve.low[i].toFixed(2)} to ${curve.high[i].toFixed(2)})` : "")),
        hovertemplate: "<b>%{fullData.name}</b><br>layer %{x}: %{y:.2f}%{text}<extra></extra>",
      });
    }
    return traces;
  }

  function heat(figure) {
    const reach = Math.max(1e-9, ...figure.cells.flat().map(Math.abs));
    return [{
      type: "heatmap", z: figure.cells, zmin: -reach, zmax: reach, xgap: 1, ygap: 1,
      colorscale: [[0, css("--d1")], [0.5, css("--wash")], [1, css("--harmful")]],
      colorbar: { thickness: 10, outlinewidth: 0, tickfont: { color: css("--soft"), size: 12 } },
      hovertemplate: "layer %{y}, head %{x}: %{z:.3f}<extra></extra>",
    }];
  }

  function draw() {
    const ink = css("--ink"), soft = css("--soft"), line = css("--line");
    const heading = (text) => ({ text, font: { color: ink, size: 13 }, standoff: 10 });
    for (const figure of figures) {
      const target = document.getElementById("plot-" + figure.key), lines = figure.kind === "lines";
      const count = lines ? figure.curves[0].y.length : figure.cells.length;
      const axis = {
        zeroline: false, gridcolor: line, ticks: "", tickfont: { color: soft, size: 12 },
        showline: false, fixedrange: true,
      };
      const whole = { ...axis, dtick: Math.max(1, Math.ceil(count / 16)) };
      const pad = 0.3 + count / 80;
      const vertical = figure.log ? { type: "log", autorange: "reversed", tickvals: ranks, ticktext: ranks.map(String) } : figure.range ? { range: figure.range } : {};
      Plotly.react(target, lines ? curves(figure) : heat(figure), {
        margin: { l: 58, r: 14, t: 10, b: 48 }, hovermode: "closest", showlegend: lines && figure.curves.length > 1,
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: ink, size: 13 } },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, color: ink },
        hoverlabel: { bgcolor: css("--page"), bordercolor: line, font: { color: ink } },
        xaxis: lines ? { ...whole, title: heading("Layer"), range: [-pad, count - 1 + pad] }
          : { ...axis, title: heading("Head"), dtick: 1, showgrid: false },
        yaxis: lines ? { ...axis, title: heading(figure.y), nticks: 6, ...vertical }
          : { ...whole, title: heading("Layer"), autorange: "reversed", showgrid: false },
        shapes: figure.marks.map((y) => ({
          type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, layer: "below",
          line: { color: soft, width: 1, dash: "dot" },
        })),
      }, { displayModeBar: false });
    }
  }

  draw();
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) if (target.data && target.offsetWidth) Plotly.Plots.resize(target);
  });
  for (const figure of figures) sizes.observe(document.getElementById("plot-" + figure.key));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", draw);
})();
