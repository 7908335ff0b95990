"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent);
const R = D.rows, N = R.model.length, SHAPES = ["circle", "square", "up", "diamond", "down", "cross"];
const at = id => document.getElementById(id);
// Asking the browser for a colour is slow, and ten thousand points ask: the answers are kept until the theme changes.
const kept = new Map();
function css(name) {
  if (!kept.has(name)) kept.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return kept.get(name);
}
const colour = i => css(`--c${i % 6}`);
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}
const score = v => v == null ? "–" : (D.bounded ? v.toFixed(3) : String(+v.toPrecision(4)));
const count = v => v >= 1e6 ? +(v / 1e6).toPrecision(4) + " M" : v >= 1e4 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(3));
function money(v) {
  if (v == null) return "–";
  if (v === 0 || Math.abs(v) >= 1) return v.toLocaleString("en", {minimumFractionDigits: 2, maximumFractionDigits: 2});
  return Math.abs(v) >= 1e-4 ? String(+v.toPrecision(2)) : v.toExponential(1);
}
const tick = v => v === 0 ? "0" : v >= 1e6 ? v / 1e6 + "M" : v >= 1e3 ? v / 1e3 + "k" : v >= 1e-3 ? String(+v.toPrecision(6)) : v.toExponential(0);
const say = text => { at("live").textContent = text; };

