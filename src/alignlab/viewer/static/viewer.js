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

  // Forms put only what was chosen into the address.
  document.querySelectorAll("form.filter:not(#new):not(#who)").forEach((form) => {
    form.addEventListener("formdata", (event) => {
      [...event.formData.entries()].forEach(([name, value]) => { if (value === "") event.formData.delete(name); });
    });
    form.querySelectorAll("select, input[type=range]").forEach((select) => {
      if (form.role === "search") select.addEventListener("change", () => form.requestSubmit());
    });
  });

  const typing = (target) => /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable;
  document.addEventListener("keydown", (event) => {
    if (typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
    const link = document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    if (event.key === "/") {
      const search = document.querySelector("input[type=search]");
      if (search) { event.preventDefault(); search.focus(); }
    }
  });

  // A mark leads where the name of its row leads.
  document.querySelectorAll(".forest .row").forEach((row) => {
    const link = row.querySelector(".label a");
    if (!link) return;
    row.classList.add("leads");
    row.addEventListener("click", (event) => { if (!event.target.closest("a")) link.click(); });
  });

  const plain = document.getElementById("plain");
  if (plain) plain.addEventListener("click", () => {
    const on = document.getElementById("main").classList.toggle("plain");
    plain.setAttribute("aria-pressed", String(on));
  });

  const button = document.getElementById("compare");
  if (button) {
    const form = button.form;
    const picks = [...document.querySelectorAll(".pick")];
    const update = () => {
      const chosen = picks.filter((p) => p.checked);
      button.disabled = chosen.length !== 2;
      if (chosen.length === 2) [form.a.value, form.b.value] = chosen.map((p) => p.value);
    };
    picks.forEach((p) => p.addEventListener("change", update));
    update();
  }

  const fresh = document.querySelector("[data-fresh]");
  const live = document.body.dataset.live;
  if (fresh && live && document.body.dataset.state !== "done") {
    let version = null;
    const poll = async () => {
      try {
        const found = await (await fetch(live)).json();
        if (version !== null && found.version !== version && !document.hidden) {
          location.reload();
          return;
        }
        version = found.version;
      } catch { /* the server was stopped; try again */ }
      setTimeout(poll, 2000);
    };
    poll();
  }

  const task = document.getElementById("new");
  const needed = () => task.querySelectorAll("[data-form]").forEach((field) => {
    field.hidden = field.dataset.form !== task.elements.form.value;
  });
  if (task) { task.elements.form.addEventListener("change", needed); needed(); }
  if (task) task.addEventListener("submit", async (event) => {
    event.preventDefault();
    const scale = task.scale.value.split(" to ").map(Number);
    const body = {
      filter: Object.fromEntries(new URLSearchParams(task.dataset.filter)),
      form: task.elements.form.value,
      models: [...task.querySelectorAll("input[name=models]:checked")].map((box) => box.value),
      number: Number(task.number.value),
      scale,
      labels: task.labels.value.split(",").map((l) => l.trim()).filter(Boolean),
      instructions: task.instructions.value,
    };
    const reply = await fetch(location.pathname, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const found = await reply.json();
    if (reply.ok) location.href = location.pathname;
    else document.getElementById("made").textContent = found.error;
  });
})();
