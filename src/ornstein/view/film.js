// The film: one plan as it is denoised, from pure noise to a route.

const lerp = (a, b, u) => (b ? [a[0] + (b[0] - a[0]) * u, a[1] + (b[1] - a[1]) * u] : a);

// Mean distance of a frame's points from the finished plan's.
function unfinished(frame, final) {
  const gaps = frame.slice(0, final.length).map((p, i) => Math.hypot(p[0] - final[i][0], p[1] - final[i][1]));
  return gaps.length ? gaps.reduce((a, b) => a + b, 0) / gaps.length : 0;
}

// A picture of the plan that can be moved to any (also fractional) step.
function filmPicture(view, film, first, label) {
  const count = Math.max(...film.map((frame) => frame.length));
  const grow = label ? 1 : 2.2;
  const plot = picture(view, label, label ? "world film" : "world film thumb");
  const thread = plot.appendChild(svg("path", { class: "thread" }));
  const radius = grow * (count > 128 ? 3 : count > 48 ? 4 : 5);
  const beads = Array.from({ length: count }, (_, i) =>
    plot.appendChild(
      svg("circle", { class: "bead", r: radius, style: `--u:${Math.round((100 * i) / Math.max(1, count - 1))}%` }),
    ),
  );
  if (first && first.start) plot.append(startMark(view, first.start, 8 * grow));
  if (first && first.goal) plot.append(goalMark(view, first.goal, 13 * grow));
  const draw = (position) => {
    const step = Math.min(film.length - 1, Math.floor(position));
    const next = film[step + 1] || [];
    const points = film[step].map((p, i) => lerp(p, next[i], position - step));
    thread.setAttribute("d", trace(view, points));
    beads.forEach((bead, i) => place(bead, view, points[i]));
    plot.dataset.step = step;
  };
  return { plot, draw };
}

function place(bead, view, point) {
  bead.style.display = point ? "" : "none";
  if (!point) return;
  const inside = view.clamp(point);
  const [x, y] = view.at(inside);
  bead.setAttribute("cx", x.toFixed(1));
  bead.setAttribute("cy", y.toFixed(1));
  bead.classList.toggle("outside", inside[0] !== point[0] || inside[1] !== point[1]);
}

// How far the plan is from done, over the steps, with a mark that follows the film.
function progressPlot(film) {
  const [W, H] = [300, 64];
  const gaps = film.map((frame) => unfinished(frame, film[film.length - 1]));
  const top = Math.max(...gaps) || 1;
  const at = (step, gap) => [6 + (step / Math.max(1, film.length - 1)) * (W - 12), H - 6 - (gap / top) * (H - 14)];
  const curve = line(gaps.map((gap, step) => at(step, gap)));
  const mark = svg("circle", { class: "mark", r: 4.5 });
  const plot = svg(
    "svg",
    {
      class: "progress",
      viewBox: `0 0 ${W} ${H}`,
      role: "img",
      "aria-label": `Mean distance from the finished plan: ${number(gaps[0], 3)} at first, 0 at the end`,
    },
    svg("path", { class: "area", d: `${curve}L${W - 6} ${H - 6}L6 ${H - 6}z` }),
    svg("path", { class: "curve", d: curve }),
    mark,
  );
  const follow = (position) => {
    const step = Math.min(film.length - 1, Math.floor(position));
    const gap = gaps[step] + ((gaps[step + 1] ?? gaps[step]) - gaps[step]) * (position - step);
    const [x, y] = at(position, gap);
    mark.setAttribute("cx", x);
    mark.setAttribute("cy", y);
    return gap;
  };
  return { plot, follow };
}

