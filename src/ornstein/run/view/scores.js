// Score cards: three figures with their intervals, and a histogram of all returns.

// Wilson's 95 % interval of a rate; unlike the mean plus or minus two errors it is right at 0 and at 1.
function wilson(rate, n) {
  const z2 = 1.96 ** 2;
  const centre = (rate + z2 / (2 * n)) / (1 + z2 / n);
  const half = (1.96 * Math.sqrt((rate * (1 - rate)) / n + z2 / (4 * n * n))) / (1 + z2 / n);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

function figure(label, value, interval, show, note) {
  const range = interval && interval.every(known) ? [`${show(interval[0])} to ${show(interval[1])}`, el("br"), "95 % interval"] : [];
  return el("div", { class: "figure" },
    el("dt", {}, label),
    el("dd", {}, el("span", { class: "value" }, show(value)), el("span", { class: "fine" }, ...(range.length ? range : [note]))));
}

function figures(score) {
  const { success_rate: rate, episodes: n, reference, return_ci95: interval } = score;
  const named = reference && typeof reference === "object" ? reference : { name: reference };
  const scale = known(named.low) && known(named.high) && interval && interval.every(known)
    ? interval.map((r) => (100 * (r - named.low)) / (named.high - named.low)) : null;
  const against = named.name ? `against ${named.name}` : "no reference score";
  return el("dl", { class: "figures" },
    figure("Success rate", rate, known(rate) && n > 0 ? wilson(rate, n) : null, percent, "not defined here"),
    figure("Normalised score", score.normalized_score, known(score.normalized_score) ? scale : null, number, against),
    figure("Mean return", score.return_mean, interval, number, "no interval"));
}

function scoreCard(score) {
  const facts = [
    known(score.episodes) ? `${number(score.episodes)} episodes` : null,
    known(score.seed) ? `seed ${score.seed}` : null,
    known(score.seconds) ? duration(score.seconds) : null,
  ].filter(Boolean).join(" · ");
  const returns = (score.returns || []).filter(known);
  return el("article", { class: "card score" },
    el("header", {}, el("h3", {}, String(score.protocol || "standard")), el("span", { class: "fine" }, facts)),
    figures(score),
    returns.length > 1 ? histogram(returns, score) : null);
}

// Bars of a round width: [{ from, count }, …]
function bins(values) {
  const [lo, hi] = extent(values);
  if (lo === hi) return { width: 1, bars: [{ from: lo - 0.5, count: values.length }] };
  const marks = ticks(lo, hi, 18);
  const width = marks.length > 1 ? marks[1] - marks[0] : hi - lo;
  const first = Math.floor(lo / width);
  const bars = Array.from({ length: Math.floor(hi / width) - first + 1 }, (_, i) => ({ from: (first + i) * width, count: 0 }));
  for (const value of values) bars[Math.min(bars.length - 1, Math.floor(value / width) - first)].count++;
  return { width, bars };
}

function histogram(values, score) {
  const [W, H, left, right, top, bottom] = [480, 168, 34, 10, 22, 26];
  const { width, bars } = bins(values);
  const [lo, hi] = [bars[0].from - width / 2, bars[bars.length - 1].from + 1.5 * width];
  const tallest = Math.max(...bars.map((bar) => bar.count));
  const x = (v) => left + ((v - lo) / (hi - lo)) * (W - left - right);
  const y = (n) => H - bottom - (n / tallest) * (H - top - bottom);
  const plot = svg("svg", { class: "chart histogram", viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": `Histogram of ${values.length} returns, from ${number(extent(values)[0])} to ${number(extent(values)[1])}` });
  const interval = score.return_ci95;
  if (interval && interval.every(known)) {
    plot.append(svg("rect", { class: "band", x: x(interval[0]), y: top, width: Math.max(1, x(interval[1]) - x(interval[0])), height: H - top - bottom }));
  }
  for (const bar of bars.filter((b) => b.count)) {
    const wide = Math.min(40, x(bar.from + width) - x(bar.from) - 1.5);
    const middle = (x(bar.from) + x(bar.from + width)) / 2;
    plot.append(svg("rect", { class: "bar", x: middle - wide / 2, y: y(bar.count), width: wide, height: H - bottom - y(bar.count), rx: 1.5 },
      svg("title", {}, `${bar.count} of ${values.length}: ${number(bar.from)} to ${number(bar.from + width)}`)));
  }
  plot.append(svg("path", { class: "axis", d: `M${left} ${H - bottom}H${W - right}` }));
  for (const v of ticks(lo, hi, 6)) plot.append(svg("text", { class: "tick", x: x(v), y: H - 9, "text-anchor": "middle" }, number(v)));
  for (const n of ticks(0, tallest, 2).filter(Number.isInteger)) plot.append(svg("text", { class: "tick", x: left - 8, y: y(n) + 4, "text-anchor": "end" }, number(n)));
  if (known(score.return_mean)) {
    const at = x(score.return_mean);
    plot.append(svg("path", { class: "mean", d: `M${at} ${top - 4}V${H - bottom}` }));
    plot.append(svg("text", { class: "tick strong", x: Math.min(W - right - 18, Math.max(left + 18, at)), y: 12, "text-anchor": "middle" }, "mean"));
  }
  return el("figure", {}, plot, el("figcaption", {}, "Episodes by return; the shaded band is the mean's 95 % interval."));
}
