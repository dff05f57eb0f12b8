// What a reader with a keyboard, a screen reader or weak eyes needs, checked on the page as it is drawn.
// Returns a list of sentences; an empty one is a pass.
() => {
  const wrong = [];
  const say = (what, element) => wrong.push(`${what}: ${element.outerHTML.replace(/\s+/g, " ").slice(0, 140)}`);
  const shown = (e) => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  const name = (e) => {
    const by = e.getAttribute("aria-labelledby");
    if (by) return by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim();
    const own = e.getAttribute("aria-label");
    if (own) return own.trim();
    if (e.labels?.length) return [...e.labels].map((l) => l.textContent).join(" ").trim();
    return (e.textContent || e.getAttribute("alt") || e.querySelector("title")?.textContent || "").trim();
  };

  if (!document.documentElement.lang) wrong.push("the page has no language");
  if (!document.title) wrong.push("the page has no title");
  if (document.querySelectorAll("main").length !== 1) wrong.push("the page has not one main");
  if (document.querySelectorAll("h1").length !== 1) wrong.push("the page has not one h1");

  let last = 0;
  for (const h of document.querySelectorAll("main h1, main h2, main h3, main h4")) {
    const level = Number(h.tagName[1]);
    if (level > last + 1) say(`heading ${last} is followed by ${level}`, h);
    last = level;
  }
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href], dialog, nav"))
    if (!name(e)) say("has no name", e);
  for (const e of document.querySelectorAll("[role=img], [role=region], [role=group]"))
    if (!name(e)) say("has a role and no name", e);
  for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!e.labels?.length && !e.getAttribute("aria-label")) say("has no label", e);
  for (const e of document.querySelectorAll("svg:not([aria-hidden]):not([role])"))
    if (!e.closest("[role=img], [aria-hidden]")) say("is neither hidden nor named", e);
  for (const e of document.querySelectorAll("thead th")) if (!e.scope) say("heads a column and does not say so", e);
  for (const e of document.querySelectorAll("tbody th")) if (!e.scope) say("heads a row and does not say so", e);
  for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby], [aria-controls]"))
    for (const attribute of ["aria-describedby", "aria-labelledby", "aria-controls"])
      for (const id of (e.getAttribute(attribute) || "").split(" ").filter(Boolean))
        if (!document.getElementById(id)) say(`points to #${id}, which is not there`, e);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1 && !/^\d|^layer|^gradient/.test(id)) wrong.push(`id ${id} is there twice`);
  for (const e of document.querySelectorAll("[tabindex]")) if (Number(e.getAttribute("tabindex")) > 0) say("jumps the order", e);
  for (const e of document.querySelectorAll(".scroll")) if (e.scrollWidth > e.clientWidth + 1 && shown(e) && e.tabIndex < 0 && !e.querySelector("a[href], button")) say("scrolls and cannot be reached by key", e);
  for (const e of document.querySelectorAll("main a[href], main button")) {
    const box = e.getBoundingClientRect();
    if (shown(e) && !e.closest("svg") && (box.width < 8 || box.height < 12)) say("is too small to press", e);
  }

  // Contrast of each text as it is computed, against what lies under it.
  const parse = (text) => { const n = (text.match(/[\d.]+/g) || []).map(Number); return n.length < 3 ? null : [n[0], n[1], n[2], n[3] ?? 1]; };
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const ground = (e) => {
    const box = e.closest("svg.graph a")?.querySelector("rect");
    if (box) return parse(getComputedStyle(box).fill);
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour && colour[3] > 0) { layers.push(colour); if (colour[3] === 1) break; }
    }
    return layers.reverse().reduce((under, top) => over(top, under), parse(getComputedStyle(document.documentElement).backgroundColor));
  };
  let least = 99;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, e = text.parentElement;
    if (!text.textContent.trim() || !shown(e) || e.closest("script, style, noscript, .vh, symbol, option, [disabled]")) continue;
    if (!e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const colour = parse(e instanceof SVGElement ? style.fill : style.color), under = ground(e);
    if (!colour || !under) { say("has a colour that cannot be read", e); continue; }
    const ink = over(colour, under);
    const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    least = Math.min(least, ratio);
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)} of "${text.textContent.trim().slice(0, 30)}"`, e);
    if (parseFloat(style.fontSize) < 10.9) say(`text of ${style.fontSize}`, e);
  }
  if (least === 99) wrong.push("no text was seen");
  return wrong;
}
