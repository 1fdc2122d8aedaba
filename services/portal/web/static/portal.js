// The portal's only script: the menu on a phone, and live regions over server-sent events. Everything works without it.
document.documentElement.classList.add("js");

const menu = document.querySelector("[data-menu]");
if (menu) {
  const folded = document.getElementById(menu.getAttribute("aria-controls"));
  folded.classList.add("folded");
  menu.addEventListener("click", () => {
    const open = menu.getAttribute("aria-expanded") !== "true";
    menu.setAttribute("aria-expanded", String(open));
    folded.classList.toggle("folded", !open);
  });
}

for (const chooser of document.querySelectorAll("[data-submits]")) {
  chooser.addEventListener("change", () => chooser.form.requestSubmit());
}

// Nothing is replaced between the two halves of a click: it would be lost.
let pressed = false;
let waiting = new Map();
window.addEventListener("pointerdown", () => {
  pressed = true;
});
for (const ended of ["pointerup", "pointercancel"]) {
  window.addEventListener(ended, () =>
    window.setTimeout(() => {
      pressed = false;
      for (const [region, html] of waiting) show(region, html);
      waiting = new Map();
    }),
  );
}

/** Replace what a region holds, and put back the focus, what is unfolded, and how far tables are scrolled. */
function show(region, html) {
  if (pressed) {
    waiting.set(region, html);
    return;
  }
  const held = region.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...region.querySelectorAll("details[open][id]")].map((one) => one.id);
  const scrolled = [...region.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  region.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  region.querySelectorAll(".scroll").forEach((one, place) => {
    one.scrollLeft = scrolled[place] ?? 0;
  });
  if (held) document.getElementById(held)?.focus({ preventScroll: true });
}

/** Keep a region as it is on the server; a hidden page rests. */
function live(region) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(region.dataset.live);
    source.onmessage = (message) => {
      region.classList.remove("lost");
      show(region, message.data);
    };
    source.addEventListener("signed-out", () => window.location.reload());
    source.onerror = () => {
      region.classList.add("lost");
      if (source.readyState !== EventSource.CLOSED) return;
      source = null;
      window.setTimeout(open, 5000);
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) open();
    else if (source) {
      source.close();
      source = null;
    }
  });
  window.addEventListener("pagehide", () => source?.close());
  open();
}

document.querySelectorAll("[data-live]").forEach(live);

/** Ask anew now and then for a small thing that every page shows, in all its places; a hidden page rests. */
function polled(path) {
  window.setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(path);
      if (!answer.ok || answer.redirected) return;
      const html = await answer.text();
      for (const place of document.querySelectorAll(`[data-polled="${path}"]`)) place.innerHTML = html;
    } catch {
      // The server is away: what was read last stays.
    }
  }, 10000);
}

const places = [...document.querySelectorAll("[data-polled]")];
new Set(places.map((place) => place.dataset.polled)).forEach(polled);
