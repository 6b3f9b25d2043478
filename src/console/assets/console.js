// What moves, in the reader's time. Pages work without it.
"use strict";
(() => {
  const zone = root => {
    const today = new Date().toDateString();
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (isNaN(at)) continue;
      const two = n => String(n).padStart(2, "0");
      const day = at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate());
      const clock = two(at.getHours()) + ":" + two(at.getMinutes());
      const small = time.querySelector("small");
      const text = at.toDateString() === today ? clock + ":" + two(at.getSeconds()) : day + " " + clock;
      if (small) time.firstChild.nodeValue = text; else time.textContent = text;
    }
  };
  const busy = part => part.contains(document.activeElement) || part.matches(":hover") || part.querySelector("details[open], form :checked[data-hold]")
    || (String(getSelection()) && part.contains(getSelection().anchorNode));
  let heard = Date.now();
  const renew = async () => {
    let answer;
    try { answer = await fetch(location.href, { headers: { accept: "text/html" } }); } catch { return; }
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    heard = Date.now();
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
      if (next && !busy(part)) { zone(next); part.replaceWith(next); }
    }
  };
  zone(document);
  const again = document.querySelector("[data-again]");
  if (again) setTimeout(() => location.reload(), again.dataset.again * 1000);

  let still = new URLSearchParams(location.search).get("live") === "0";
  const word = (en, zh) => document.documentElement.lang.startsWith("zh") ? zh : en;
  if (document.querySelectorAll("[data-live]").length > 1) {
    let source;
    const listen = () => {
      source = new EventSource("/live");
      source.addEventListener("tick", () => { if (!still && !document.hidden) renew(); });
    };
    listen();
    addEventListener("pagehide", () => source.close());
    addEventListener("pageshow", event => { if (event.persisted) listen(); });
    setInterval(() => {
      const line = document.querySelector('[data-live="as-of"]');
      if (line && !still && !document.hidden && Date.now() - heard > 15000 && !line.classList.contains("warn")) {
        line.classList.remove("live"); line.classList.add("warn");
        line.prepend(word("no news since ", "此后没有更新："));
      }
    }, 2000);
  }

  // Keys. None of them changes data; off in fields, with modifiers, and when switched off.
  const pages = { o: "/", f: "/find", d: "/dead", u: "/doubts", w: "/actions", b: "/batches" };
  let wait = "", row = -1;
  const step = by => {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    row = Math.max(0, Math.min(rows.length - 1, row + by));
    rows[row].querySelector("a")?.focus();
  };
  addEventListener("keydown", event => {
    const field = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && field) { field.blur(); return; }
    if (field || event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem("keys") === "off") return;
    if (wait === "g" && pages[event.key]) { location.href = pages[event.key]; return; }
    wait = event.key === "g" ? "g" : "";
    const act = {
      "/": () => document.getElementById("q")?.focus(),
      j: () => step(1), k: () => step(-1),
      x: () => document.activeElement.closest("[data-row]")?.querySelector("[type=checkbox]")?.click(),
      n: () => document.querySelector("a[rel=next]")?.click(), p: () => history.back(),
      ".": () => { still = !still; const line = document.querySelector('[data-live="as-of"]'); line?.classList.toggle("live", !still); },
      "?": () => { location.href = "/about#keys"; },
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  const toggle = document.getElementById("keys-switch");
  if (toggle) {
    toggle.checked = localStorage.getItem("keys") !== "off";
    toggle.addEventListener("change", () => localStorage.setItem("keys", toggle.checked ? "on" : "off"));
  }
})();
