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

/** Replace what a region holds, and put the focus back where it was. */
function show(region, html) {
  const held = region.contains(document.activeElement) ? document.activeElement.id : "";
  region.innerHTML = html;
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
