// What every view of the fixed-point search shares: its controls, the residuals of all solvers, and
// what is said of a step. Reads the JSON in #data and draws into #search; the state itself is drawn
// by the file that follows, which gives `solverView` what is special about it.
"use strict";

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

// data
//   Tolerance, names of solvers, and searches: of each its label, whether it converged, and per
//   solver residuals and whether it converged.
// view
//   start: solver to begin with; sample: what one is called; place: where the state is drawn;
//   drawState(now): draws it; remark(now): a sentence of the sample; and, where steps of a path are
//   shown otherwise than one by one: count(now): how many, say(now): what they are, at(now): which
//   residual belongs to this one.
function solverView(data, view) {
  const root = document.getElementById("search");
  const solvers = Object.keys(data.searches[0].paths);
  const state = { sample: 0, solver: solvers.includes(view.start) ? view.start : solvers[0], step: 0 };
  let timer = null;

  const search = () => data.searches[state.sample];
  const path = () => search().paths[state.solver];
  const colour = () => "s" + (solvers.indexOf(state.solver) % 4);
  const now = () => ({ search: search(), path: path(), step: state.step, name: state.solver, colour: colour() });
  const count = () => (view.count ? view.count(now()) : path().residuals.length);
  const at = () => (view.at ? view.at(now()) : state.step);
  const number = (value) => (value === null || value === undefined ? "none" : value.toExponential(1));

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
  const curves = html("div");
  const say = html("p", { class: "note say", "aria-live": "polite" });
  root.append(
    html("fieldset", {}, html("label", { class: "title", for: "search-sample", text: view.sample }), sample),
    choice,
    html("div", { class: "steps" }, play, html("label", {}, slider)),
    html("div", { class: "views" }, view.place, curves),
    say,
  );

  function start() {
    if (state.step >= count() - 1) state.step = 0;
    play.textContent = "Stop";
    timer = setInterval(() => {
      if (state.step >= count() - 1) { stop(); return; }
      state.step += 1;
      draw();
    }, Math.max(40, Math.min(500, 15000 / count())));
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

  // Residuals of all solvers against the step, on a log scale -----------------------------------
  function drawResiduals() {
    const width = 380, height = 210, left = 46, right = width - 10, top = 18, bottom = height - 34;
    const all = solvers.flatMap((name) => search().paths[name].residuals)
      .filter((value) => value !== null && value > 0).map(Math.log10);
    const target = Math.log10(data.tolerance);
    const high = Math.ceil(Math.max(0, ...all)), low = Math.floor(Math.min(target, ...all));
    const longest = Math.max(2, ...solvers.map((name) => search().paths[name].residuals.length));
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
      const here = residuals[at()];
      if (chosen && here !== null && here !== undefined) {
        group.append(svg("circle", { class: "dot", cx: x(at()), cy: y(Math.max(here, 1e-300)), r: 4.5 }));
      } else if (residuals.length === 1 && residuals[0] !== null) { // no line
        group.append(svg("circle", { class: "dot", cx: x(0), cy: y(Math.max(residuals[0], 1e-300)), r: 2.5 }));
      }
      picture.append(group);
    });
    curves.replaceChildren(picture);
  }

  function draw() {
    const steps = count();
    slider.max = Math.max(0, steps - 1);
    slider.value = state.step;
    slider.setAttribute("aria-valuetext", `step ${state.step + 1} of ${steps}`);
    view.drawState(now());
    drawResiduals();
    const ending = !path().converged ? "It did not converge."
      : state.step === steps - 1 ? "It has converged." : `It converges at step ${steps}.`;
    const told = view.say ? view.say(now()) : null;
    say.textContent = !steps ? `${data.names[state.solver]} found no number at its first step.`
      : told !== null ? `${data.names[state.solver]}, ${told} ${view.remark(now())}`
      : `${data.names[state.solver]}, step ${state.step + 1} of ${steps}: relative residual ` +
        `${number(path().residuals[state.step])}. ${ending} ${view.remark(now())}`;
  }

  root.hidden = false;
  draw();
  return draw;
}
