// The page from top to bottom. A section whose data is missing is left out.

const EXPLANATION =
  "A diffusion planner imagines a whole route at once: it begins with random noise in place of the future, and a " +
  "network trained on recorded motion cleans it up step by step until a plan is left that leads from where the " +
  "agent stands to where it wants to be.";

const EXPLANATION_OF_POLICIES =
  "A policy answers what it sees with an action. One made by diffusion draws the action out of noise, so that it may " +
  "answer otherwise when it is asked again: where its data knew several good actions, it can keep them all.";

const planned = (data) =>
  data.futures || data.film.length > 1 || data.episodes.some((episode) => episode.plan.length);

function headerSection(data) {
  const facts = [
    ["Algorithm", data.algorithm],
    ["Task", data.task],
    ["Made", data.created],
  ].filter(([, value]) => value);
  return el(
    "header",
    { class: "top" },
    el("p", { class: "eyebrow" }, "Ornstein · run report"),
    el("h1", {}, data.title || "Run report"),
    planned(data) ? el("p", { class: "explain" }, EXPLANATION) : null,
    data.choices ? el("p", { class: "explain" }, EXPLANATION_OF_POLICIES) : null,
    facts.length
      ? el(
          "dl",
          { class: "facts" },
          ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))),
        )
      : null,
  );
}

const isGroup = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function setting(value) {
  if (value === null || value === undefined) return "\u2013";
  return typeof value === "string" ? value : JSON.stringify(value);
}

// Settings by group; a group's heading is its name on the command line.
function configGroups(config, path) {
  const entries = Object.entries(config);
  const plain = entries.filter(([, value]) => !isGroup(value));
  const here = plain.length
    ? el(
        "div",
        { class: "group" },
        el("h3", {}, path || "run"),
        el("dl", {}, ...plain.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, setting(value))))),
      )
    : null;
  const below = entries.filter(([, value]) => isGroup(value));
  return [here, ...below.flatMap(([name, value]) => configGroups(value, path ? `${path}.${name}` : name))].filter(
    Boolean,
  );
}

const configSection = (config) =>
  section(
    "config",
    "Configuration",
    null,
    el(
      "details",
      { class: "card" },
      el("summary", {}, `All ${countLeaves(config)} settings`),
      el("div", { class: "groups" }, ...configGroups(config, "")),
    ),
  );

const countLeaves = (config) =>
  Object.values(config).reduce((n, value) => n + (isGroup(value) ? countLeaves(value) : 1), 0);

function timingTable(timing) {
  const longest = Math.max(...Object.values(timing).filter(known), 1e-9);
  const row = ([name, value]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el(
        "td",
        { class: "meter" },
        known(value) ? el("i", { style: `width:${((100 * Math.max(0, value)) / longest).toFixed(1)}%` }) : null,
      ),
      el("td", { class: "num" }, duration(value)),
    );
  return el("table", {}, el("tbody", {}, ...Object.entries(timing).map(row)));
}

const versionTable = (versions) =>
  el(
    "table",
    {},
    el(
      "tbody",
      {},
      ...Object.entries(versions).map(([name, value]) =>
        el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "num" }, setting(value))),
      ),
    ),
  );

const filled = (value) => value && Object.keys(value).length > 0;

function backgroundSection({ timing, versions }) {
  const part = (title, table) => el("div", { class: "card" }, el("h3", {}, title), table);
  return section(
    "background",
    "Time and versions",
    null,
    el(
      "div",
      { class: "halves" },
      filled(timing) ? part("Where the time went", timingTable(timing)) : null,
      filled(versions) ? part("Made with", versionTable(versions)) : null,
    ),
  );
}

function build(data) {
  const curves = data.curves.filter((curve) => curve.points.length > 1);
  const film = data.film.filter((frame) => frame.length);
  const episodes = data.episodes.filter((episode) => pointsOf(episode).length);
  const shown = { ...data, film, episodes };
  return [
    headerSection(shown),
    filled(data.scores)
      ? section("scores", "Scores", null, el("div", { class: "cards" }, ...data.scores.map(scoreCard)))
      : null,
    filled(data.measures)
      ? section("measures", "Measures", null, el("div", { class: "cards" }, ...data.measures.map(measureCard)))
      : null,
    episodes.length ? episodesSection(shown) : null,
    film.length > 1 ? filmSection(shown) : null,
    data.futures && data.futures.plans.length ? futuresSection(data) : null,
    data.futures && data.futures.film.frames.length > 1 ? futureFilmSection(data) : null,
    data.choices ? choicesSection(data) : null,
    data.movie ? movieSection(data) : null,
    curves.length ? curvesSection(curves) : null,
    filled(data.notes)
      ? section(
          "notes",
          "Notes",
          null,
          el("ul", { class: "notes" }, ...data.notes.map((note) => el("li", {}, String(note)))),
        )
      : null,
    filled(data.config) ? configSection(data.config) : null,
    filled(data.timing) || filled(data.versions) ? backgroundSection(data) : null,
  ].filter(Boolean);
}

document.getElementById("page").append(...build(JSON.parse(document.getElementById("data").textContent)));
document.documentElement.dataset.ready = "true";
