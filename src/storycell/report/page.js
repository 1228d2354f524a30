// The frame's own behaviour: dark or light, where one is in the page, and saving figures.

import { offerTheme } from "../web/theme.js";

{
  offerTheme(document.getElementById("theme"));

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((a) => a.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => seen.observe(section));

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  // An SVG on its own knows no variables: put the colours that are seen now in their place.
  const resolved = (svg) => {
    const probe = document.body.appendChild(document.createElement("i"));
    const colour = (name) => { probe.style.color = name; return getComputedStyle(probe).color; };
    const text = new XMLSerializer().serializeToString(svg).replace(/var\(--\w+\)/g, colour);
    const paper = colour("var(--paper)");
    probe.remove();
    return text.replace(/<svg [^>]*>/, (tag) => `${tag}<rect width="100%" height="100%" fill="${paper}"/>`);
  };
  const savePng = (text, svg, name) => {
    const picture = new Image();
    const { width, height } = svg.viewBox.baseVal;
    picture.onload = () => {
      const canvas = Object.assign(document.createElement("canvas"), { width: width * 2, height: height * 2 });
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(blob, name));
      URL.revokeObjectURL(picture.src);
    };
    picture.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  };
  document.addEventListener("click", (event) => {
    const kind = event.target.dataset?.save;
    if (!kind) return;
    const figure = event.target.closest("figure");
    const name = `${figure.dataset.name}.${kind}`;
    if (kind === "json") {
      const numbers = figure.querySelector('script[type="application/json"]').textContent;
      return save(new Blob([numbers], { type: "application/json" }), name);
    }
    const svg = figure.querySelector(".drawing svg");
    const text = resolved(svg);
    if (kind === "svg") save(new Blob([text], { type: "image/svg+xml" }), name);
    else savePng(text, svg, name);
  });
}
