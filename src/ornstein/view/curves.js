// Training curves: one small chart each, logarithmic where that shows more.

const CHART = { W: 480, H: 250, left: 52, right: 24, top: 12, bottom: 30 };

// A centred moving average over a twentieth of the run.
function smooth(values) {
  const half = Math.max(1, Math.round(values.length / 40));
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - half), i + half + 1);
    return near.reduce((a, b) => a + b, 0) / near.length;
  });
}

// How often a curve changes its direction.
const turns = (values) =>
  values.filter((v, i) => i > 1 && (v - values[i - 1]) * (values[i - 1] - values[i - 2]) < 0).length;

function scales(points) {
  const { W, H, left, right, top, bottom } = CHART;
  const [[x0, x1], [y0, y1]] = [0, 1].map((axis) => extent(points.map((p) => p[axis])));
  const log = y0 > 0 && y1 / y0 > 10;
  const value = log ? Math.log10 : (v) => v;
  const pad = 0.06 * (value(y1) - value(y0)) || Math.abs(value(y1)) * 0.1 || 1;
  const [lo, hi] = [value(y0) - pad, value(y1) + pad];
  return {
    log,
    value,
    lo,
    hi,
    x0,
    x1,
    x: (step) => left + ((step - x0) / (x1 - x0 || 1)) * (W - left - right),
    y: (v) => H - bottom - ((v - lo) / (hi - lo)) * (H - top - bottom), // of value(v)
  };
}

// Pairs of a height and its label; a logarithmic axis has powers of ten, and 2 and 5 between them when there is room.
function heightTicks({ log, lo, hi }) {
  if (!log) return ticks(lo, hi, 5).map((v) => [v, short(v)]);
  const out = [];
  const factors = hi - lo < 2.5 ? [1, 2, 5] : [1];
  const skip = Math.ceil((hi - lo) / 6);
  for (let power = Math.floor(lo); power <= hi; power++) {
    for (const m of factors) {
      const at = power + Math.log10(m);
      if (at >= lo && at <= hi && power % skip === 0) out.push([at, logLabel(m, power)]);
    }
  }
  return out;
}

const logLabel = (m, power) =>
  Math.abs(power) <= 3 ? short(Number((m * 10 ** power).toPrecision(1))) : `${m > 1 ? `${m}·` : ""}10${raised(power)}`;

function axes(scale) {
  const { W, H, left, right, bottom } = CHART;
  const marks = heightTicks(scale).flatMap(([at, label]) => [
    svg("path", { class: "grid", d: `M${left} ${scale.y(at).toFixed(1)}H${W - right}` }),
    svg("text", { class: "tick", x: left - 7, y: scale.y(at) + 4, "text-anchor": "end" }, label),
  ]);
  const steps = ticks(scale.x0, scale.x1 > scale.x0 ? scale.x1 : scale.x0 + 1, 5).map((v) =>
    svg("text", { class: "tick", x: scale.x(v), y: H - 10, "text-anchor": "middle" }, short(v)),
  );
  return [...marks, ...steps, svg("path", { class: "axis", d: `M${left} ${H - bottom}H${W - right}` })];
}

function chart({ name, points }) {
  const scale = scales(points);
  const heights = points.map(([, v]) => scale.value(v));
  const place = (values) => line(points.map(([step], i) => [scale.x(step), scale.y(values[i])]));
  const noisy = turns(heights) > Math.max(5, heights.length / 10);
  const values = extent(points.map((p) => p[1]));
  const plot = svg(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${CHART.W} ${CHART.H}`,
      role: "img",
      "aria-label": `${name} by step, between ${number(values[0])} and ${number(values[1])}`,
    },
    ...axes(scale),
  );
  if (noisy) plot.append(svg("path", { class: "raw", d: place(heights) }));
  plot.append(svg("path", { class: "curve", d: place(noisy ? smooth(heights) : heights) }));
  if (points.length < 20)
    points.forEach(([step], i) =>
      plot.append(svg("circle", { class: "dot", cx: scale.x(step), cy: scale.y(heights[i]), r: 3 })),
    );
  const readout = el("span", { class: "readout" });
  readUnderPointer(plot, scale, points, heights, readout);
  const [group, ...rest] = name.split("/");
  const title = rest.length ? [el("span", {}, `${group} / `), rest.join(" / ")] : [name];
  return el(
    "figure",
    { class: "card plot" },
    el("figcaption", {}, el("h3", {}, ...title), readout),
    plot,
    el(
      "p",
      { class: "fine" },
      ["by step", scale.log ? "logarithmic" : null, noisy ? "bold: moving average" : null].filter(Boolean).join(" · "),
    ),
  );
}

// The value under the pointer; without a pointer, the last one.
function readUnderPointer(plot, scale, points, heights, readout) {
  const mark = svg("g", { class: "cursor", visibility: "hidden" }, svg("path", {}), svg("circle", { r: 3.5 }));
  plot.append(mark);
  const [rule, spot] = mark.children;
  const last = points[points.length - 1];
  const rest = () => {
    mark.setAttribute("visibility", "hidden");
    readout.textContent = `last ${number(last[1])}`;
  };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * CHART.W;
    const gaps = points.map(([step]) => Math.abs(scale.x(step) - at));
    const i = gaps.indexOf(Math.min(...gaps));
    const [x, y] = [scale.x(points[i][0]), scale.y(heights[i])];
    rule.setAttribute("d", `M${x} ${CHART.top}V${CHART.H - CHART.bottom}`);
    spot.setAttribute("cx", x);
    spot.setAttribute("cy", y);
    mark.setAttribute("visibility", "visible");
    readout.textContent = `step ${number(points[i][0])}: ${number(points[i][1])}`;
  });
  plot.addEventListener("pointerleave", rest);
  rest();
}

const curvesSection = (curves) =>
  section("curves", "Training", null, el("div", { class: "plots" }, ...curves.map(chart)));