// ---- one kind of chart: marks in data coordinates, drawn on uPlot's canvas -------------------------------------------
function path(c, kind, x, y, r) {
  if (kind === "square") c.rect(x - r * .9, y - r * .9, r * 1.8, r * 1.8);
  else if (kind === "up") { c.moveTo(x, y - r * 1.2); c.lineTo(x + r * 1.1, y + r * .9); c.lineTo(x - r * 1.1, y + r * .9); c.closePath(); }
  else if (kind === "down") { c.moveTo(x, y + r * 1.2); c.lineTo(x + r * 1.1, y - r * .9); c.lineTo(x - r * 1.1, y - r * .9); c.closePath(); }
  else if (kind === "diamond") { c.moveTo(x, y - r * 1.3); c.lineTo(x + r * 1.3, y); c.lineTo(x, y + r * 1.3); c.lineTo(x - r * 1.3, y); c.closePath(); }
  else if (kind === "cross") { const a = r * .45, b = r * 1.15; c.moveTo(x - a, y - b); for (const [p, q] of [[a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]]) c.lineTo(x + p, y + q); c.closePath(); }
  else { c.moveTo(x + r, y); c.arc(x, y, r, 0, 7); }
}
function shape(c, kind, x, y, r, filled) {
  c.beginPath();
  path(c, kind, x, y, r);
  if (filled) c.fill(); else { const f = c.fillStyle; c.fillStyle = css("--bg"); c.fill(); c.fillStyle = f; }
  c.stroke();
}
// Round numbers of a logarithmic axis: powers of ten, and some between where there are few of those.
function logSplits(lo, hi) {
  const ratio = hi / lo, out = [];
  if (ratio < 2) {
    const raw = (hi - lo) / 5, unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find(m => m * unit >= raw) * unit;
    for (let v = Math.ceil(lo / step) * step; v <= hi; v += step) out.push(+v.toPrecision(12));
    return out;
  }
  const within = ratio > 1e3 ? [1] : ratio > 8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], every = ratio > 1e8 ? 2 : 1;
  for (let k = Math.floor(Math.log10(lo)); k <= Math.ceil(Math.log10(hi)); k++) {
    if (k % every) continue;
    for (const m of within) { const v = +(m * 10 ** k).toPrecision(12); if (v >= lo && v <= hi) out.push(v); }
  }
  return out;
}
const charts = [];
function chart(host, spec) {
  host.replaceChildren();
  const plot = el("div", {class: "plot", tabindex: 0, role: "img", "aria-label": `${spec.summary} Use the arrow keys to step through the points.`});
  const tip = el("div", {class: "tip", hidden: true});
  const legend = el("ul", {class: "legend"});
  const box = el("div", {class: "chart"});
  if (spec.title) box.append(el("h3", {}, spec.title));
  box.append(legend, plot);
  plot.append(tip);
  host.append(box);
  let u, picked = -1, px = devicePixelRatio;
  const spots = spec.spots;
  const range = (lo, hi, log) => {
    if (!(lo <= hi)) return log ? [1, 10] : [0, 1];
    if (log) { const pad = Math.max((hi / lo) ** .05, 1.08); return [lo / pad, hi * pad]; }
    const pad = (hi - lo || Math.abs(hi) || 1) * .06;
    return [lo - pad, hi + pad];
  };
  const [x0, x1] = range(...spec.x.span, spec.x.log);
  let [y0, y1] = range(...spec.y.span, spec.y.log);
  if (spec.y.bounded) { y0 = Math.max(y0, -.02); y1 = Math.min(y1, 1.02); }
  if (spec.y.zero) y0 = 0;
  function draw(u) {
    const c = u.ctx, b = u.bbox;
    px = devicePixelRatio;
    const X = v => u.valToPos(v, "x", true), Y = v => u.valToPos(v, "y", true);
    c.save();
    c.beginPath(); c.rect(b.left, b.top, b.width, b.height); c.clip();
    spec.draw({c, X, Y, px, left: b.left, right: b.left + b.width, top: b.top, bottom: b.top + b.height});
    if (picked >= 0) {
      const s = spots[picked];
      c.strokeStyle = css("--fg"); c.lineWidth = 2 * px;
      c.beginPath(); c.arc(X(s.x), Y(s.y), 10 * px, 0, 7); c.stroke();
    }
    c.restore();
  }
  function make() {
    u?.destroy();
    const width = Math.max(240, plot.clientWidth || host.clientWidth), narrow = width < 560;
    const axis = {stroke: css("--soft"), grid: {stroke: css("--grid"), width: 1}, ticks: {stroke: css("--line"), width: 1}, font: "12px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif", labelSize: 22};
    const log = a => a.log ? {distr: 3, log: 10} : {};
    const splits = a => a.log ? {splits: (self, k, lo, hi) => logSplits(lo, hi), filter: (self, values) => values} : {};
    u = new uPlot({
      width, height: narrow ? 320 : 400, legend: {show: false}, padding: [8, 14, 0, 0],
      scales: {x: {time: false, range: (self, lo, hi) => lo == null ? [x0, x1] : [lo, hi], ...log(spec.x)}, y: {range: (self, lo, hi) => lo == null ? [y0, y1] : [lo, hi], ...log(spec.y)}},
      series: [{}, {show: true, paths: () => null, points: {show: false}}],
      axes: [{...axis, label: spec.x.label, size: 34, values: (self, vs) => vs.map(v => v == null ? "" : spec.x.tick(v)), ...splits(spec.x)},
             {...axis, label: spec.y.label, size: 58, values: (self, vs) => vs.map(v => v == null ? "" : spec.y.tick(v)), ...splits(spec.y)}],
      cursor: {points: {show: false}, drag: {x: true, y: true, uni: 12}, y: true},
      hooks: {draw: [draw], setCursor: [hover]},
    }, [[x0, x1], [y0, y1]], plot);
    u.over.addEventListener("mouseleave", () => show(-1));
    u.over.addEventListener("dblclick", reset);
    legend.replaceChildren(...spec.legend().map(item => {
      const swatch = el("canvas", {width: 44, height: 32, "aria-hidden": true}), c = swatch.getContext("2d");
      c.lineWidth = 3; c.strokeStyle = c.fillStyle = item.colour;
      if (item.line) { c.setLineDash(item.dash || []); c.beginPath(); c.moveTo(0, 16); c.lineTo(44, 16); c.stroke(); c.setLineDash([]); }
      if (item.shape) shape(c, item.shape, 22, 16, 9, !item.hollow);
      return el("li", {}, swatch, item.text);
    }));
  }
  function reset() { u.batch(() => { u.setScale("x", {min: x0, max: x1}); u.setScale("y", {min: y0, max: y1}); }); }
  function show(i, announce) {
    if (i === picked) return;
    picked = i;
    if (i < 0) tip.hidden = true;
    else {
      const s = spots[i], x = u.valToPos(s.x, "x"), y = u.valToPos(s.y, "y");
      tip.textContent = s.text();
      tip.hidden = false;
      const o = u.over, left = o.offsetLeft + x, top = o.offsetTop + y, w = tip.offsetWidth, h = tip.offsetHeight;
      tip.style.left = Math.max(0, Math.min(left + 14, plot.clientWidth - w)) + "px";
      tip.style.top = Math.max(0, top + h + 14 > plot.clientHeight ? top - h - 12 : top + 12) + "px";
      if (announce) say(tip.textContent);
    }
    u.redraw(false);
  }
  function hover(self) {
    const {left, top} = self.cursor;
    if (left == null || left < 0) return;
    let best = -1, near = 24 ** 2;
    const sx = self.scales.x, sy = self.scales.y;
    for (let i = 0; i < spots.length; i++) {
      const s = spots[i];
      if (s.x < sx.min || s.x > sx.max || s.y < sy.min || s.y > sy.max) continue;
      const d = (self.valToPos(s.x, "x") - left) ** 2 + (self.valToPos(s.y, "y") - top) ** 2;
      if (d < near) { near = d; best = i; }
    }
    show(best);
  }
  plot.addEventListener("keydown", event => {
    const steps = spec.steps || spots.map((_, i) => i);
    const here = steps.indexOf(picked), move = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") show(-1);
    else if (move && steps.length) { event.preventDefault(); show(steps[here < 0 ? 0 : (here + move + steps.length) % steps.length], true); }
  });
  plot.addEventListener("blur", () => show(-1));
  make();
  const entry = {host, make, resize: () => { const w = Math.max(240, plot.clientWidth); if (u && Math.abs(w - u.width) > 1) u.setSize({width: w, height: w < 560 ? 320 : 400}); }};
  const old = charts.findIndex(other => other.host === host);
  if (old >= 0) charts[old] = entry; else charts.push(entry);
  return entry;
}
const span = values => { let lo = Infinity, hi = -Infinity; for (const v of values) if (v != null && isFinite(v)) { if (v < lo) lo = v; if (v > hi) hi = v; } return [lo, hi]; };
const bar = (p, x, y0, y1, colour) => { const {c} = p; c.strokeStyle = colour; c.lineWidth = 1.5 * p.px; c.beginPath(); c.moveTo(x, y0); c.lineTo(x, y1); for (const y of [y0, y1]) { c.moveTo(x - 3 * p.px, y); c.lineTo(x + 3 * p.px, y); } c.stroke(); };
function rule(p, value, across, text, colour) {
  const {c} = p;
  c.save(); c.strokeStyle = c.fillStyle = colour; c.lineWidth = 1.5 * p.px; c.setLineDash([7 * p.px, 5 * p.px]);
  c.beginPath();
  if (across) { c.moveTo(p.left, p.Y(value)); c.lineTo(p.right, p.Y(value)); } else { c.moveTo(p.X(value), p.top); c.lineTo(p.X(value), p.bottom); }
  c.stroke();
  c.font = `${12 * p.px}px system-ui, sans-serif`; c.textBaseline = "bottom";
  const w = c.measureText(text).width;
  // A halo keeps the words readable where curves run below them.
  const write = (x, y) => { c.setLineDash([]); c.lineWidth = 4 * p.px; c.lineJoin = "round"; c.strokeStyle = css("--bg"); c.strokeText(text, x, y); c.fillText(text, x, y); };
  if (across) { c.textAlign = "right"; write(p.right - 6 * p.px, p.Y(value) - 3 * p.px); }
  else { const x = p.X(value), flip = x + w + 8 * p.px > p.right; c.textAlign = flip ? "right" : "left"; c.textBaseline = "top"; write(x + (flip ? -6 : 6) * p.px, p.top + 6 * p.px); }
  c.restore();
}
function ribbon(p, xs, lower, upper, colour, alpha) {
  const {c} = p;
  c.save(); c.globalAlpha = alpha; c.fillStyle = colour; c.beginPath();
  xs.forEach((x, i) => c.lineTo(p.X(x), p.Y(upper[i])));
  for (let i = xs.length - 1; i >= 0; i--) c.lineTo(p.X(xs[i]), p.Y(lower[i]));
  c.closePath(); c.fill(); c.restore();
}
function stroke(p, xs, ys, colour, width = 2, dash = []) {
  const {c} = p;
  c.save(); c.strokeStyle = colour; c.lineWidth = width * p.px; c.setLineDash(dash.map(d => d * p.px)); c.beginPath();
  xs.forEach((x, i) => c.lineTo(p.X(x), p.Y(ys[i])));
  c.stroke(); c.restore();
}
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [1, 4]];

