// The world seen from above: walls, plans and the paths really driven.

const SIZE = 600; // the longer side of a picture, in its own units

// The part of the plane a picture shows, and the way from its metres to the picture's units.
function makeView(scene, points, margin) {
  const box = scene ? sceneBox(scene, margin) : fitBox(points, margin);
  const gutter = scene ? { left: 2, bottom: 2 } : { left: 44, bottom: 30 };
  const scale = SIZE / Math.max(box.x1 - box.x0, box.y1 - box.y0);
  const width = (box.x1 - box.x0) * scale;
  const height = (box.y1 - box.y0) * scale;
  const at = ([x, y]) => [gutter.left + (x - box.x0) * scale, 2 + (box.y1 - y) * scale];
  const clamp = ([x, y]) => [Math.min(box.x1, Math.max(box.x0, x)), Math.min(box.y1, Math.max(box.y0, y))];
  return {
    ...box,
    scene,
    scale,
    at,
    clamp,
    gutter,
    width: gutter.left + width + 2,
    height: gutter.bottom + height + 2,
  };
}

// A margin below 0 cuts into the walls around the maze, but never into a maze that is open there.
function sceneBox({ map, cell }, wanted) {
  const edge = [...map[0], ...map[map.length - 1], ...map.flatMap((row) => [row[0], row[row.length - 1]])];
  const margin = edge.every(Boolean) ? wanted : Math.max(0, wanted);
  const [w, h] = [(map[0].length / 2 + margin) * cell, (map.length / 2 + margin) * cell];
  return { x0: -w, x1: w, y0: -h, y1: h };
}

function fitBox(points, margin) {
  const [[x0, x1], [y0, y1]] = [0, 1].map((axis) => extent(points.map((p) => p[axis])));
  const side = Math.max(x1 - x0, y1 - y0) || 1;
  const pad = (0.06 + 0.1 * Math.max(0, margin)) * side;
  const [w, h] = [x1 - x0, y1 - y0].map((size) => pad + Math.max(size, 0.6 * side) / 2); // no thin slices
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return { x0: x - w, x1: x + w, y0: y - h, y1: y + h };
}

const pointsOf = (episode) => [...episode.plan, ...episode.path, episode.start, episode.goal].filter(Boolean);

function picture(view, label, className) {
  const attributes = { class: className, viewBox: `0 0 ${view.width.toFixed(1)} ${view.height.toFixed(1)}` };
  return svg(
    "svg",
    label ? { ...attributes, role: "img", "aria-label": label } : { ...attributes, "aria-hidden": "true" },
    ...ground(view),
  );
}

const ground = (view) => (view.scene ? mazeGround(view) : axesGround(view));

function mazeGround(view) {
  const { map, cell } = view.scene;
  const [w, h] = [map[0].length, map.length];
  const [x0, y0] = view.at([(-w / 2) * cell, (h / 2) * cell]);
  const side = cell * view.scale;
  const square = (row, column, grow) => {
    const size = (side + 2 * grow).toFixed(1);
    const [x, y] = [x0 + column * side - grow, y0 + row * side - grow];
    return `M${x.toFixed(1)} ${y.toFixed(1)}h${size}v${size}h-${size}z`;
  };
  const cells = map.flatMap((line, row) => line.map((wall, column) => ({ wall, row, column })));
  const free = cells
    .filter((c) => !c.wall)
    .map((c) => square(c.row, c.column, 0))
    .join("");
  const walls = cells
    .filter((c) => c.wall)
    .map((c) => square(c.row, c.column, 0.3))
    .join("");
  return [svg("path", { class: "floor", d: free }), svg("path", { class: "walls", d: walls })];
}

function axesGround(view) {
  const [left, top] = view.at([view.x0, view.y1]);
  const [right, bottom] = view.at([view.x1, view.y0]);
  const out = [svg("rect", { class: "floor", x: left, y: top, width: right - left, height: bottom - top, rx: 4 })];
  for (const v of ticks(view.x0, view.x1, 6)) {
    const [x] = view.at([v, 0]);
    out.push(svg("path", { class: "grid", d: `M${x} ${top}V${bottom}` }));
    out.push(svg("text", { class: "tick", x, y: bottom + 20, "text-anchor": "middle" }, number(v)));
  }
  for (const v of ticks(view.y0, view.y1, 6)) {
    const [, y] = view.at([0, v]);
    out.push(svg("path", { class: "grid", d: `M${left} ${y}H${right}` }));
    out.push(svg("text", { class: "tick", x: left - 8, y: y + 4, "text-anchor": "end" }, number(v)));
  }
  return out;
}

const trace = (view, points) => line(points.map((p) => view.at(view.clamp(p))));

const startMark = (view, point, size = 7) => {
  const [cx, cy] = view.at(point);
  return svg("circle", { class: "start", cx, cy, r: size });
};

function goalMark(view, point, size = 12) {
  const [cx, cy] = view.at(point);
  const corner = (i) => {
    const [r, angle] = [i % 2 ? 0.45 * size : size, (i * Math.PI) / 5];
    return [cx + r * Math.sin(angle), cy - r * Math.cos(angle)];
  };
  return svg("path", { class: "goal", d: `${line(Array.from({ length: 10 }, (_, i) => corner(i)))}z` });
}

