// One episode, filmed. It can be stopped, and does not move by itself for those who asked their system for calm.

function movieSection({ movie }) {
  if (!movie.gif) return section("movie", "An episode", null, el("p", { class: "lead" }, `No film: ${movie.missing}`));
  const words = `${movie.about[0].toUpperCase()}${movie.about.slice(1)}: ${number(movie.steps)} steps`;
  const lead = `${words}${known(movie.return) ? `, return ${number(movie.return)}` : ""}.`;
  const image = el("img", { alt: `Film of ${movie.about}`, src: movie.still });
  const button = el("button", { type: "button", class: "quiet" });
  let running = false;
  const set = (on) => {
    running = on;
    image.setAttribute("src", on ? movie.gif : movie.still);
    button.textContent = on ? "Stop" : "Play";
  };
  button.addEventListener("click", () => set(!running));
  set(!window.matchMedia("(prefers-reduced-motion: reduce)").matches);
  return section("movie", "An episode", lead, el("div", { class: "movie card" }, image, button));
}