// Playing moves `go` from the present position to the last step, at a pace that suits the film's length.
function player(last, button, position, go) {
  const pace = last / Math.min(7, Math.max(3, 0.22 * last)); // steps a second
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  let running = null;
  const label = (on) => {
    button.replaceChildren(
      svg(
        "svg",
        { viewBox: "0 0 16 16", "aria-hidden": "true" },
        svg("path", { d: on ? "M4 3h3v10H4zM9 3h3v10H9z" : "M4 2.5v11l9-5.5z" }),
      ),
      on ? "Pause" : "Play",
    );
  };
  const stop = () => {
    if (running !== null) cancelAnimationFrame(running);
    running = null;
    label(false);
  };
  const play = () => {
    const from = position() >= last ? 0 : position();
    let begun = null;
    const tick = (now) => {
      begun = begun ?? now;
      const at = Math.min(last, from + ((now - begun) / 1000) * pace);
      go(calm.matches ? Math.floor(at) : at);
      if (at < last) running = requestAnimationFrame(tick);
      else stop();
    };
    label(true);
    running = requestAnimationFrame(tick);
  };
  button.addEventListener("click", () => (running === null ? play() : stop()));
  label(false);
  return { stop };
}

function strip(view, film, first, jump) {
  const last = film.length - 1;
  const chosen = [...new Set(Array.from({ length: 6 }, (_, i) => Math.round((i * last) / 5)))];
  return el(
    "div",
    { class: "strip", role: "group", "aria-label": "Moments of the film" },
    ...chosen.map((step) => {
      const { plot, draw } = filmPicture(view, film, first, null);
      draw(step);
      const name = step === 0 ? "noise" : step === last ? "plan" : `step ${step}`;
      const button = el(
        "button",
        { type: "button", class: "pick", "aria-label": `Go to step ${step} of ${last}` },
        plot,
        el("span", { class: "caption" }, name),
      );
      button.addEventListener("click", () => jump(step));
      return button;
    }),
  );
}

// #step=3 in the address opens the film at its third step.
function stepInAddress(last) {
  const found = /#step=(\d+)/.exec(window.location.hash);
  return found ? Math.min(last, Number(found[1])) : null;
}

// What moves a film from step 0 to `last`: a button, a slider, and the address. `draw` shows a position; `labels` are
// the true numbers of the steps.
function filmControls(last, draw, labels) {
  const slider = el("input", { type: "range", min: 0, max: last, step: 1, value: 0, "aria-label": "Denoising step" });
  const [count, button] = [el("output", {}), el("button", { type: "button", class: "play" })];
  let now = 0;
  const go = (position) => {
    now = position;
    draw(position);
    const step = Math.round(position);
    const words = `tep ${labels[step]} of ${labels[last]}`;
    slider.value = step;
    slider.setAttribute("aria-valuetext", `s${words}`);
    count.textContent = `S${words}`;
  };
  const { stop } = player(last, button, () => now, go);
  const jump = (step) => {
    stop();
    go(step);
  };
  slider.addEventListener("input", () => jump(Number(slider.value)));
  window.addEventListener("hashchange", () => jump(stepInAddress(last) ?? now));
  go(stepInAddress(last) ?? 0);
  const controls = el("div", { class: "controls card" }, el("div", { class: "row" }, button, count), slider);
  return { controls, jump, go, now: () => now };
}

function filmSection(data) {
  const { scene, film } = data;
  const first = data.episodes[0];
  const last = film.length - 1;
  const around = [...film[last], ...data.episodes.flatMap(pointsOf)];
  const view = makeView(scene, around, 0.2);
  const { plot, draw } = filmPicture(view, film, first, "One plan as it is denoised, seen from above");
  const { plot: progress, follow } = progressPlot(film);
  const gap = el("span", { class: "num" });
  const show = (position) => {
    draw(position);
    gap.textContent = number(follow(position), 2);
  };
  const { controls, jump } = filmControls(last, show, [...film.keys()]);
  const pinned =
    first && first.goal
      ? "Its start and its goal are known and stay where they are"
      : "Its start is known and stays where it is";
  const lead =
    "Every dot is one future position of the agent. The plan begins as pure noise; at each step the network " +
    `removes a part of it, from all dots at once. ${pinned}.`;
  const gauge = el("div", { class: "gauge" }, el("p", {}, "Mean distance from the finished plan: ", gap), progress);
  const ramp = el("div", { class: "ramp" }, el("span", {}, "start"), el("i", {}), el("span", {}, "end of the plan"));
  const moments = strip(view, film, first, jump);
  return section("film", "A plan comes out of noise", lead, stage(plot, controls, gauge, ramp, moments));
}
