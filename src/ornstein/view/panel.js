// A frame with two axes for marks at pairs of numbers, and boxes to choose what is on them.

const PANEL = { W: 600, H: 430, left: 64, right: 14, top: 12, bottom: 46 };
const SMALL_PANEL = { W: 240, H: 150, left: 2, right: 2, top: 2, bottom: 2 };

// A little more than from the least to the greatest of the known ones among `values`.
function room(values) {
  const [lo, hi] = extent(values.filter(known));
  if (lo > hi) return [0, 1];
  const pad = 0.05 * (hi - lo) || 0.1 * Math.abs(hi) || 1;
  return [lo - pad, hi + pad];
}

// `x` and `y` are the ranges shown, `across` and `up` their names. Without a label it is a small picture without axes.
function panel({ x, y, across, up, label, shape, className }) {
  const size = { ...(label ? PANEL : SMALL_PANEL), ...shape };
  const { W, H, left, right, top, bottom } = size;
  const at = ([a, b]) => [
    left + ((a - x[0]) / (x[1] - x[0])) * (W - left - right),
    H - bottom - ((b - y[0]) / (y[1] - y[0])) * (H - top - bottom),
  ];
  const attributes = { class: `panel ${className || ""}`, viewBox: `0 0 ${W} ${H}` };
  const said = label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" };
  const floor = { class: "floor", x: left, y: top, width: W - left - right, height: H - top - bottom, rx: 4 };
  const plot = svg("svg", { ...attributes, ...said }, svg("rect", floor));
  if (label) plot.append(...panelAxes(size, { x, y, at, across, up }));
  return { plot, at, size };
}

function panelAxes({ W, H, left, right, top, bottom }, { x, y, at, across, up }) {
  const out = [];
  for (const v of ticks(x[0], x[1], 6)) {
    const [place] = at([v, y[0]]);
    out.push(svg("path", { class: "grid", d: `M${place.toFixed(1)} ${top}V${H - bottom}` }));
    out.push(svg("text", { class: "tick", x: place, y: H - bottom + 18, "text-anchor": "middle" }, short(v)));
  }
  for (const v of ticks(y[0], y[1], 5)) {
    const [, place] = at([x[0], v]);
    out.push(svg("path", { class: "grid", d: `M${left} ${place.toFixed(1)}H${W - right}` }));
    out.push(svg("text", { class: "tick", x: left - 8, y: place + 4, "text-anchor": "end" }, short(v)));
  }
  const [middle, height] = [(left + W - right) / 2, (top + H - bottom) / 2];
  if (across) out.push(svg("text", { class: "tick name", x: middle, y: H - 8, "text-anchor": "middle" }, across));
  if (up) {
    const turned = `translate(14 ${height}) rotate(-90)`;
    out.push(svg("text", { class: "tick name", transform: turned, "text-anchor": "middle" }, up));
  }
  return out;
}

const dot = (at, pair, className, r, more) => {
  const [cx, cy] = at(pair);
  return svg("circle", { class: className, cx: cx.toFixed(1), cy: cy.toFixed(1), r, ...more });
};

const knownPairs = (pairs) => pairs.filter((pair) => pair.every(known));

// A box to choose one of `names` from, under a label. `choose` is told its number.
function chooseBox(label, names, chosen, choose) {
  const options = names.map((name, i) => el("option", { value: i, selected: i === chosen ? "" : null }, name));
  const box = el("select", {}, ...options);
  box.addEventListener("change", () => choose(Number(box.value)));
  return { box, field: el("label", { class: "field" }, el("span", {}, label), box) };
}

// Pictures to press, one for each of `count`; `show` is told which. `draw(i)` makes a picture, `caption(i)` its words.
function pictures(label, count, { draw, caption, title, show }) {
  const buttons = Array.from({ length: count }, (_, i) =>
    el("button", { type: "button", class: "pick", "aria-label": title(i), "aria-pressed": "false" }),
  );
  const mark = (i) => buttons.forEach((button, j) => button.setAttribute("aria-pressed", String(i === j)));
  const paint = () => buttons.forEach((button, i) => button.replaceChildren(draw(i), caption(i)));
  buttons.forEach((button, i) => button.addEventListener("click", () => show(i)));
  return { group: el("div", { class: "picks", role: "group", "aria-label": label }, ...buttons), mark, paint };
}

const captionOf = (left, right) =>
  el("span", { class: "caption" }, el("b", {}, left), right ? el("span", {}, right) : null);