// ---- the frontier ----------------------------------------------------------------------------------------------------
const named = (kind, i) => R.names[kind][R[kind][i]];
const full = i => `${named("model", i)} / ${named("strategy", i)}${named("configuration", i) ? ` (${named("configuration", i)})` : ""} on ${named("accelerator", i)}`;
const spread = (three, form) => three ? `${form(three[0])} (${form(three[1])} to ${form(three[2])})` : "–";
function frontier() {
  const host = at("frontier-chart"), shown = [];
  for (let i = 0; i < N; i++) if (R.quality[i] && R.cost[i] && R.cost[i][0] > 0) shown.push(i);
  if (!shown.length) { host.append(el("p", {}, "There is no candidate with a forecast of both quality and cost.")); return; }
  const onFrontier = new Set(R.frontier), chosen = shown.find(i => named("status", i) === "Recommended");
  const main = shown.filter(i => onFrontier.has(i) || i === chosen).sort((a, b) => R.cost[a][0] - R.cost[b][0]);
  const rest = shown.filter(i => !onFrontier.has(i) && i !== chosen);
  const order = [...rest, ...main], holder = el("div");
  const line = main.filter(i => onFrontier.has(i));
  let near = false;
  function make() {
    const costs = near ? main : order;
    const spots = order.map(i => ({x: R.cost[i][0], y: R.quality[i][0], text: () => `${full(i)}\n${D.metric} ${spread(R.quality[i], score)}, ${R.measured[i] ? "measured" : "forecast"}\n${spread(R.cost[i], money)} ${D.currency}\n${named("status", i)}: ${named("reason", i)}`}));
    const kinds = R.names.strategy;
    const [lo, hi] = span(near ? main.map(i => R.cost[i][0]) : order.flatMap(i => [R.cost[i][0]]).concat(main.flatMap(i => R.cost[i].slice(1)), D.maxCost ?? []));
    chart(holder, {
      summary: `Predicted ${D.metric} against total cost of ${shown.length} candidates, ${line.length} on the frontier.` + (chosen == null ? "" : ` Recommended: ${full(chosen)}, ${D.metric} ${score(R.quality[chosen][0])}, ${money(R.cost[chosen][0])} ${D.currency}.`),
      spots, steps: main.map(i => order.indexOf(i)),
      x: {label: `Total cost, ${D.currency}`, log: !near && hi / lo > 3, span: [lo, hi], tick: near ? money5 : tick},
      y: {label: D.metric + (D.minimize ? " (lower is better)" : ""), span: span(costs.map(i => R.quality[i][0]).concat(main.flatMap(i => R.quality[i]), D.threshold ?? [])), tick: v => +v.toPrecision(4), bounded: D.bounded},
      legend: () => [...kinds.map((k, n) => ({text: k, shape: SHAPES[n % 6], colour: colour(n)})), {text: "Frontier", line: true, colour: css("--fg")}, ...(chosen == null ? [] : [{text: "Recommended (ringed)", shape: "circle", hollow: true, colour: css("--fg")}])],
      draw(p) {
        const {c} = p, many = rest.length > 1500, r = (many ? 2.2 : 3.4) * p.px;
        c.globalAlpha = many ? .5 : .75;
        for (let k = 0; k < kinds.length; k++) for (const filled of [0, 1]) {
          c.lineWidth = 1.2 * p.px; c.strokeStyle = c.fillStyle = colour(k);
          c.beginPath();
          for (const i of rest) if (R.strategy[i] === k && R.measured[i] === filled) path(c, SHAPES[k % 6], p.X(R.cost[i][0]), p.Y(R.quality[i][0]), r);
          if (filled) c.fill();
          c.stroke();
        }
        c.globalAlpha = 1;
        if (D.threshold != null) rule(p, D.threshold, true, `asked: ${D.minimize ? "at most" : "at least"} ${D.threshold}`, css("--bad"));
        if (D.maxCost != null) rule(p, D.maxCost, false, `most: ${money(D.maxCost)} ${D.currency}`, css("--bad"));
        const xs = [], ys = [];
        line.forEach((i, n) => { if (n) { xs.push(R.cost[i][0]); ys.push(ys[ys.length - 1]); } xs.push(R.cost[i][0]); ys.push(R.quality[i][0]); });
        stroke(p, xs, ys, css("--fg"), 1.5);
        for (const i of main) {
          const x = p.X(R.cost[i][0]), y = p.Y(R.quality[i][0]), k = colour(R.strategy[i]);
          bar(p, x, p.Y(R.quality[i][1]), p.Y(R.quality[i][2]), k);
          if (!near) { c.beginPath(); c.moveTo(p.X(R.cost[i][1]), y); c.lineTo(p.X(R.cost[i][2]), y); c.globalAlpha = .4; c.stroke(); c.globalAlpha = 1; }
          c.strokeStyle = c.fillStyle = k; c.lineWidth = 2 * p.px;
          shape(c, SHAPES[R.strategy[i] % 6], x, y, 5.5 * p.px, R.measured[i]);
          if (i === chosen) { c.strokeStyle = css("--fg"); c.lineWidth = 2 * p.px; c.beginPath(); c.arc(x, y, 11 * p.px, 0, 7); c.stroke(); }
        }
      },
    });
  }
  const money5 = v => String(+v.toPrecision(6));
  const toggle = el("input", {type: "checkbox", id: "near", onchange: event => { near = event.target.checked; make(); }});
  host.append(el("div", {class: "tools"}, el("label", {for: "near"}, toggle, "Frontier only"), el("span", {class: "note"}, "Drag to zoom, double-click for all.")), holder);
  host.append(listing("The frontier as a table", ["Candidate", D.metric, `Total ${D.currency}`], main.map(i => [full(i), spread(R.quality[i], score), spread(R.cost[i], money)])));
  make();
}
function listing(title, head, rows) {
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...head.map(h => el("th", {scope: "col"}, h)))), el("tbody", {}, ...rows.map(r => el("tr", {}, ...r.map(v => el("td", {}, v))))));
  return el("details", {}, el("summary", {}, title), el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": title}, table));
}

