// A button that turns a page dark or light, whatever the system says.

export function offerTheme(button) {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  button.addEventListener("click", () => {
    const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });
}
