// The engine's two modules as they lie in a page of one file: elements of text, deflated and in base64 (`web/wasm.py` writes
// them).

import { Engine } from "./engine.js";

// The bytes of such a text; null where the browser cannot inflate.
export async function inflate(text) {
  if (typeof DecompressionStream === "undefined") return null;
  const packed = Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// {simd, relaxed}: the bytes of the modules in this page; null for what cannot be had.
export async function readModules() {
  const read = (id) => inflate(document.getElementById(id).textContent).catch(() => null);
  const [simd, relaxed] = await Promise.all(["engine-simd", "engine-relaxed"].map(read));
  return { simd, relaxed };
}

// The engine, or null where the browser does not take it: the page then does without.
export const loadEngine = () => readModules().then((modules) => Engine.load(modules)).catch(() => null);
