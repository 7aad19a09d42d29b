// The measured state of a test sample at a step: a row per observable. Needs `view.js`.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const strip = html("div");

  // The measured state: a row per observable, from -1 to 1 -------------------------------------
  function drawState({ search, path, step, colour }) {
    const points = path.points, end = search.equilibrium, names = data.observables;
    const row = 24, left = 58, width = 380, right = width - 12;
    const height = 40 + row * names.length;
    const x = (value) => left + ((Math.max(-1, Math.min(1, value)) + 1) / 2) * (right - left);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": "Measured state at this step, and the equilibrium", class: colour });
    for (const tick of [-1, -0.5, 0, 0.5, 1]) {
      picture.append(svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 18, y2: height - 20 }),
        svg("text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, String(tick).replace("-", "−")));
    }
    picture.append(svg("text", { x: left, y: 11 }, "measured state m, and the equilibrium m* (bars)"));
    names.forEach((name, k) => {
      const y = 18 + row * (k + 0.5);
      picture.append(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, name));
      if (end[k] !== null) {
        picture.append(svg("line", { class: "end", x1: x(end[k]), x2: x(end[k]), y1: y - 8, y2: y + 8 }));
      }
      if (!points.length) return;
      const now = points[step][k];
      const before = points[Math.max(0, step - 1)][k];
      picture.append(
        svg("line", { class: "trail", x1: x(before), x2: x(now), y1: y, y2: y }),
        svg("circle", { class: "dot", cx: x(now), cy: y, r: 4.5 }));
    });
    strip.replaceChildren(picture);
  }

  const radius = ({ search }) =>
    `Spectral radius at the equilibrium: ${search.radius === null ? "none" : search.radius.toFixed(3)}.`;
  solverView(data, { start: "broyden", sample: "Test sample", place: strip, drawState, remark: radius });
})();
