// What every page needs of the browser: theme, the drawer on a phone, shortcuts, and whether anybody looks.
// Everything is delegated from the document: the page's elements come and go.
(() => {
  const root = document.documentElement;
  const themes = ["auto", "dark", "light"];
  const words = { auto: "automatic", dark: "dark", light: "light" };

  function theme() {
    return root.dataset.theme ?? "auto";
  }

  function label() {
    const button = document.querySelector(".rg-theme");
    const said = `Theme: ${words[theme()]}`;
    if (button && button.getAttribute("aria-label") !== said) {
      button.setAttribute("aria-label", said);
      button.title = said;
    }
  }

  function set(name) {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `rg_theme=${name}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    setDark(name === "auto" ? null : name === "dark");
    label();
    document.dispatchEvent(new Event("rg-theme"));
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    document.dispatchEvent(new Event("rg-theme")),
  );

  function drawer(open) {
    const shell = document.querySelector(".rg-shell");
    const menu = document.querySelector(".rg-menu");
    if (!shell || !menu || shell.classList.contains("rg-open") === open) return;
    shell.classList.toggle("rg-open", open);
    menu.setAttribute("aria-expanded", String(open));
    if (open) document.querySelector(".rg-nav a")?.focus();
    else menu.focus();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest(".rg-theme")) set(themes[(themes.indexOf(theme()) + 1) % 3]);
    else if (event.target.closest(".rg-menu")) drawer(!document.querySelector(".rg-open"));
    else if (!event.target.closest(".rg-nav")) drawer(false);
  });

  let pending = false;
  document.addEventListener("keydown", (event) => {
    active();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return drawer(false);
    const typing = event.target.closest?.("input, textarea, select, [contenteditable], [role=textbox], .q-dialog");
    if (typing) return;
    if (pending) {
      pending = false;
      const link = [...document.querySelectorAll("[data-rg-key]")].find((a) => a.dataset.rgKey === event.key);
      if (link) link.click(), event.preventDefault();
    } else if (event.key === "g") {
      pending = true;
      setTimeout(() => (pending = false), 1500);
    } else if (event.key === "/") {
      const search = document.querySelector("[data-rg-search] input, input[data-rg-search]");
      if (search) search.focus(), search.select(), event.preventDefault();
    } else if (event.key === "?") {
      const list = document.getElementById("rg-shortcuts");
      if (list?.open) list.close();
      else list?.showModal();
    }
  });

  function emit(name, value) {
    if (window.did_handshake) emitEvent(name, value);
  }
  document.addEventListener("visibilitychange", () => emit("rg_visible", !document.hidden));

  // A person is here: told at most once a minute, for the session's idle time.
  let told = Date.now();
  function active() {
    if (Date.now() - told < 60000) return;
    told = Date.now();
    emit("rg_active");
  }
  document.addEventListener("pointerdown", active);

  addEventListener("DOMContentLoaded", () => {
    new MutationObserver((_, observer) => {
      if (!document.querySelector(".rg-theme")) return;
      observer.disconnect();
      label();
    }).observe(document.body, { childList: true, subtree: true });
  });
})();
