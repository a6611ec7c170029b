"use strict";
// What every page can do: be light or dark.

const one = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

function theme() {
  const button = one("#theme"), root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const remember = (name) => { try { localStorage.setItem("itk_ncr-theme", name); } catch { /* a page without storage */ } };
  const remembered = () => { try { return localStorage.getItem("itk_ncr-theme"); } catch { return null; } };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  const tell = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    button.textContent = isDark() ? "Dark theme: on" : "Dark theme: off";
  };
  const kept = remembered();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    tell();
  });
  preferred.addEventListener("change", tell);
  tell();
}

theme();