// ---- learning and shots ----------------------------------------------------------------------------------------------
function curvesOf() {
  const models = [...new Set([...D.learning, ...D.shots].map(c => c.model))];
  if (!models.length) { at("curves-choice").append(el("p", {}, "No strategy of the plan has training examples or demonstrations to vary.")); return; }
  const choice = el("select", {id: "curve-model", onchange: () => make(choice.value)}, ...models.map(m => el("option", {value: m}, m)));
  at("curves-choice").append(el("div", {class: "tools"}, el("label", {for: "curve-model"}, "Model", choice)));
  function make(model) {
    family("learning-chart", D.learning.filter(c => c.model === model), "Over training examples", "Training examples", true);
    family("shots-chart", D.shots.filter(c => c.model === model), "Over demonstrations in the prompt", "Demonstrations", false);
  }
  make(models[0]);
}
function family(id, list, title, xLabel, log) {
  const host = at(id);
  const old = charts.findIndex(c => c.host.parentNode === host);
  if (old >= 0) charts.splice(old, 1);
  host.replaceChildren();
  if (!list.length) return;
  const holder = el("div"), index = s => Math.max(0, R.names.strategy.indexOf(s)), spots = [], steps = [];
  host.append(holder);
  for (const c of list) {
    for (const q of c.points) { steps.push(spots.length); spots.push({x: q.x, y: q.score, text: () => `${c.strategy}, measured\n${q.configuration}\n${xLabel}: ${count(q.x)}\n${D.metric} ${score(q.score)}${q.error == null ? "" : ` ± ${score(q.error)}`} over ${q.items} items`}); }
    c.x.forEach((x, i) => spots.push({x, y: c.median[i], text: () => `${c.strategy}, forecast\n${c.configuration}\n${xLabel}: ${count(x)}\n${D.metric} ${score(c.median[i])} (${score(c.lower[i])} to ${score(c.upper[i])})`}));
  }
  const points = list.flatMap(c => c.points);
  chart(holder, {
    title, summary: `${title}: forecast of ${list.map(c => c.strategy).join(", ")} with ${points.length} measurements.`, spots, steps: steps.concat(spots.map((_, i) => i).filter(i => !steps.includes(i))),
    x: {label: xLabel, log, span: span(list.flatMap(c => c.x).concat(points.map(q => q.x))), tick},
    y: {label: D.metric, span: span(list.flatMap(c => [...c.lower, ...c.upper]).concat(points.map(q => q.score), D.threshold ?? [])), tick: v => +v.toPrecision(4), bounded: D.bounded},
    legend: () => list.map(c => ({text: `${c.strategy}${c.configuration ? `: ${c.configuration}` : ""}`, line: true, dash: DASHES[index(c.strategy) % 6].map(d => d * 2), shape: SHAPES[index(c.strategy) % 6], colour: colour(index(c.strategy))})),
    draw(p) {
      for (const c of list) ribbon(p, c.x, c.lower, c.upper, colour(index(c.strategy)), .16);
      for (const c of list) stroke(p, c.x, c.median, colour(index(c.strategy)), 2, DASHES[index(c.strategy) % 6]);
      if (D.threshold != null) rule(p, D.threshold, true, `asked: ${D.threshold}`, css("--bad"));
      for (const c of list) for (const q of c.points) {
        const k = colour(index(c.strategy)), x = p.X(q.x);
        if (q.error != null) bar(p, x, p.Y(q.score - q.error), p.Y(q.score + q.error), k);
        p.c.strokeStyle = p.c.fillStyle = k; p.c.lineWidth = 2 * p.px;
        shape(p.c, SHAPES[index(c.strategy) % 6], x, p.Y(q.score), 4.5 * p.px, q.same);
      }
    },
  });
  host.append(listing(`${title}, as a table`, ["Strategy", "Kind", xLabel, D.metric, "Configuration"], list.flatMap(c => [...c.points.map(q => [c.strategy, "measured", count(q.x), `${score(q.score)}${q.error == null ? "" : ` ± ${score(q.error)}`}`, q.configuration]), ...c.x.map((x, i) => [c.strategy, "forecast", count(x), `${score(c.median[i])} (${score(c.lower[i])} to ${score(c.upper[i])})`, c.configuration])])));
}

