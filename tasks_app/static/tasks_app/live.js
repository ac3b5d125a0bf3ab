// Keeps what is on the page up to date: fetches the page again while something on it has not ended, and swaps the
// pieces that changed. Rests while the tab is hidden.
(() => {
  const EVERY_MS = 1000;
  const pieces = (root) => new Map([...root.querySelectorAll("[data-live]")].map((piece) => [piece.dataset.live, piece]));
  // Relative times change by themselves: that is no news.
  const news = (piece) => piece.outerHTML.replace(/(<time [^>]*>)[^<]*/g, "$1");

  const swap = (old, fresh) => {
    const opened = [...old.querySelectorAll("details[open][id]")].map((item) => item.id);
    const scrolled = [...old.querySelectorAll("[data-scroll]")].map((item) => item.scrollTop);
    old.replaceWith(fresh);
    opened.forEach((id) => fresh.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", ""));
    fresh.querySelectorAll("[data-scroll]").forEach((item, nth) => (item.scrollTop = scrolled[nth] ?? 0));
  };

  // The buttons of a page fit the state of what it shows: they are exchanged all at once.
  const buttons = (root) => root.querySelector("[data-live-button]")?.closest("ul");
  const exchange = (old, next) => {
    if (old && next && old.textContent !== next.textContent) {
      old.replaceChildren(...[...next.childNodes].map((node) => document.adoptNode(node)));
    }
  };

  const refresh = (root) => {
    exchange(buttons(document), buttons(root));
    const fresh = pieces(root);
    pieces(document).forEach((old, key) => {
      const next = fresh.get(key);
      if (!next) return;
      if (news(old) !== news(next)) return swap(old, document.adoptNode(next));
      const times = next.querySelectorAll("time");
      old.querySelectorAll("time").forEach((item, nth) => (item.textContent = times[nth].textContent));
    });
  };

  const look = async () => {
    if (!document.hidden && document.querySelector("[data-live-open]")) {
      try {
        const answer = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
        if (answer.ok) refresh(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } catch {
        // The server is away for a moment: the next look finds it again.
      }
    }
    setTimeout(look, EVERY_MS);
  };

  document.addEventListener("DOMContentLoaded", () => setTimeout(look, EVERY_MS));
})();
