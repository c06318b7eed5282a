// The viewer of a report: a frame's cycles, the units that work in each, and the patches of its picture.
// It reads the JSON in #viewer-data (sw/report/viewer.py) and fills #viewer. The address may choose what it shows:
// #task=depth&cycle=1000&layer=layer01&patch=2,3. What it shows is also in the data attributes of #viewer.
"use strict";
(() => {
  const root = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const [rows, columns] = data.grid;
  const SECONDS = 20; // of a whole frame, played
  const BOXES = { // x, y, width and height of each unit in the diagram
    "compute unit": [300, 15, 200, 62],
    "experts": [300, 92, 200, 50],
    "weight stream": [120, 15, 150, 62],
    "softmax": [530, 15, 200, 50],
    "LayerNorm": [530, 80, 200, 50],
    "gate": [530, 145, 200, 50],
    "image and store": [120, 145, 150, 50],
  };
  const MEMORIES = { "DRAM": [10, 15, 80, 180], "on-chip memory": [300, 157, 200, 38] };
  const WIRES = [
    [90, 46, 120, 46], [270, 46, 300, 46], [90, 170, 120, 170], [270, 176, 300, 176], [500, 40, 530, 40],
    [400, 77, 400, 92], [400, 142, 400, 157], [500, 176, 530, 170], [500, 165, 515, 165], [515, 165, 515, 105],
    [515, 105, 530, 105],
  ];
  const state = { task: 0, cycle: 0, layer: null, patch: null };
  const tasks = data.tasks.map(unpack);
  let playing = null;

  function unpack(task) {
    const units = task.units.map((flat) => {
      const starts = [], ends = [], names = [];
      for (let at = 0, start = 0; at < flat.length; at += 3) {
        start += flat[at];
        starts.push(start);
        ends.push(start + flat[at + 1]);
        names.push(task.names[flat[at + 2]]);
      }
      return { starts, ends, names };
    });
    const attention = task.attention && {
      largest: task.attention.largest,
      shares: Uint8Array.from(atob(task.attention.shares), (letter) => letter.charCodeAt(0)),
    };
    const cycles = Math.max(1, task.cycles);
    return { ...task, cycles, units, attention, layerStarts: task.layers.map((entry) => entry[0]) };
  }

  // The last place of an ascending list that is not above a value; -1 if there is none.
  function lastUpTo(list, value) {
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] <= value) low = middle + 1; else high = middle;
    }
    return low - 1;
  }

  function working(unit, cycle) {
    const at = lastUpTo(unit.starts, cycle);
    return at >= 0 && cycle < unit.ends[at] ? unit.names[at] : null;
  }

  // The layer whose experts are shown: the chosen one, or the latest with experts that the machine has come to.
  function expertLayer(task) {
    const known = Object.keys(task.experts);
    if (state.layer !== null) return known.includes(state.layer) ? state.layer : null;
    const at = lastUpTo(task.layerStarts, state.cycle);
    const reached = task.layers.slice(0, at + 1).map((entry) => entry[1]);
    const passed = known.filter((layer) => reached.includes(layer));
    return passed.length ? passed[passed.length - 1] : null;
  }

  function make(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function draw(parent, name, attributes, text) {
    const made = document.createElementNS(diagram.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function option(value, text) { return make("option", { value }, text); }

  const taskChoice = make("select", {}, ...tasks.map((task, index) => option(index, task.name)));
  const layerChoice = make("select", {});
  const play = make("button", { type: "button" }, "Play");
  const before = make("button", { type: "button" }, "Command before");
  const after = make("button", { type: "button" }, "Command after");
  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "Cycle of the frame" });
  const place = make("output", {});
  const tracks = make("canvas", { role: "img", "aria-label": "Work of each unit over the frame" });
  const said = make("p", { class: "said", "aria-live": "polite" });
  const grid = make("div", { class: "patches", role: "group", "aria-label": "Patches of the picture" });
  const about = make("p", { class: "about" });
  const legend = make("p", { class: "legend" });
  const diagram = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg");
  const boxes = {};
  const patches = [];

  function buildDiagram() {
    diagram.setAttribute("viewBox", "0 0 740 210");
    diagram.setAttribute("role", "img");
    diagram.setAttribute("aria-label", "Units of the machine; those at work are lit");
    for (const [x1, y1, x2, y2] of WIRES) draw(diagram, "line", { x1, y1, x2, y2 });
    for (const [name, [x, y, width, height]] of Object.entries({ ...MEMORIES, ...BOXES })) {
      const group = draw(diagram, "g", { class: name in MEMORIES ? "memory" : "unit" });
      draw(group, "rect", { x, y, width, height, rx: 5 });
      const middle = y + height / 2;
      draw(group, "text", { x: x + width / 2, y: name in MEMORIES ? middle + 5 : middle - 3, class: "name" }, name);
      if (name in BOXES) {
        const work = draw(group, "text", { x: x + width / 2, y: middle + 15, class: "work" }, "");
        boxes[name] = { group, work, title: draw(group, "title", {}, ""), room: Math.floor(width / 7) };
      }
    }
  }

  function buildPatches() {
    grid.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
    for (let number = 0; number < rows * columns; number++) {
      const patch = make("button", { type: "button", tabindex: number ? -1 : 0 });
      patch.addEventListener("click", () => choosePatch(number));
      patch.addEventListener("keydown", (event) => movePatch(event, number));
      patches.push(patch);
    }
    grid.append(...patches);
  }

  function movePatch(event, number) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key === "Escape") choosePatch(state.patch);
    const next = number + (steps[event.key] || 0);
    const sameLine = !["ArrowLeft", "ArrowRight"].includes(event.key)
      || Math.floor(next / columns) === Math.floor(number / columns);
    if (next === number || !patches[next] || !sameLine) return;
    event.preventDefault();
    patches[number].tabIndex = -1;
    patches[next].tabIndex = 0;
    patches[next].focus();
  }

  function choosePatch(number) {
    state.patch = state.patch === number ? null : number;
    show();
    remember();
  }

  function step(direction) {
    const task = tasks[state.task], starts = task.layerStarts;
    const at = lastUpTo(starts, direction > 0 ? state.cycle : state.cycle - 1);
    const next = direction > 0 ? starts[at + 1] : starts[at];
    if (next !== undefined) go(next);
  }

  function go(cycle) {
    state.cycle = Math.min(Math.max(0, Math.round(cycle)), tasks[state.task].cycles - 1);
    show();
  }

  function tick(now) {
    if (!playing) return;
    const task = tasks[state.task];
    go(playing.cycle + (now - playing.now) / 1000 / SECONDS * task.cycles);
    if (state.cycle >= task.cycles - 1) return pause();
    requestAnimationFrame(tick);
  }

  function pause() {
    playing = null;
    play.textContent = "Play";
    show();
    remember();
  }

  function start() {
    if (state.cycle >= tasks[state.task].cycles - 1) state.cycle = 0;
    playing = { cycle: state.cycle, now: performance.now() };
    play.textContent = "Pause";
    requestAnimationFrame(tick);
  }

  function colour(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }

  function drawTracks() {
    const task = tasks[state.task], scale = window.devicePixelRatio || 1;
    const width = tracks.clientWidth || 600, line = 13, height = line * data.units.length;
    tracks.width = width * scale;
    tracks.height = height * scale;
    const pen = tracks.getContext("2d");
    pen.scale(scale, scale);
    pen.font = "10px system-ui, sans-serif";
    task.units.forEach((unit, index) => {
      pen.fillStyle = colour("--soft");
      pen.fillRect(0, index * line, width, line - 2);
      pen.fillStyle = colour("--accent");
      unit.starts.forEach((begin, at) => {
        const x = begin / task.cycles * width;
        pen.fillRect(x, index * line, Math.max(0.4, (unit.ends[at] - begin) / task.cycles * width), line - 2);
      });
      const text = data.units[index];
      pen.fillStyle = colour("--paper");
      pen.fillRect(0, index * line, pen.measureText(text).width + 6, line - 2);
      pen.fillStyle = colour("--ink");
      pen.fillText(text, 2, index * line + line - 4);
    });
    const x = state.cycle / task.cycles * width;
    pen.fillStyle = colour("--bad");
    pen.fillRect(x - 1, 0, 2, height);
  }

  function showUnits(task) {
    const lit = [];
    data.units.forEach((name, index) => {
      const work = working(task.units[index], state.cycle), box = boxes[name];
      if (work !== null) lit.push([name, work]);
      box.group.classList.toggle("lit", work !== null);
      box.work.textContent = work === null ? "" : work.length > box.room ? `${work.slice(0, box.room - 1)}…` : work;
      box.title.textContent = work === null ? `${name}: waits` : `${name}: ${work}`;
    });
    const words = lit.map(([name, work]) => `${name}: ${work}`).join("; ") || "no unit works";
    if (!playing) said.textContent = `Cycle ${state.cycle.toLocaleString("en")}: ${words}.`;
    return lit.map(([name]) => name);
  }

  function showPatches(task) {
    const layer = expertLayer(task), experts = layer === null ? null : task.experts[layer];
    const attention = state.patch === null ? null : task.attention;
    let top = null;
    patches.forEach((patch, number) => {
      const expert = experts && experts[number] >= 0 ? experts[number] : null;
      const share = attention ? attention.shares[state.patch * rows * columns + number] / 255 : null;
      if (share === 1 && top === null) top = number;
      patch.style.background = share !== null ? `rgba(0, 0, 0, ${(0.9 * (1 - Math.sqrt(share))).toFixed(3)})`
        : expert !== null ? `${data.colours[expert]}a6` : "transparent";
      patch.textContent = expert !== null && share === null ? expert : "";
      patch.classList.toggle("chosen", number === state.patch);
      patch.setAttribute("aria-pressed", number === state.patch);
      const name = `row ${Math.floor(number / columns)}, column ${number % columns}`;
      patch.setAttribute("aria-label", expert === null ? name : `${name}: expert ${expert}`);
    });
    showWords(task, layer, experts, attention, top);
    return { layer, top };
  }

  function where(number) { return `row ${Math.floor(number / columns)}, column ${number % columns}`; }

  function showWords(task, layer, experts, attention, top) {
    const counts = {};
    for (const expert of experts || []) counts[expert] = (counts[expert] || 0) + 1;
    legend.replaceChildren(...data.colours.flatMap((tint, expert) => counts[expert] ? [make("span", { class: "entry" },
      make("span", { class: "swatch", style: `background: ${tint}` }), ` expert ${expert} (${counts[expert]})`)] : []));
    if (attention) {
      const times = attention.largest[state.patch].toFixed(1);
      about.textContent = `The brighter a patch, the more of it is in the output of the framed one (${where(state.patch)}). `
        + `Most is of ${where(top)}: ${times} times a uniform share. Choose the patch again, or Escape, to go back.`;
    } else if (state.patch !== null) {
      about.textContent = "Attention of this frame is not in the report.";
    } else if (layer !== null) {
      about.textContent = `Each patch has the colour of the expert that it chose first in ${layer}.`;
    } else {
      const later = Object.keys(task.experts).length;
      about.textContent = later ? "No layer with experts has begun." : "This model has no experts.";
    }
    if (state.patch === null && task.attention) about.textContent += " Choose a patch to see what its output is made of.";
  }

  function show() {
    const task = tasks[state.task];
    slider.max = task.cycles - 1;
    slider.value = state.cycle;
    slider.setAttribute("aria-valuetext", `cycle ${state.cycle} of ${task.cycles}`);
    taskChoice.value = state.task;
    layerChoice.value = state.layer === null ? "" : state.layer;
    place.textContent = `${state.cycle.toLocaleString("en")} of ${task.cycles.toLocaleString("en")}`;
    const lit = showUnits(task), { layer, top } = showPatches(task);
    drawTracks();
    Object.assign(root.dataset, {
      task: task.name,
      cycle: state.cycle,
      lit: JSON.stringify(lit),
      layer: layer === null ? "" : layer,
      patch: state.patch === null ? "" : `${Math.floor(state.patch / columns)},${state.patch % columns}`,
      attended: top === null ? "" : `${Math.floor(top / columns)},${top % columns}`,
    });
  }

  function remember() {
    const parts = new URLSearchParams({ task: tasks[state.task].name, cycle: state.cycle });
    if (state.layer !== null) parts.set("layer", state.layer);
    if (state.patch !== null) parts.set("patch", `${Math.floor(state.patch / columns)},${state.patch % columns}`);
    history.replaceState(null, "", `#${parts}`);
  }

  // What the address says; what it does not say, or what there is not, stays as it is.
  function recall() {
    const parts = new URLSearchParams(location.hash.slice(1));
    const task = tasks.findIndex((each) => each.name === parts.get("task"));
    if (task >= 0) state.task = task;
    const known = Object.keys(tasks[state.task].experts);
    if (parts.has("layer")) state.layer = known.includes(parts.get("layer")) ? parts.get("layer") : null;
    const [row, column] = (parts.get("patch") || "").split(",").map(Number);
    if (row >= 0 && row < rows && column >= 0 && column < columns) state.patch = row * columns + column;
    const cycle = Number(parts.get("cycle"));
    if (parts.has("cycle") && Number.isFinite(cycle)) state.cycle = cycle;
    go(state.cycle);
  }

  function listen() {
    taskChoice.addEventListener("change", () => {
      const share = state.cycle / tasks[state.task].cycles;
      state.task = Number(taskChoice.value);
      go(share * tasks[state.task].cycles);
      remember();
    });
    layerChoice.addEventListener("change", () => {
      state.layer = layerChoice.value === "" ? null : layerChoice.value;
      show();
      remember();
    });
    play.addEventListener("click", () => (playing ? pause() : start()));
    before.addEventListener("click", () => { playing = null; play.textContent = "Play"; step(-1); remember(); });
    after.addEventListener("click", () => { playing = null; play.textContent = "Play"; step(1); remember(); });
    slider.addEventListener("input", () => { if (playing) pause(); go(Number(slider.value)); });
    slider.addEventListener("change", remember);
    slider.addEventListener("keydown", (event) => {
      const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!direction || event.shiftKey) return; // with Shift a single cycle, as the browser does
      event.preventDefault();
      go(state.cycle + direction * Math.max(1, tasks[state.task].cycles / 500));
      remember();
    });
    tracks.addEventListener("pointerdown", (event) => {
      if (playing) pause();
      go(event.offsetX / tracks.clientWidth * tasks[state.task].cycles);
      remember();
    });
    window.addEventListener("hashchange", recall);
    window.addEventListener("resize", drawTracks);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTracks);
  }

  function build() {
    buildDiagram();
    buildPatches();
    const layers = [...new Set(tasks.flatMap((task) => Object.keys(task.experts)))];
    layerChoice.append(option("", "the layer at work"), ...layers.map((layer) => option(layer, layer)));
    const picture = make("img", { src: data.picture, alt: "" });
    const controls = make("div", { class: "controls" }, make("label", {}, "Task ", taskChoice));
    if (layers.length) controls.append(make("label", {}, "Experts of ", layerChoice));
    controls.append(play, before, after, place);
    const shown = make("div", { class: "seen" }, make("div", { class: "picture" }, picture, grid), legend, about);
    root.replaceChildren(controls, slider, tracks, make("div", { class: "halves" },
      make("div", {}, diagram, said), shown));
  }

  build();
  listen();
  recall();
})();
