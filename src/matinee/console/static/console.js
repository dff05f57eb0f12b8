// The console's one script: charts, the theme switch, keys. Every page reads without it.
(() => {
  "use strict";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const scheme = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ------------------------------------------------------------------ charts
  // Specifications lie in the page as data. The title is in the page already, as text that wraps.
  const houses = () => JSON.parse(document.getElementById("chart-houses").textContent);
  async function draw(figure) {
    const spec = JSON.parse(figure.querySelector("script.spec").textContent);
    delete spec.title;
    const place = figure.querySelector(".vega");
    const old = place.vegaView;
    const { view } = await vegaEmbed(place, spec, {
      mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: false, config: houses()[scheme()],
    });
    if (old) old.finalize();
    place.vegaView = view;
    place.dataset.scheme = scheme();
  }
  async function drawAll(within = document) {
    if (typeof vegaEmbed === "undefined") return;
    try { await document.fonts.ready; } catch { /* labels are then measured in the fallback face */ }
    for (const figure of all("figure.chart:has(script.spec)", within)) {
      try { await draw(figure); } catch (error) {
        figure.querySelector(".drawn").remove();
        const table = figure.querySelector("details.data");
        if (table) table.open = true;
        console.error(error);
      }
    }
  }
  // Tables under charts lie open for readers without scripts; with them, they start closed.
  const closeTables = (within = document) => {
    for (const table of all("details.data:not([data-ready])", within)) { table.open = false; table.dataset.ready = ""; }
  };

  // ------------------------------------------------------------------- theme
  const redraw = () => drawAll();
  document.querySelector(".theme")?.addEventListener("click", () => {
    root.dataset.theme = scheme() === "dark" ? "light" : "dark";
    try { localStorage.setItem("matinee-theme", root.dataset.theme); } catch { /* it holds for this page only */ }
    redraw();
  });
  system.addEventListener("change", () => { if (!root.dataset.theme) redraw(); });

  // -------------------------------------------------------------------- keys
  const box = document.getElementById("q");
  const found = document.getElementById("found");
  const keys = document.getElementById("keys");
  const typing = (element) => element.closest("input:not([type=radio]):not([type=checkbox]), select, textarea, [contenteditable]");
  const closeFound = () => { if (found) found.textContent = ""; };
  let pending = null; // the first key of a pair such as "g f"

  function step(list, from, by) {
    const at = list.indexOf(from);
    const next = list[Math.min(list.length - 1, Math.max(0, at + by))];
    if (next && next !== from) next.focus();
    return next;
  }
  // One stop a row: the first link or button in it.
  const stops = (area) => {
    const rows = all("tbody tr, li", area).map((row) => row.querySelector("a[href], button")).filter(Boolean);
    return rows.length ? rows : all("a[href], button", area);
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const here = event.target instanceof Element ? event.target : document.body;
    if (event.key === "Escape") {
      if (found?.hasChildNodes()) { closeFound(); box.focus(); }
      return;
    }
    if (here === box || here.closest("#found")) {
      const hits = all("#found a[href]");
      if (event.key === "ArrowDown" && hits.length) { event.preventDefault(); here === box ? hits[0].focus() : step(hits, here, 1); return; }
      if (event.key === "ArrowUp" && here !== box) { event.preventDefault(); here === hits[0] ? box.focus() : step(hits, here, -1); return; }
    }
    if (typing(here)) return;
    if (pending === "g") {
      pending = null;
      const link = document.querySelector(`.nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); return; }
    }
    if (event.key === "/") { event.preventDefault(); box.focus(); box.select(); return; }
    if (event.key === "?") { event.preventDefault(); if (!keys.open) keys.showModal(); return; }
    if (event.key === "g") { pending = "g"; setTimeout(() => { pending = null; }, 1200); return; }
    const press = document.querySelector(`main [data-press="${CSS.escape(event.key.toLowerCase())}"]`);
    if (press && event.key.length === 1) { event.preventDefault(); press.click(); return; }
    const by = { ArrowDown: 1, ArrowUp: -1, ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const area = here.closest("[data-arrows]");
    if (!area) return;
    const sideways = event.key === "ArrowRight" || event.key === "ArrowLeft";
    if (sideways !== (area.dataset.arrows === "sideways") && area.dataset.arrows !== "both") return;
    event.preventDefault();
    if (area.dataset.arrows === "both") { nearest(area, here, event.key); return; }
    const list = stops(area);
    step(list, list.includes(here) ? here : here.closest("tr, li")?.querySelector("a[href], button") ?? list[0], by);
  });

  // In a drawing, arrows go to the nearest thing in that direction.
  function nearest(area, from, key) {
    const middle = (element) => { const b = element.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
    const [x, y] = middle(from);
    const along = key === "ArrowLeft" || key === "ArrowRight" ? 0 : 1;
    const sign = key === "ArrowRight" || key === "ArrowDown" ? 1 : -1;
    let best = null, least = Infinity;
    for (const other of all("a[href]", area)) {
      if (other === from) continue;
      const [ox, oy] = middle(other);
      const far = sign * (along === 0 ? ox - x : oy - y);
      if (far < 8) continue;
      const cost = far + 2.5 * Math.abs(along === 0 ? oy - y : ox - x);
      if (cost < least) { least = cost; best = other; }
    }
    if (best) { best.focus(); best.scrollIntoView({ block: "nearest", inline: "nearest" }); }
  }

  // A page preview has hundreds of posters: a row is one stop of the tab key, arrows move within it.
  for (const row of all(".shelf.long[data-arrows]")) {
    const posters = all("a[href]", row);
    const first = posters.find((a) => a.hasAttribute("aria-current")) ?? posters[0];
    for (const a of posters) a.tabIndex = a === first ? 0 : -1;
    row.addEventListener("focusin", (event) => {
      const now = event.target.closest("a[href]");
      if (now) for (const a of posters) a.tabIndex = a === now ? 0 : -1;
    });
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("a[href='#keys']") && keys) { event.preventDefault(); keys.showModal(); return; }
    if (found && !event.target.closest(".find")) closeFound();
  });
  document.querySelector(".find")?.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !event.relatedTarget.closest(".find")) closeFound();
  });
  box?.addEventListener("input", () => { if (!box.value.trim()) closeFound(); });

  // -------------------------------------------------------- what htmx put in
  // A question or a result that came in place takes the focus, so that it is read and the next key works on it.
  document.addEventListener("htmx:after:swap", () => {
    closeTables();
    for (const fresh of all("[data-charts]:not([data-drawn])")) { fresh.dataset.drawn = ""; drawAll(fresh); }
    const news = document.querySelector("main [data-news]:not([data-told])");
    if (news) { news.dataset.told = ""; news.focus({ preventScroll: false }); }
  });

  // ------------------------------------------------------------------- start
  closeTables();
  for (const there of all("[data-charts]")) there.dataset.drawn = "";
  for (const current of all(".nav [aria-current]")) current.parentElement.scrollLeft = Math.max(0, current.offsetLeft - 16);
  for (const area of all(".scroll.latest")) area.scrollLeft = area.scrollWidth;
  const focus = document.querySelector(".graph .focus");
  if (focus) { const area = focus.closest(".scroll"), box = focus.getBoundingClientRect(); area.scrollLeft += box.x - area.getBoundingClientRect().x - 40; }
  drawAll();
})();
