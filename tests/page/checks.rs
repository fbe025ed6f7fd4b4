//! What is asked of any state of the page, in the page's own words: scripts that return what is wrong.

/// Text whose contrast with what is behind it is below 4.5 (WCAG 2.2, success criterion 1.4.3; relative luminance as it defines it).
pub const FAINT: &str = r#"
const numbers = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => top[i] * a + below[i] * (1 - a)); };
function ground(node) {
  const layers = [];
  for (let at = node; at; at = at.parentElement) layers.push(numbers(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
}
function ratio(node, colour) {
  const behind = ground(node);
  const [a, b] = [luminance(over(colour, behind)), luminance(behind)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}
const faint = [];
let seen = 0;
function judge(node, text, colour) {
  if (!node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || node.closest(".away, .skip, noscript")) return;
  seen += 1;
  const is = ratio(node, colour);
  if (is < 4.5) faint.push(`${is.toFixed(2)} ${node.tagName}.${node.className} "${text.trim().slice(0, 40)}"`);
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode;
  if (text.textContent.trim()) judge(text.parentElement, text.textContent, numbers(getComputedStyle(text.parentElement).color));
}
for (const field of document.querySelectorAll("input, select")) {
  judge(field, field.name || field.id, numbers(getComputedStyle(field).color));
  if (field.placeholder) judge(field, field.placeholder, numbers(getComputedStyle(field, "::placeholder").color));
}
for (const node of document.querySelectorAll(".state, .cards [data-label]")) {
  judge(node, "what stands before it", numbers(getComputedStyle(node, "::before").color));
}
return { faint, seen };
"#;

/// Everything that can be operated, as `tag#id name`, that has no name or cannot have the focus.
pub const NAMELESS: &str = r#"
const wrong = [];
for (const node of document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")) {
  if (!node.checkVisibility() || node.closest("noscript")) continue;
  const by = (node.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
  const labels = [...(node.labels ?? [])].map((label) => label.textContent).join(" ");
  const own = ["A", "BUTTON", "SUMMARY"].includes(node.tagName) ? node.textContent : "";
  const name = [node.getAttribute("aria-label"), by, labels, own].map((text) => (text ?? "").trim()).find(Boolean);
  if (!name || node.tabIndex < 0) wrong.push(`${node.outerHTML.slice(0, 100)}: name ${name}, tabIndex ${node.tabIndex}`);
}
for (const table of document.querySelectorAll("table")) {
  if (!table.caption?.textContent.trim()) wrong.push(`${table.id} has no caption`);
  for (const th of table.querySelectorAll("th")) if (!th.scope) wrong.push(`${table.id}: a th without a scope`);
}
const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
for (const id of ids.filter((id, at) => ids.indexOf(id) !== at)) wrong.push(`two elements have the id ${id}`);
return wrong;
"#;

/// Everything that the focus can be on, in the document's order: what pressing Tab must come by.
pub const STOPS: &str = r#"
return [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((node) => node.checkVisibility() && !node.closest("noscript") && !node.closest("details:not([open]) > .fields")).length;
"#;

/// What has the focus, as something to compare by, and whether it can be seen to have it.
pub const FOCUS: &str = r#"
const node = document.activeElement;
const all = [...document.querySelectorAll("*")];
return { at: all.indexOf(node), tag: node.tagName, name: node.name ?? "", id: node.id, ring: getComputedStyle(node).outlineStyle !== "none" };
"#;

/// What is wider than the window, where the page as a whole would scroll sideways.
pub const WIDE: &str = r#"
const root = document.documentElement;
if (root.scrollWidth <= window.innerWidth) return [];
return [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > window.innerWidth && !node.closest(".scroll"))
  .map((node) => `${root.scrollWidth}: ${node.tagName}#${node.id}.${node.className}`).slice(0, 8);
"#;
