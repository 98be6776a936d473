"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  if (stored()) root.dataset.theme = stored();
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* kept for this page only */ }
  });

  const holder = document.getElementById("data");
  const place = document.getElementById("example");
  if (!holder || !place) return;
  const { notes, visible: first, examples } = JSON.parse(holder.textContent);
  const byId = (id) => document.getElementById(id);
  const models = [...new Set(examples.flatMap((e) => e.answers.map((a) => a.model)))];
  const visible = new Set(first);
  let kind = "";
  let at = 0;

  // Texts of models and users reach the page as text nodes alone, never as markup.
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };
  const chosen = () => examples.filter((e) => !kind || e.kinds.includes(kind));

  const verdict = (feedback) => {
    const node = make("div", "verdict");
    node.append(make("span", "tag", feedback.source + " "), make("b", "", feedback.verdict));
    if (feedback.rationale) node.append(make("span", "why", feedback.rationale));
    if (feedback.raw.length) {
      const fold = make("details", "raw");
      fold.append(make("summary", "", "as it came"));
      feedback.raw.forEach((text) => fold.append(make("p", "why", text)));
      node.append(fold);
    }
    return node;
  };
  const card = (answer) => {
    const node = make("article", "card");
    node.append(make("h3", "", answer.model));
    if (notes[answer.model]) node.append(make("p", "how", notes[answer.model]));
    const empty = !answer.text.trim();
    node.append(make("p", empty ? "says empty" : "says", empty ? "(empty answer)" : answer.text));
    answer.feedback.forEach((f) => node.append(verdict(f)));
    return node;
  };
  const show = () => {
    const some = chosen();
    at = Math.min(Math.max(at, 0), Math.max(some.length - 1, 0));
    byId("position").textContent = some.length ? `${at + 1} of ${some.length}` : "none";
    byId("previous").disabled = at === 0;
    byId("next").disabled = at >= some.length - 1;
    place.replaceChildren();
    const example = some[at];
    if (!example) return;
    const prompt = make("div", "prompt");
    prompt.append(make("p", "tag", example.kinds.join(" · ")));
    example.turns.forEach(([role, text], i) => {
      if (example.turns.length > 1) prompt.append(make("p", "role", role));
      prompt.append(make("p", i === example.turns.length - 1 ? "text" : "", text));
    });
    if (example.reference) prompt.append(make("p", "tag", "Reference: " + example.reference));
    const answers = make("div", "answers");
    example.answers.filter((a) => visible.has(a.model)).forEach((a) => answers.append(card(a)));
    place.append(prompt, answers);
  };

  models.forEach((model) => {
    const chip = make("button", "", model);
    chip.type = "button";
    const mark = () => chip.setAttribute("aria-pressed", String(visible.has(model)));
    chip.addEventListener("click", () => {
      visible.has(model) ? visible.delete(model) : visible.add(model);
      mark();
      show();
    });
    mark();
    byId("models").append(chip);
  });
  const go = (step) => { at += step; show(); };
  byId("previous").addEventListener("click", () => go(-1));
  byId("next").addEventListener("click", () => go(1));
  byId("kind").addEventListener("change", (event) => { kind = event.target.value; at = 0; show(); });
  byId("examples").addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT") return;
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });
  show();
})();
