// A planner where there is no map: each number of the observation over time, as it was planned and as it came.

const planned1 = (one, stride, k) => knownPairs(one.plan.map((row, i) => [i * stride, row[k]]));
const came = (one, k) => knownPairs(one.real.map((row, i) => [i, row[k]]));

// What is on both axes, the same for all plans, so that they can be compared.
function futureRanges({ plans, stride }, k) {
  const pairs = plans.flatMap((one) => [...planned1(one, stride, k), ...came(one, k)]);
  return { x: room(pairs.map((p) => p[0])), y: room(pairs.map((p) => p[1])) };
}

function futurePicture(futures, i, k, label) {
  const one = futures.plans[i];
  const { plot, at } = panel({
    ...futureRanges(futures, k),
    across: "steps after the plan was made",
    up: futures.names[k],
    label,
    className: label ? "world" : "world thumb",
  });
  const plan = planned1(one, futures.stride, k);
  plot.append(svg("path", { class: "path", d: line(came(one, k).map(at)) }));
  plot.append(svg("path", { class: "plan", d: line(plan.map(at)) }));
  if (plan.length) plot.append(dot(at, plan[0], "start", label ? 5 : 7));
  return plot;
}

// Root of the mean squared gap between plan and what came, where both are known.
function missedBy(one, stride, k) {
  const gaps = one.plan
    .map((row, i) => [row[k], (one.real[i * stride] || [])[k]])
    .filter((pair) => pair.every(known))
    .slice(1)
    .map(([a, b]) => (a - b) ** 2);
  return gaps.length ? Math.sqrt(gaps.reduce((a, b) => a + b, 0) / gaps.length) : NaN;
}

// What the planner thought its plans were worth, over each episode, with a mark at the plan that is shown.
function valuesPlot(futures) {
  const pairs = futures.values.map(knownPairs);
  const all = pairs.flat();
  const { plot, at } = panel({
    x: room(all.map((p) => p[0])),
    y: room(all.map((p) => p[1])),
    across: "step of the episode",
    up: "value of the plan",
    label: "What the planner thought its plans were worth, over each episode",
    shape: { H: 260 },
  });
  const lines = pairs.map((line_) => plot.appendChild(svg("path", { class: "curve", d: line(line_.map(at)) })));
  const mark = plot.appendChild(svg("circle", { class: "mark", r: 6 }));
  const follow = (one) => {
    lines.forEach((path, i) => path.classList.toggle("pale", i !== one.episode));
    mark.style.display = known(one.value) ? "" : "none";
    if (!known(one.value)) return;
    const [x, y] = at([one.made, one.value]);
    mark.setAttribute("cx", x.toFixed(1));
    mark.setAttribute("cy", y.toFixed(1));
  };
  return { plot, follow };
}

function futuresSection({ futures }) {
  const { plans, names, stride, replan } = futures;
  const [canvas, status] = [el("div", { class: "canvas card" }), el("p", { class: "status", "aria-live": "polite" })];
  const values = futures.values.length ? valuesPlot(futures) : null;
  let [now, k] = [0, 0];
  const about = (i) => `Episode ${plans[i].episode + 1}, planned at step ${plans[i].made}`;
  const render = () => {
    const gap = missedBy(plans[now], stride, k);
    const worth = values ? `, value ${number(plans[now].value)}` : "";
    const off = known(gap) ? `; ${names[k]} came out ${number(gap, 2)} off` : "";
    status.textContent = `${about(now)}${worth}${off}`;
    canvas.replaceChildren(futurePicture(futures, now, k, `${names[k]}: ${status.textContent}`));
    each_.mark(now);
    each_.paint();
    every.mark(k);
    every.paint();
    chosen.box.value = k;
    if (values) values.follow(plans[now]);
  };
  const show = (i, dimension) => {
    [now, k] = [i, dimension];
    render();
  };
  const chosen = chooseBox("Show", names, 0, (i) => show(now, i));
  const each_ = pictures("Plans", plans.length, {
    draw: (i) => futurePicture(futures, i, k, null),
    caption: (i) => captionOf(`${plans[i].episode + 1}`, `step ${plans[i].made}`),
    title: about,
    show: (i) => show(i, k),
  });
  const every = pictures("Numbers of the observation", names.length, {
    draw: (i) => futurePicture(futures, now, i, null),
    caption: (i) => captionOf(names[i]),
    title: (i) => names[i],
    show: (i) => show(now, i),
  });
  render();
  const again = replan ? `It plans anew every ${replan === 1 ? "step" : `${replan} steps`}, so the two part with time. ` : "";
  const hidden = futures.hidden ? ` ${futures.hidden} further numbers are not shown.` : "";
  const lead =
    "Dashed is what the agent planned to see, solid what it then saw. " +
    `${again}Choose a plan, and a number of the observation.${hidden}`;
  const legendHere = el("ul", { class: "legend" }, key("plan", "plan"), key("path", "what came"), key("start", "now"));
  const side = el("div", { class: "side" }, legendHere, status, chosen.field, each_.group, values ? values.plot : null);
  return section("futures", "Plans and what came", lead, el("div", { class: "stage" }, canvas, side), every.group);
}

// The film of one plan: a number of the observation over the planned steps, from noise to plan.
function futureFilmSection({ futures }) {
  const { names, stride } = futures;
  const { steps, frames } = futures.film;
  const last = frames.length - 1;
  const [canvas, gauge] = [el("div", { class: "canvas card" }), el("div", { class: "gauge" })];
  const gap = el("span", { class: "num" });
  let [draw, k] = [() => {}, 0];
  const set = (i) => {
    k = i;
    const film = frames.map((frame) => knownPairs(frame.map((row, j) => [j * stride, row[k]])));
    const { plot, at } = panel({
      x: room(film.flat().map((p) => p[0])),
      y: room(film.flat().map((p) => p[1])),
      across: "planned step",
      up: names[k],
      label: `${names[k]} of one plan as it is denoised`,
      className: "world film",
    });
    const thread = plot.appendChild(svg("path", { class: "thread" }));
    const beads = film[last].map(() => plot.appendChild(svg("circle", { class: "bead", r: 5, style: "--u:0%" })));
    beads.forEach((bead, j) => bead.setAttribute("style", `--u:${Math.round((100 * j) / beads.length)}%`));
    const { plot: progress, follow } = progressPlot(film);
    canvas.replaceChildren(plot);
    gauge.replaceChildren(el("p", {}, "Mean distance from the finished plan: ", gap), progress);
    draw = (position) => {
      const step = Math.min(last, Math.floor(position));
      const points = film[step].map((p, j) => lerp(p, (film[step + 1] || [])[j], position - step));
      thread.setAttribute("d", line(points.map(at)));
      beads.forEach((bead, j) => {
        const [x, y] = at(points[j] || film[last][j]);
        bead.setAttribute("cx", x.toFixed(1));
        bead.setAttribute("cy", y.toFixed(1));
      });
      plot.dataset.step = step;
      gap.textContent = number(follow(position), 2);
    };
  };
  set(0);
  const { controls, now, go } = filmControls(last, (position) => draw(position), steps);
  const chosen = chooseBox("Show", names, 0, (i) => {
    set(i);
    go(now());
  });
  const lead =
    "Every dot is one future moment. The plan begins as pure noise; at each step the network removes a part of it, " +
    "from all dots and all numbers at once. What the agent sees now is known and stays where it is.";
  const side = el("div", { class: "side" }, chosen.field, controls, gauge);
  return section("film", "A plan comes out of noise", lead, el("div", { class: "stage" }, canvas, side));
}