// ---- cost over requests ----------------------------------------------------------------------------------------------
function costs() {
  const host = at("cost-chart");
  if (!D.costs.length) { host.append(el("p", {}, "The plan expects no requests, or no candidate has a price: there is nothing to draw.")); return; }
  const marks = [D.requests, D.breakEven].filter(v => v > 0);
  const low = Math.max(1, Math.min(...marks) / 100), high = Math.max(...marks) * 3, holder = el("div");
  const xs = Array.from({length: 61}, (_, i) => low * (high / low) ** (i / 60));
  const lines = D.costs.map(l => ({...l, y: [0, 1, 2].map(k => xs.map(x => l.once[k] + l.each[k] * x))}));
  const spots = lines.flatMap(l => xs.map((x, i) => ({x, y: l.y[0][i], text: () => `${l.label}\n${count(x)} requests\n${money(l.y[0][i])} ${D.currency} (${money(l.y[1][i])} to ${money(l.y[2][i])})`})));
  host.append(holder);
  chart(holder, {
    summary: `Cost over requests of ${lines.length} candidates.`, spots, steps: spots.map((_, i) => i).filter(i => i % 10 === 0),
    x: {label: "Requests", log: true, span: [low, high], tick}, y: {label: D.currency, log: true, span: span(lines.flatMap(l => [...l.y[1], ...l.y[2]]).filter(v => v > 0)), tick},
    legend: () => lines.map((l, i) => ({text: l.label, line: true, dash: DASHES[i % 6].map(d => d * 2), colour: colour(i)})),
    draw(p) {
      lines.forEach((l, i) => ribbon(p, xs, l.y[1], l.y[2], colour(i), .12));
      lines.forEach((l, i) => stroke(p, xs, l.y[0], colour(i), 2.5, DASHES[i % 6]));
      rule(p, D.requests, false, "the plan", css("--soft"));
      if (D.breakEven > 0) rule(p, D.breakEven, false, "break-even", css("--bad"));
    },
  });
  const some = [low, D.requests / 10, D.requests, high];
  host.append(listing("Cost over requests as a table", ["Candidate", ...some.map(x => `${count(x)} requests`)], D.costs.map(l => [l.label, ...some.map(x => `${money(l.once[0] + l.each[0] * x)} ${D.currency}`)])));
}

