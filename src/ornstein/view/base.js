// Building blocks: elements, numbers as text, ticks of an axis.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Text always enters as a text node, so that nothing in the data is read as markup.
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function section(id, title, lead, ...children) {
  const heading = el("h2", { id: `${id}-title` }, title);
  const intro = lead ? el("p", { class: "lead" }, lead) : null;
  return el("section", { id, "aria-labelledby": `${id}-title` }, heading, intro, ...children);
}

const known = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace("-", "\u2212");

function number(value, digits = 4) {
  if (!known(value)) return "\u2013";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e7)) {
    const [mantissa, exponent] = value.toExponential(Math.min(2, digits - 1)).split("e");
    return `${minus(String(Number(mantissa)))}\u00b710${raised(Number(exponent))}`;
  }
  return minus(
    Number(value.toPrecision(Math.max(digits, digitsBefore(value)))).toLocaleString("en", { maximumFractionDigits: 6 }),
  );
}

const digitsBefore = (value) => Math.min(21, Math.max(1, Math.floor(Math.log10(Math.abs(value) || 1)) + 1));
const raised = (n) =>
  String(n)
    .replace("-", "\u207b")
    .replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
const percent = (value, digits = 3) => (known(value) ? `${number(100 * value, digits)} %` : "\u2013");

// 12500 -> 12.5k
function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${number(value / 1e6)}M`;
  return size >= 1e4 ? `${number(value / 1e3)}k` : number(value);
}

function duration(seconds) {
  if (!known(seconds)) return typeof seconds === "string" ? seconds : "\u2013";
  if (seconds < 1) return `${number(1000 * seconds, 3)} ms`;
  if (seconds < 60) return `${number(seconds, 3)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

// Round numbers from lo to hi, about `count` of them.
function ticks(lo, hi, count = 5) {
  const raw = (hi - lo) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= raw * 0.999) || 10);
  const out = [];
  for (let i = Math.ceil(lo / step - 1e-9); i * step <= hi + 1e-9 * step; i++) out.push(i * step);
  return out;
}

const extent = (values) => values.reduce(([lo, hi], v) => [Math.min(lo, v), Math.max(hi, v)], [Infinity, -Infinity]);
const line = (pairs) => pairs.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
