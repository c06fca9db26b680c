// Score cards: three figures with their intervals, and a histogram of all returns.

// Wilson's 95 % interval of a rate; unlike the mean plus or minus two errors it is right at 0 and at 1.
function wilson(rate, n) {
  const z2 = 1.96 ** 2;
  const centre = (rate + z2 / (2 * n)) / (1 + z2 / n);
  const half = (1.96 * Math.sqrt((rate * (1 - rate)) / n + z2 / (4 * n * n))) / (1 + z2 / n);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

function figure(label, value, interval, show, note) {
  const range =
    interval && interval.every(known)
      ? [`${show(interval[0])} to ${show(interval[1])}`, el("br"), "95 % interval"]
      : [];
  return el(
    "div",
    { class: "figure" },
    el("dt", {}, label),
    el(
      "dd",
      {},
      el("span", { class: "value" }, show(value)),
      el("span", { class: "fine" }, ...(range.length ? range : [note])),
    ),
  );
}

function figures(score) {
  const { success_rate: rate, episodes: n, reference, return_ci95: interval } = score;
  return el(
    "dl",
    { class: "figures" },
    figure("Success rate", rate, known(rate) && n > 0 ? wilson(rate, n) : null, percent, "not defined here"),
    figure(
      "Normalised score",
      score.normalized_score,
      null,
      number,
      reference ? `against ${reference}` : "no reference score",
    ),
    figure("Mean return", score.return_mean, interval, number, "no interval"),
  );
}

function scoreCard(score) {
  const facts = [
    known(score.episodes) ? `${number(score.episodes)} episodes` : null,
    known(score.seed) ? `seed ${score.seed}` : null,
    known(score.seconds) ? duration(score.seconds) : null,
  ]
    .filter(Boolean)
    .join(" · ");
  const returns = (score.returns || []).filter(known);
  return el(
    "article",
    { class: "card score" },
    el("header", {}, el("h3", {}, String(score.protocol || "standard")), el("span", { class: "fine" }, facts)),
    figures(score),
    returns.length > 1 ? histogram(returns, score) : null,
  );
}

// Bars of a round width: [{ from, count }, …]
function bins(values) {
  const [lo, hi] = extent(values);
  if (lo === hi) return { width: 1, bars: [{ from: lo - 0.5, count: values.length }] };
  const marks = ticks(lo, hi, 18);
  const width = marks.length > 1 ? marks[1] - marks[0] : hi - lo;
  const index = (value) => Math.floor(value / width + 1e-9); // 0.3 / 0.1 is a little less than 3
  const first = index(lo);
  const bars = Array.from({ length: index(hi) - first + 1 }, (_, i) => ({ from: (first + i) * width, count: 0 }));
  for (const value of values) bars[index(value) - first].count++;
  return { width, bars };
}

// What does not act: a figure a line, beside the same of what is recorded.
function measureCard({ task, data, rows, beside, figures, note }) {
  const head = ["", "found", beside].map((text) => el("th", { scope: "col" }, String(text)));
  const line = ([name, pair]) =>
    el("tr", {}, el("th", { scope: "row" }, name), ...pair.map((value) => el("td", { class: "num" }, number(value))));
  return el(
    "article",
    { class: "card measures" },
    el("header", {}, el("h3", {}, String(task)), el("span", { class: "fine" }, `${number(rows)} rows of ${data}`)),
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...Object.entries(figures).map(line))),
    note ? el("p", { class: "fine" }, note) : null,
  );
}

const HISTOGRAM = { W: 480, H: 168, left: 34, right: 10, top: 22, bottom: 26 };

function histogram(values, score) {
  const { W, H, left, right, top, bottom } = HISTOGRAM;
  const { width, bars } = bins(values);
  const tallest = Math.max(...bars.map((bar) => bar.count));
  const [lo, hi] = [bars[0].from - width / 2, bars[bars.length - 1].from + 1.5 * width];
  const x = (v) => left + ((v - lo) / (hi - lo)) * (W - left - right);
  const y = (n) => H - bottom - (n / tallest) * (H - top - bottom);
  const text = (at, height, anchor, label) =>
    svg("text", { class: "tick", x: at, y: height, "text-anchor": anchor }, label);
  const columns = bars
    .filter((bar) => bar.count)
    .map(({ from, count }) => {
      const wide = Math.min(40, x(from + width) - x(from) - 1.5);
      const box = {
        x: (x(from) + x(from + width) - wide) / 2,
        y: y(count),
        width: wide,
        height: H - bottom - y(count),
      };
      const title = `${count} of ${values.length}: ${number(from)} to ${number(from + width)}`;
      return svg("rect", { class: "bar", rx: 1.5, ...box }, svg("title", {}, title));
    });
  const label = `Histogram of ${values.length} returns, from ${extent(values)
    .map((v) => number(v))
    .join(" to ")}`;
  const plot = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label },
    meanBand(score.return_ci95, x),
    ...columns,
    svg("path", { class: "axis", d: `M${left} ${H - bottom}H${W - right}` }),
    ...ticks(lo, hi, 6).map((v) => text(x(v), H - 9, "middle", number(v))),
    ...ticks(0, tallest, 2)
      .filter(Number.isInteger)
      .map((n) => text(left - 8, y(n) + 4, "end", number(n))),
    known(score.return_mean) ? meanLine(x(score.return_mean)) : null,
  );
  return el("figure", {}, plot, el("figcaption", {}, "Episodes by return; a shaded band is the mean's 95 % interval."));
}

function meanBand(interval, x) {
  if (!interval || !interval.every(known)) return null;
  const { H, top, bottom } = HISTOGRAM;
  const [from, to] = interval.map(x);
  return svg("rect", { class: "band", x: from, y: top, width: Math.max(1, to - from), height: H - top - bottom });
}

function meanLine(at) {
  const { W, H, left, right, top, bottom } = HISTOGRAM;
  const inside = Math.min(W - right - 18, Math.max(left + 18, at));
  return svg(
    "g",
    {},
    svg("path", { class: "mean", d: `M${at} ${top - 4}V${H - bottom}` }),
    svg("text", { class: "tick strong", x: inside, y: 12, "text-anchor": "middle" }, "mean"),
  );
}