// ---- candidates ------------------------------------------------------------------------------------------------------
function table() {
  const PAGE = 50, host = at("candidates-table");
  const COLUMNS = [
    ["Model", i => named("model", i)], ["Strategy", i => named("strategy", i)],
    [D.metric, i => R.quality[i]?.[0] ?? null, "n", i => R.quality[i] ? [score(R.quality[i][0]), `${score(R.quality[i][1])} – ${score(R.quality[i][2])}`] : ["–"]],
    [`Total ${D.currency}`, i => R.cost[i]?.[0] ?? null, "n", i => R.cost[i] ? [money(R.cost[i][0]), `${money(R.cost[i][1])} – ${money(R.cost[i][2])}`] : ["–"]],
    ["Meets", i => R.meets[i], "n", i => [R.meets[i] == null ? "–" : Math.round(R.meets[i] * 100) + " %"]],
    ["Status", i => named("status", i), "", i => [named("status", i), R.measured[i] ? "measured" : "forecast"]],
    ["Configuration", i => named("configuration", i), "wide"],
    ["Reason", i => named("reason", i), "wide"],
    ["Once", i => R.once[i], "n", i => [money(R.once[i])]],
    ["Latency ms", i => R.latency[i], "n", i => [R.latency[i] == null ? "–" : count(R.latency[i])]],
    ["Memory GiB", i => R.memory[i], "n", i => [R.memory[i] == null ? "–" : R.memory[i].toFixed(2)]],
    [`${D.currency} per right answer`, i => R.pass[i], "n", i => [money(R.pass[i])]],
    ["Accelerator hours", i => R.hours[i], "n", i => [R.hours[i] == null ? "–" : count(R.hours[i])]],
    ["FLOPs", i => R.flops[i], "n", i => [R.flops[i] == null ? "–" : R.flops[i].toExponential(2)]],
    ["Accelerator", i => named("accelerator", i)],
  ];
  const state = {column: -1, down: false, page: 0, text: "", model: "", strategy: "", status: "", measured: false};
  let haystack = null, found = [];
  const body = el("tbody"), caption = el("caption"), heads = [];
  const again = () => { state.page = 0; choose(); };
  const pick = (key, title) => {
    const list = el("select", {id: `by-${key}`, onchange: () => { state[key] = list.value; again(); }}, el("option", {value: ""}, "all"), ...R.names[key].map((n, k) => el("option", {value: k}, n)));
    return el("label", {for: `by-${key}`}, title, list);
  };
  let timer;
  const search = el("input", {type: "search", id: "search", placeholder: "words, all of which must occur", oninput: () => { clearTimeout(timer); timer = setTimeout(() => { state.text = search.value; again(); }, 120); }});
  const only = el("input", {type: "checkbox", id: "only", onchange: () => { state.measured = only.checked; again(); }});
  const back = el("button", {type: "button", onclick: () => { state.page--; fill(); }}, "Previous"), next = el("button", {type: "button", onclick: () => { state.page++; fill(); }}, "Next"), where = el("span", {role: "status"});
  COLUMNS.forEach(([name, , kind], k) => heads.push(el("th", {scope: "col", class: kind === "n" ? "n" : null, "aria-sort": "none"}, el("button", {type: "button", onclick: () => {
    if (state.column === k) { if (state.down) { state.column = -1; state.down = false; } else state.down = true; } else { state.column = k; state.down = false; }
    heads.forEach((h, j) => { const on = j === state.column; h.setAttribute("aria-sort", on ? state.down ? "descending" : "ascending" : "none"); h.firstChild.textContent = COLUMNS[j][0] + (on ? state.down ? " ▼" : " ▲" : ""); });
    again();
  }}, name))));
  function choose() {
    const asked = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    if (asked.length && !haystack) haystack = Array.from({length: N}, (_, i) => `${full(i)} ${named("status", i)} ${named("reason", i)}`.toLowerCase());
    found = [];
    for (let i = 0; i < N; i++) {
      if (state.model !== "" && R.model[i] !== +state.model || state.strategy !== "" && R.strategy[i] !== +state.strategy || state.status !== "" && R.status[i] !== +state.status || state.measured && !R.measured[i]) continue;
      if (asked.every(word => haystack[i].includes(word))) found.push(i);
    }
    if (state.column >= 0) {
      const value = COLUMNS[state.column][1], sign = state.down ? -1 : 1, keys = new Map(found.map(i => [i, value(i)]));
      const compare = (a, b) => typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b;
      found.sort((i, j) => { const a = keys.get(i), b = keys.get(j); return a == null || b == null ? (a == null) - (b == null) : sign * compare(a, b) || i - j; });
    }
    fill();
  }
  function fill() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.max(0, Math.min(state.page, pages - 1));
    const first = state.page * PAGE, shown = found.slice(first, first + PAGE);
    body.replaceChildren(...shown.map(i => el("tr", {class: named("status", i) === "Recommended" ? "chosen" : null}, ...COLUMNS.map(([, value, kind, form]) => {
      const [text, small] = form ? form(i) : [value(i)];
      return el("td", {class: kind || null}, text, ...(small ? [el("small", {}, small)] : []));
    }))));
    where.textContent = found.length ? `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${found.length.toLocaleString("en")}` + (found.length < N ? ` (${N.toLocaleString("en")} in all)` : "") : "No candidate fits: take a word or a filter away.";
    caption.textContent = `Candidates. Click a heading to sort by it.`;
    back.disabled = state.page === 0; next.disabled = state.page >= pages - 1;
  }
  host.replaceChildren(
    el("div", {class: "tools"}, el("label", {for: "search"}, "Find", search), pick("model", "Model"), pick("strategy", "Strategy"), pick("status", "Status"), el("label", {for: "only"}, only, "Measured only")),
    el("div", {class: "tools"}, back, next, where),
    el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Candidates"}, el("table", {}, caption, el("thead", {}, el("tr", {}, ...heads)), body)));
  choose();
}

// ---- the page --------------------------------------------------------------------------------------------------------
const dark = () => document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const theme = at("theme");
function repaint() { kept.clear(); theme.textContent = dark() ? "Light" : "Dark"; charts.forEach(c => c.make()); }
theme.hidden = false;
theme.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; repaint(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
if (N) table();
frontier(); curvesOf(); costs();
theme.textContent = dark() ? "Light" : "Dark";
let wait;
addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(() => charts.forEach(c => c.resize()), 100); });
document.documentElement.dataset.ready = "true";
})();
