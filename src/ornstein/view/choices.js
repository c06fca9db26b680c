// A policy at work: the actions it considers in states of the data, the one it takes, and what the data did there.

const BINS = 24;

// What may stand on an axis: each number of an action; what actions are worth; or else, for actions of one number, the
// order in which they were drawn.
function choiceAxes({ names, states }) {
  const of = (i) => ({ name: names[i], offer: (state, j) => state.act[j][i], data: (act) => act[i] });
  const out = names.map((_, i) => of(i));
  if (states.some((state) => state.value)) {
    out.push({ name: "worth", offer: (state, j) => (state.value || [])[j], data: null });
  } else if (names.length === 1) {
    out.push({ name: "draw", offer: (state, j) => j + 1, data: null });
  }
  const span = (axis, state) => [
    ...state.act.map((_, j) => axis.offer(state, j)),
    ...(axis.data ? [state.own, ...state.near].map(axis.data) : []),
  ];
  // Actions have one range for all states; what they are worth differs too much between states.
  return out.map((axis) => {
    const whole = axis.data ? room(states.flatMap((state) => span(axis, state))) : null;
    return { ...axis, range: (state) => whole || room(span(axis, state)) };
  });
}

function shares(values) {
  const [lo, hi] = extent(values.filter(known));
  return values.map((w) => (hi > lo && known(w) ? (w - lo) / (hi - lo) : 0));
}

function choicePicture(state, across, up, label) {
  const { plot, at } = panel({
    x: across.range(state),
    y: up.range(state),
    across: across.name,
    up: up.name,
    label,
    className: label ? "choice" : "choice thumb",
  });
  const grow = label ? 1 : 1.1;
  const both = across.data && up.data;
  const place = (act) => [across.data(act), up.data(act)];
  const pair = (j) => [across.offer(state, j), up.offer(state, j)];
  if (both) knownPairs(state.near.map(place)).forEach((p) => plot.append(dot(at, p, "near", 6 * grow)));
  const colours = shares(state.value || []);
  state.act.forEach((_, j) => {
    const style = state.value ? `--u:${Math.round(100 * colours[j])}%` : "--u:0%";
    if (pair(j).every(known)) plot.append(dot(at, pair(j), "offer", 3.5 * grow, { style }));
  });
  if (both && place(state.own).every(known)) plot.append(dot(at, place(state.own), "own", 7 * grow));
  if (pair(state.chosen).every(known)) plot.append(dot(at, pair(state.chosen), "taken", 9 * grow));
  return plot;
}

// How often each part of a range is met: shares of the whole.
function histogramOf(values, [lo, hi]) {
  const counts = Array(BINS).fill(0);
  for (const v of values.filter(known)) counts[Math.min(BINS - 1, Math.floor(((v - lo) / (hi - lo)) * BINS))]++;
  return counts.map((n) => n / Math.max(1, values.length));
}

// One number of the action alone: bars for the data in near states, a line for what the policy considers.
function marginal(state, axis) {
  const range = axis.range(state);
  const [near, offers] = [state.near.map(axis.data), state.act.map((_, j) => axis.offer(state, j))].map((values) =>
    histogramOf(values, range),
  );
  const y = [0, Math.max(...near, ...offers, 1e-9) * 1.08];
  const { plot, at, size } = panel({ x: range, y, shape: { H: 110 }, className: "choice" });
  const edge = (i) => range[0] + (i / BINS) * (range[1] - range[0]);
  const base = size.H - size.bottom;
  near.forEach((share, i) => {
    const [[x, top], [right]] = [at([edge(i), share]), at([edge(i + 1), 0])];
    if (share) plot.append(svg("rect", { class: "nearbar", x, y: top, width: right - x - 1, height: base - top }));
  });
  const steps = offers.flatMap((share, i) => [at([edge(i), share]), at([edge(i + 1), share])]);
  plot.append(svg("path", { class: "curve", d: line(steps) }));
  const [x] = at([axis.offer(state, state.chosen), 0]);
  if (known(x)) plot.append(svg("path", { class: "takenline", d: `M${x.toFixed(1)} ${size.top}V${base}` }));
  return el("figure", { class: "card" }, plot, el("figcaption", {}, axis.name));
}

const stateName = (state, i) => `State ${i + 1}: episode ${state.episode + 1}, step ${state.step}`;

function choiceStatus(state, i, draws) {
  const parts = [`${stateName(state, i)}; ${state.act.length} actions drawn`];
  if (state.value) {
    const [lo, hi] = extent(state.value.filter(known));
    parts.push(`worth ${number(lo)} to ${number(hi)}, the one taken ${number(state.value[state.chosen])}`);
    if (draws !== state.act.length) parts.push(`when it acts it draws ${draws}`);
  }
  return `${parts.join("; ")}.`;
}

function choiceLegend(states) {
  const mark = (className, r, text) => {
    const box = { class: "key", viewBox: "0 0 18 16", width: 18, "aria-hidden": "true" };
    return el("li", {}, svg("svg", box, dot((p) => p, [9, 8], className, r, { style: "--u:0%" })), text);
  };
  return el(
    "ul",
    { class: "legend" },
    mark("offer", 4, "considered"),
    mark("taken", 6.5, "taken"),
    states.some((state) => state.near.length) ? mark("near", 5.5, "done in near states") : null,
    mark("own", 5.5, "done in this state"),
  );
}

function choicesSection({ choices }) {
  const { states } = choices;
  const axes_ = choiceAxes(choices);
  const [canvas, status] = [el("div", { class: "canvas card" }), el("p", { class: "status", "aria-live": "polite" })];
  const each_ = el("div", { class: "marginals" });
  let [now, across, up] = [0, axes_[0], axes_[1]];
  const render = () => {
    status.textContent = choiceStatus(states[now], now, choices.draws);
    canvas.replaceChildren(choicePicture(states[now], across, up, `Actions considered. ${status.textContent}`));
    each_.replaceChildren(...axes_.filter((axis) => axis.data).map((axis) => marginal(states[now], axis)));
    picks.mark(now);
    picks.paint();
  };
  const picks = pictures("States", states.length, {
    draw: (i) => choicePicture(states[i], across, up, null),
    caption: (i) => captionOf(String(i + 1), `step ${states[i].step}`),
    title: (i) => stateName(states[i], i),
    show: (i) => {
      now = i;
      render();
    },
  });
  const names = axes_.map((axis) => axis.name);
  const boxes = [
    chooseBox("Across", names, 0, (i) => {
      across = axes_[i];
      render();
    }),
    chooseBox("Up", names, 1, (i) => {
      up = axes_[i];
      render();
    }),
  ];
  render();
  const lead =
    `The same policy asked many times in one state, for ${states.length} states of ${choices.source}. Pale is what was ` +
    "done in the nearest states there: where that forms several groups, a policy that keeps them all has dots in each.";
  const rows = el("div", { class: "fields" }, ...boxes.map((box) => box.field));
  const ramp = el("div", { class: "ramp" }, el("span", {}, "worth least"), el("i", {}), el("span", {}, "most"));
  const coloured = states.some((state) => state.value) ? ramp : null;
  const side = el("div", { class: "side" }, choiceLegend(states), coloured, status, rows, picks.group);
  return section("choices", "What it considers", lead, el("div", { class: "stage" }, canvas, side), each_);
}
