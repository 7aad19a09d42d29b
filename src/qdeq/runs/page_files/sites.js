// The states of all sites of a network at a step, as a picture: of a row of sites a row per number
// of a state and one for how far each site still moves, of a grid a map of each. Needs `view.js`.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { rows, columns, every, perRow, grid, inOrder } = data.lie;
  const names = data.numbers, q = names.length, sites = rows * columns;
  const state = { site: 0, now: null };

  // The upper halves of float32, see `packed`.
  const read = new Map();
  function numbers(text) {
    if (!read.has(text)) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const bits = new Uint32Array(bytes.length / 2);
      for (let k = 0; k < bits.length; k += 1) bits[k] = (bytes[2 * k] + 256 * bytes[2 * k + 1]) * 65536;
      read.set(text, new Float32Array(bits.buffer));
    }
    return read.get(text);
  }

  // Colours: of states from blue by the card's own to orange, of movement from that to the text's.
  let colours;
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const parts = (name) => {
      const hex = style.getPropertyValue(name).trim();
      return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
    };
    colours = { card: parts("--card"), low: parts("--accent"), high: parts("--accent-2"),
      text: parts("--text"), soft: style.getPropertyValue("--soft"), line: style.getPropertyValue("--line"),
      quiet: style.getPropertyValue("--quiet"), mark: style.getPropertyValue("--text") };
  }
  const mix = (a, b, part) => `rgb(${a.map((v, k) => Math.round(v + (b[k] - v) * part)).join()})`;
  function ofState(value) {
    if (Number.isNaN(value)) return null;
    const part = Math.min(1, Math.abs(value) / data.scale);
    return mix(colours.card, value < 0 ? colours.low : colours.high, part);
  }
  const lowest = Math.floor(Math.log10(data.tolerance)) - 1;
  function ofMove(value) {
    if (Number.isNaN(value)) return null;
    const power = value > 0 ? Math.log10(value) : lowest;
    return mix(colours.card, colours.text, Math.min(1, Math.max(0, 1 - power / lowest)));
  }

  // What is drawn -------------------------------------------------------------------------------
  const place = html("div", { class: "sites" });
  const maps = html("div", { class: grid ? "maps" : "rows" });
  const slider = html("input", { type: "range", id: "search-site", min: 0, max: sites - 1, value: 0,
    oninput: () => { choose(Number(slider.value)); } });
  const tell = html("div", { class: "wide", tabindex: 0 });
  const bar = (kind, from, to, text) => html("span", { class: "scale" }, from, " ",
    html("span", { class: "bar " + kind, "aria-hidden": "true" }), " " + to + ", " + text);
  const sign = (value) => String(value).replace("-", "−");
  place.append(maps,
    html("p", { class: "note scales" },
      bar("of-state", sign(-data.scale), String(data.scale), "state"),
      bar("of-move", "1e" + sign(lowest), "1", "movement |F(m) − m| of a site")),
    html("div", { class: "steps" }, html("label", { class: "title", for: "search-site", text: "Site" }),
      html("label", {}, slider)),
    tell);

  // A canvas of `wide` x `high` cells; `cell(row, column)` is the colour of one, null for none.
  function picture(label, wide, high, size, gapAt) {
    const canvas = html("canvas", { role: "img", "aria-label": label });
    const gap = gapAt ? 8 : 0;
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const column = Math.min(wide - 1, Math.floor(((event.clientX - box.left) / box.width) * wide));
      const row = Math.min(high - 1, Math.floor(((event.clientY - box.top) / box.height) * high));
      choose(grid ? row * columns + column : column);
    });
    const draw = (cell) => {
      const [across, down] = size(), ratio = window.devicePixelRatio || 1;
      const width = wide * across, height = high * down + gap;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = width + "px";
      canvas.style.height = height + "px";
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const line = across > 6 ? 1 : 0;
      for (let row = 0; row < high; row += 1) {
        const top = row * down + (gapAt && row >= gapAt ? gap : 0);
        for (let column = 0; column < wide; column += 1) {
          const colour = cell(row, column);
          pen.fillStyle = colour === null ? colours.soft : colour;
          if (colour === null) pen.fillRect(column * across, top + down / 2 - 1, across - line, 2);
          else pen.fillRect(column * across, top, across - line, down - 1);
        }
      }
      pen.strokeStyle = colours.mark;
      pen.lineWidth = 1.5;
      const column = grid ? state.site % columns : state.site;
      const row = grid ? Math.floor(state.site / columns) : 0;
      pen.strokeRect(column * across + 0.75, (grid ? row * down : 0) + 0.75, Math.max(across - 1.5, 1.5),
        (grid ? down : height) - 1.5);
    };
    return { canvas, draw };
  }

  const room = () => Math.max(200, place.clientWidth || 200);
  const parts = [];
  if (grid) {
    const across = () => {
      const beside = room() > 600 ? 4 : 2;
      return Math.max(3, Math.min(22, Math.floor((room() / beside - 16) / columns)));
    };
    [...names, "movement"].forEach((name, k) => {
      const one = picture(k < q ? `State ${name} of every site` : "Movement of every site", columns, rows,
        () => [across(), across()]);
      parts.push(one);
      maps.append(html("figure", {}, html("div", { class: "wide", tabindex: 0 }, one.canvas),
        html("figcaption", { text: name })));
    });
  } else {
    const one = picture("States of all sites, a row per number, and their movement", columns, q + 1,
      () => [Math.max(3, Math.min(40, (room() - 74) / columns)), 18], q);
    parts.push(one);
    const labels = html("div", { class: "names", "aria-hidden": "true" });
    names.forEach((name) => labels.append(html("div", { text: name })));
    labels.append(html("div", { class: "apart", text: "movement" }));
    const ends = html("div", { class: "ends" }, html("span", { text: "site 0" }),
      html("span", { text: `site ${number(sites - 1)}` }));
    maps.append(labels, html("div", { class: "wide", tabindex: 0 }, html("div", { class: "held" }, one.canvas, ends)));
  }

  // Numbers of sites as the wiring has them.
  function number(site) {
    const row = Math.floor(site / columns), column = site % columns;
    return every * (row * perRow + column);
  }

  function choose(site) {
    state.site = site;
    slider.value = site;
    drawAll();
  }

  // Of a sweep, site after site: which sites are not reached at this step.
  const isSwept = ({ name }) => name === "sweep" && inOrder;
  const reached = (now, site) => !isSwept(now) || site <= now.step;

  function drawAll() {
    const { now } = state, { search, path, step } = now;
    const states = numbers(path.states), moves = numbers(path.moves);
    const at = isSwept(now) ? 0 : step;
    const there = path.residuals.length > 0;
    const value = (site, k) => (there && reached(now, site) ? states[(at * sites + site) * q + k] : NaN);
    const move = (site) => (there && reached(now, site) ? moves[at * sites + site] : NaN);
    if (grid) {
      parts.forEach((one, k) => one.draw((row, column) => (k < q
        ? ofState(value(row * columns + column, k)) : ofMove(move(row * columns + column)))));
    } else {
      parts[0].draw((row, column) => (row < q ? ofState(value(column, row)) : ofMove(move(column))));
    }
    const { site } = state, end = numbers(search.equilibrium);
    const text = (v) => (Number.isNaN(v) ? "none" : sign(v.toFixed(3)));
    const small = (v) => (Number.isNaN(v) ? "none" : v.toExponential(1));
    const line = (head, cells) => html("tr", {}, html("th", { scope: "row", text: head }),
      ...cells.map((cell) => html("td", { text: cell })));
    const place = grid ? ` (row ${every * Math.floor(site / columns)}, column ${every * (site % columns)})` : "";
    tell.replaceChildren(
      html("p", { class: "note", text: `Site ${number(site)}${place}: movement ${small(move(site))}, gain ` +
        `${text(numbers(search.gains)[site])}.` }),
      html("table", { class: "grid" },
        html("tr", {}, html("th", { scope: "col", text: "" }),
          ...names.map((name) => html("th", { scope: "col", text: name }))),
        line("m at this step", names.map((_, k) => text(value(site, k)))),
        line("m*", names.map((_, k) => text(end[site * q + k])))));
    slider.setAttribute("aria-valuetext", `site ${number(site)}`);
  }

  const figure = (value) => (value === null ? "none" : value.toFixed(3));
  const draw = solverView(data, {
    start: "picard",
    sample: "Sample",
    place,
    count: (now) => (isSwept(now) && now.path.residuals.length ? columns : now.path.residuals.length),
    at: (now) => (isSwept(now) ? 0 : now.step),
    say: (now) => (isSwept(now)
      ? `site ${number(now.step)} of ${number(sites - 1)}: from site to site, each has its state at once. ` +
        `Relative residual at the end: ${now.path.residuals[0].toExponential(1)}.` : null),
    remark: ({ search, path }) => (path.distance === null ? ""
      : `Its last step is ${path.distance.toExponential(1)} |m*| away from the equilibrium that the layer finds. `) +
      `Growth at it: ${figure(search.growth)}, largest gain of a site: ${figure(search.gain)}.`,
    drawState: (now) => {
      state.now = now;
      if (!colours) readColours();
      drawAll();
    },
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  addEventListener("resize", draw);
})();
