"use strict";
(async () => {
  const place = document.getElementById("item");
  const byId = (id) => document.getElementById(id);
  const query = new URLSearchParams(location.search);
  const who = byId("who");
  if (!query.get("annotator")) { who.hidden = false; return; }
  const annotator = query.get("annotator");
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const address = `${place.dataset.items}?annotator=${encodeURIComponent(annotator)}&next=${query.get("next") || ""}`;
  const reply = await fetch(address);
  const task = await reply.json();
  if (!reply.ok) { place.append(make("p", "warning", task.error)); return; }
  const items = task.items;
  const isDone = (item) => item.value !== null;
  const isOpen = (item) => !isDone(item) && !item.skipped;
  const asked = items.findIndex((item) => item.item === query.get("item"));
  let at = asked >= 0 ? asked : Math.max(0, items.findIndex(isOpen));

  const progress = () => {
    const done = items.filter(isDone).length;
    const skipped = items.filter((i) => i.skipped).length;
    byId("progress").textContent = `Item ${at + 1} of ${items.length}; ${done} rated, ${skipped} skipped` +
      (items.some(isOpen) ? "" : ". All done, thank you.");
    byId("open").disabled = !items.some(isOpen);
  };

  // One request at a time, in order, so that the last rating of an item is the one that counts.
  let queue = Promise.resolve();
  const save = (item) => {
    const body = { annotator, item: item.item, value: item.value, comment: item.comment, spans: item.spans };
    byId("saved").textContent = "saving";
    queue = queue.then(async () => {
      try {
        const answer = await fetch(place.dataset.save, {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
        });
        const found = await answer.json();
        byId("saved").textContent = answer.ok ? "saved" : `not saved: ${found.error}`;
        if (answer.ok && found.agreement.length) {
          byId("agreement").replaceChildren(...found.agreement.map((row) => make("li", "",
            `${row.partner}: equal ${(100 * row.share).toFixed(0)}%` +
            (row.low === null ? "" : ` [${(100 * row.low).toFixed(0)}, ${(100 * row.high).toFixed(0)}]`) +
            (row.kappa === null ? "" : `, kappa ${row.kappa.toFixed(2)}`) + `, n ${row.n}`)));
        }
      } catch { byId("saved").textContent = "not saved: no connection; rate it again"; }
    });
    return queue;
  };

  const rate = (value, go = true) => {
    const item = items[at];
    item.value = value;
    item.skipped = false;
    save(item);
    if (go) setTimeout(() => move(1), 120); else progress();
  };
  const skip = () => { const item = items[at]; item.value = null; item.skipped = true; save(item); move(1); };
  const move = (step) => { at = Math.min(Math.max(at + step, 0), items.length - 1); show(); };
  const next = () => {
    const later = items.findIndex((item, i) => i > at && isOpen(item));
    const any = items.findIndex(isOpen);
    if (later >= 0 || any >= 0) { at = later >= 0 ? later : any; show(); }
  };

  const text = (item, number) => {
    const node = make("p", "says");
    node.dataset.response = number;
    const words = item.texts[number];
    const spans = item.spans.filter((s) => s[0] === number).sort((a, b) => a[1] - b[1]);
    let from = 0;
    spans.forEach(([, start, end]) => {
      if (start < from) return;
      node.append(words.slice(from, start), make("mark", "", words.slice(start, end)));
      from = end;
    });
    node.append(words.slice(from));
    return node;
  };
  const markSelection = () => {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return;
    const range = selection.getRangeAt(0);
    const start = range.startContainer.parentElement.closest("[data-response]");
    if (!start || start !== range.endContainer.parentElement.closest("[data-response]")) return;
    const before = range.cloneRange();
    before.selectNodeContents(start);
    before.setEnd(range.startContainer, range.startOffset);
    const from = before.toString().length;
    const item = items[at];
    item.spans.push([Number(start.dataset.response), from, from + range.toString().length]);
    save(item);
    show();
  };

  const choices = (item) => {
    const box = make("div", "choices");
    const add = (label, value) => {
      const button = make("button", "", label);
      button.type = "button";
      button.setAttribute("aria-pressed", String(item.value === value));
      button.addEventListener("click", () => rate(value));
      box.append(button);
    };
    if (task.form === "pair") { add("A is better", 0); add("Tie", "tie"); add("B is better", 1); }
    if (task.form === "scale") for (let v = task.scale[0]; v <= task.scale[1]; v += 1) add(String(v), v);
    if (task.form === "labels") task.labels.forEach((label) => add(label, label));
    if (task.form === "ranking") {
      const ranks = item.value ? [...item.value] : item.texts.map(() => null);
      item.texts.forEach((_, i) => {
        const label = make("label", "", `${String.fromCharCode(65 + i)} `);
        const input = make("input");
        input.type = "number"; input.min = 1; input.max = item.texts.length;
        if (ranks[i] !== null) input.value = ranks[i];
        input.addEventListener("change", () => {
          ranks[i] = input.value === "" ? null : Number(input.value);
          if (ranks.every((r) => Number.isInteger(r) && r >= 1 && r <= item.texts.length)) rate([...ranks], false);
        });
        label.append(input);
        box.append(label);
      });
    }
    if (task.form === "text") {
      const area = make("textarea");
      area.rows = 4; area.value = item.value || ""; area.setAttribute("aria-label", "Your words");
      area.addEventListener("change", () => { if (area.value.trim()) rate(area.value, false); });
      area.addEventListener("keydown", (e) => { if (e.key === "Enter" && e.ctrlKey && area.value.trim()) rate(area.value); });
      box.append(area);
    }
    return box;
  };

  const show = () => {
    const item = items[at];
    place.replaceChildren();
    const url = new URL(location.href);
    url.searchParams.set("item", item.item);
    history.replaceState(null, "", url);
    const prompt = make("div", "prompt");
    item.turns.forEach((turn) => {
      const node = make("div", "turn");
      node.append(make("span", "role", turn.role), make("p", "says", turn.content));
      prompt.append(node);
    });
    const two = make("div", "two");
    item.texts.forEach((_, i) => {
      const card = make("article", "card");
      if (item.texts.length > 1) card.append(make("h2", "", String.fromCharCode(65 + i)));
      card.append(text(item, i));
      two.append(card);
    });
    const comment = make("label", "");
    comment.append(make("span", "tag", "Comment "));
    const area = make("textarea");
    area.id = "comment"; area.rows = 2; area.value = item.comment;
    area.addEventListener("change", () => { item.comment = area.value; save(item); });
    area.addEventListener("keydown", (e) => { if (e.key === "Escape") area.blur(); });
    comment.append(area);
    const more = make("div", "choices");
    [["Back (k)", () => move(-1)], ["Skip (s)", skip], ["On (j)", () => move(1)], ["Mark selected words (m)", markSelection],
      ["Remove marks", () => { item.spans = []; save(item); show(); }]].forEach(([label, act]) => {
      const button = make("button", "", label);
      button.type = "button";
      button.addEventListener("click", act);
      more.append(button);
    });
    place.append(prompt, two, choices(item), comment, more);
    progress();
  };

  byId("open").addEventListener("click", next);
  document.addEventListener("keydown", (event) => {
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const digit = /^[0-9]$/.test(key) ? Number(key) : null;
    let used = true;
    if (key === "j" || key === "arrowright") move(1);
    else if (key === "k" || key === "arrowleft") move(-1);
    else if (key === "n") next();
    else if (key === "s") skip();
    else if (key === "m") markSelection();
    else if (key === "c") byId("comment").focus();
    else if (task.form === "pair" && (key === "a" || digit === 1)) rate(0);
    else if (task.form === "pair" && (key === "b" || digit === 2)) rate(1);
    else if (task.form === "pair" && (key === "t" || digit === 0)) rate("tie");
    else if (task.form === "scale" && digit !== null && digit >= task.scale[0] && digit <= task.scale[1]) rate(digit);
    else if (task.form === "labels" && digit && digit <= task.labels.length) rate(task.labels[digit - 1]);
    else used = false;
    if (used) event.preventDefault();
  });
  show();
})();
