// The view of the fixed-point search: where each solver is, step by step, for one test sample.
// Reads the JSON in #data and draws into #search; everything is also in the table below it.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("search");
  const solvers = Object.keys(data.searches[0].paths);
  const state = { sample: 0, solver: solvers.includes("broyden") ? "broyden" : solvers[0], step: 0 };
  let timer = null;

  function html(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "text") node.textContent = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }

  function svg(name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  const search = () => data.searches[state.sample];
  const path = () => search().paths[state.solver];
  const number = (value) => (value === null ? "none" : value.toExponential(1));

  // Controls -------------------------------------------------------------------------------------
  const sample = html("select", { id: "search-sample", onchange: () => {
    state.sample = sample.selectedIndex;
    restart();
  } });
  for (const s of data.searches) {
    sample.append(html("option", { text: s.label + (s.converged ? "" : " (not converged)") }));
  }
  const choice = html("fieldset", {}, html("legend", { text: "Solver" }));
  solvers.forEach((name, k) => {
    const input = html("input", { type: "radio", name: "solver", value: name, onchange: () => {
      state.solver = name;
      restart();
    } });
    input.checked = name === state.solver;
    choice.append(html("label", { class: "s" + (k % 4) }, input, " ",
      html("span", { class: "swatch", "aria-hidden": "true" }), " " + data.names[name]));
  });
  const slider = html("input", { type: "range", id: "search-step", min: 0, max: 0, value: 0,
    "aria-label": "Solver step", oninput: () => { stop(); state.step = Number(slider.value); draw(); } });
  const play = html("button", { type: "button", text: "Play", onclick: () => (timer ? stop() : start()) });
  const strip = html("div"), curves = html("div");
  const say = html("p", { class: "note say", "aria-live": "polite" });
  root.append(
    html("fieldset", {}, html("label", { class: "title", for: "search-sample", text: "Test sample" }), sample),
    choice,
    html("div", { class: "steps" }, play, html("label", {}, slider)),
    html("div", { class: "views" }, strip, curves),
    say,
  );

  function start() {
    if (state.step >= path().points.length - 1) state.step = 0;
    play.textContent = "Stop";
    timer = setInterval(() => {
      if (state.step >= path().points.length - 1) { stop(); return; }
      state.step += 1;
      draw();
    }, 500);
    draw();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }

  function restart() {
    stop();
    state.step = 0;
    draw();
  }

  // The measured state: a row per observable, from -1 to 1 -------------------------------------
  function drawState(colour) {
    const points = path().points, end = search().equilibrium, names = data.observables;
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
      const now = points[state.step][k];
      const before = points[Math.max(0, state.step - 1)][k];
      picture.append(
        svg("line", { class: "trail", x1: x(before), x2: x(now), y1: y, y2: y }),
        svg("circle", { class: "dot", cx: x(now), cy: y, r: 4.5 }));
    });
    strip.replaceChildren(picture);
  }

  // Residuals of all solvers against the step, on a log scale -----------------------------------
  function drawResiduals() {
    const width = 380, height = 210, left = 46, right = width - 10, top = 18, bottom = height - 34;
    const all = solvers.flatMap((name) => search().paths[name].residuals)
      .filter((value) => value !== null && value > 0).map(Math.log10);
    const target = Math.log10(data.tolerance);
    const high = Math.ceil(Math.max(0, ...all)), low = Math.floor(Math.min(target, ...all));
    const longest = Math.max(2, ...solvers.map((name) => search().paths[name].points.length));
    const x = (step) => left + (step / (longest - 1)) * (right - left);
    const y = (value) => top + ((high - Math.max(low, Math.log10(value))) / (high - low)) * (bottom - top);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": "Relative residual of every solver against its step" });
    picture.append(svg("text", { x: left, y: 11 }, "residual |f(m) − m| / |f(m)|"));
    const every = Math.max(1, Math.ceil((high - low) / 6));
    for (let power = high; power >= low; power -= every) {
      const at = y(10 ** power);
      picture.append(svg("line", { class: "axis", x1: left, x2: right, y1: at, y2: at }),
        svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, "1e" + String(power).replace("-", "−")));
    }
    picture.append(svg("line", { class: "guide", x1: left, x2: right, y1: y(data.tolerance), y2: y(data.tolerance) }),
      svg("text", { x: left + 4, y: y(data.tolerance) - 4 }, "tolerance"));
    const jump = Math.max(1, Math.ceil(longest / 8));
    for (let step = 0; step < longest; step += jump) {
      picture.append(svg("text", { x: x(step), y: bottom + 14, "text-anchor": "middle" }, step + 1));
    }
    picture.append(svg("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "solver step"));
    solvers.forEach((name, k) => {
      const residuals = search().paths[name].residuals, chosen = name === state.solver;
      let line = "";
      residuals.forEach((value, step) => {
        if (value === null) return;
        line += `${line ? "L" : "M"}${x(step).toFixed(1)} ${y(Math.max(value, 1e-300)).toFixed(1)}`;
      });
      const group = svg("g", { class: "s" + (k % 4) });
      group.append(svg("path", { d: line || "M0 0", class: chosen ? "chosen" : "" }));
      const now = residuals[state.step];
      if (chosen && now !== null && now !== undefined) {
        group.append(svg("circle", { class: "dot", cx: x(state.step), cy: y(Math.max(now, 1e-300)), r: 4.5 }));
      }
      picture.append(group);
    });
    curves.replaceChildren(picture);
  }

  function draw() {
    const count = path().points.length, radius = search().radius;
    slider.max = Math.max(0, count - 1);
    slider.value = state.step;
    slider.setAttribute("aria-valuetext", `step ${state.step + 1} of ${count}`);
    drawState("s" + (solvers.indexOf(state.solver) % 4));
    drawResiduals();
    const ending = !path().converged ? "It did not converge."
      : state.step === count - 1 ? "It has converged." : `It converges at step ${count}.`;
    say.textContent = count
      ? `${data.names[state.solver]}, step ${state.step + 1} of ${count}: relative residual ` +
        `${number(path().residuals[state.step])}. ${ending} Spectral radius at the equilibrium: ` +
        `${radius === null ? "none" : radius.toFixed(3)}.`
      : `${data.names[state.solver]} found no number at its first step.`;
  }

  root.hidden = false;
  draw();
})();