function failMark(view, point, size = 9) {
  const [x, y] = view.at(view.clamp(point));
  const d = `M${x - size} ${y - size}l${2 * size} ${2 * size}m0 ${-2 * size}l${-2 * size} ${2 * size}`;
  return svg("g", { class: "failed" }, svg("path", { class: "halo", d }), svg("path", { class: "cross", d }));
}

// One episode: the path first, the dashed plan over it, the marks on top. `grow` enlarges marks in small pictures.
function episodeLayer(view, episode, grow = 1) {
  const end = episode.path[episode.path.length - 1] || episode.plan[episode.plan.length - 1];
  return svg(
    "g",
    { class: "episode" },
    svg("path", { class: "path", d: trace(view, episode.path) }),
    svg("path", { class: "plan", d: trace(view, episode.plan) }),
    episode.start ? startMark(view, episode.start, 7 * grow) : null,
    episode.goal ? goalMark(view, episode.goal, 12 * grow) : null,
    episode.success === false && end ? failMark(view, end, 9 * grow) : null,
  );
}

const outcome = (episode) => ({ true: "reached the goal", false: "missed the goal" })[String(episode.success)] || "";

function describe(episode, i) {
  const parts = [outcome(episode), known(episode.return) ? `return ${number(episode.return)}` : ""].filter(Boolean);
  return `Episode ${i + 1}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

function thumbnail(view, episode, i) {
  const sign = { true: "✓", false: "✕" }[String(episode.success)] || "";
  const small = picture(view, null, "world thumb");
  small.append(episodeLayer(view, episode, 2.4));
  return el(
    "button",
    {
      type: "button",
      class: `pick${episode.success === false ? " missed" : ""}`,
      "aria-label": describe(episode, i),
      "aria-pressed": "false",
    },
    small,
    el(
      "span",
      { class: "caption" },
      el("b", {}, String(i + 1)),
      sign ? el("i", {}, sign) : null,
      el("span", {}, number(episode.return)),
    ),
  );
}

function key(className, text) {
  const plane = { at: (p) => p, clamp: (p) => p };
  const marks = {
    start: () => startMark(plane, [8, 8], 5.5),
    goal: () => goalMark(plane, [8, 8.5], 8),
    failed: () => failMark(plane, [8, 8], 5),
  };
  const wide = marks[className] ? 16 : 30;
  const sample = svg(
    "svg",
    { class: "key", viewBox: `0 0 ${wide} 16`, width: wide, "aria-hidden": "true" },
    marks[className] ? marks[className]() : svg("path", { class: className, d: `M1 8H${wide - 1}` }),
  );
  return el("li", {}, sample, text);
}

function legend(episodes) {
  return el(
    "ul",
    { class: "legend" },
    episodes.some((e) => e.plan.length) ? key("plan", "plan") : null,
    key("path", "driven"),
    key("start", "start"),
    episodes.some((e) => e.goal) ? key("goal", "goal") : null,
    episodes.some((e) => e.success === false) ? key("failed", "missed") : null,
  );
}

// A picture of every episode to choose from: pointing at one shows it on the map, pressing it keeps it there.
function chooser(view, episodes, map, status) {
  const layers = episodes.map((episode) => map.appendChild(episodeLayer(view, episode)));
  const picks = episodes.map((episode, i) => thumbnail(view, episode, i));
  let chosen = 0;
  const show = (i) => {
    layers.forEach((layer, j) => layer.classList.toggle("chosen", i === j));
    map.append(layers[i]); // the last one drawn lies on top
    status.textContent = describe(episodes[i], i);
  };
  const choose = (i) => {
    chosen = i;
    picks.forEach((pick, j) => pick.setAttribute("aria-pressed", String(i === j)));
    show(i);
  };
  picks.forEach((pick, i) => {
    pick.addEventListener("click", () => choose(i));
    pick.addEventListener("pointerenter", () => show(i));
    pick.addEventListener("pointerleave", () => show(chosen));
  });
  choose(0);
  return el("div", { class: "picks", role: "group", "aria-label": "Episodes" }, ...picks);
}

function episodesSection(data) {
  const { scene, episodes } = data;
  const view = makeView(scene, episodes.flatMap(pointsOf), -0.62);
  const judged = episodes.filter((e) => typeof e.success === "boolean");
  const count = `${judged.filter((e) => e.success).length} of the ${judged.length} shown reached the goal.`;
  const reached = judged.length ? ` ${count}` : "";
  const plans = episodes.some((e) => e.plan.length);
  const drawn = plans ? "plans and the paths driven" : "paths driven";
  const map = picture(view, `${episodes.length} ${drawn}, seen from above.${reached}`, "world");
  const status = el("p", { class: "status", "aria-live": "polite" });
  const picks = chooser(view, episodes, map, status);
  const all = el("button", { type: "button", class: "quiet", "aria-pressed": "false" }, "Show all");
  all.addEventListener("click", () => all.setAttribute("aria-pressed", String(map.classList.toggle("all"))));
  const what = plans ? "Dashed is what the agent planned before it moved, solid is what it really drove." : "";
  const lead = `${what}${reached} Choose an episode to see it alone.`.trim();
  const row = el("div", { class: "row" }, status, episodes.length > 1 ? all : null);
  return section("episodes", plans ? "Plans and paths" : "Paths", lead, stage(map, legend(episodes), row, picks));
}

// A large picture, and beside it (on a phone below it) what belongs to it.
const stage = (plot, ...side) =>
  el("div", { class: "stage" }, el("div", { class: "canvas card" }, plot), el("div", { class: "side" }, ...side));
