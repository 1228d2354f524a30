// Copies what the package is made of from the Python package into lib/, and the two modules as text, so that nothing has to be
// fetched or read from a disk: `node build.mjs [PYTHON PACKAGE]`.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url)), lib = join(here, "lib");
const web = join(process.argv[2] ?? join(here, "..", "..", "src", "storycell"), "web");

rmSync(lib, { recursive: true, force: true });
mkdirSync(join(lib, "learn"), { recursive: true });
const NAMES = ["model.js", "model.d.ts", "engine.js", "pieces.js", "learn/blake2b.js", "learn/corpus.js", "learn/run_folder.js", "learn/trainer.js"];
for (const name of NAMES) cpSync(join(web, name), join(lib, name));
const text = (name) => JSON.stringify(readFileSync(join(web, name)).toString("base64"));
writeFileSync(join(lib, "modules.js"), `export const simd = ${text("engine.wasm")};\nexport const relaxed = ${text("engine-relaxed.wasm")};\n`);
