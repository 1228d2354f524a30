// A run folder as a zip: the files that `storycell train --resume` and `storycell eval` read, and the text beside them.

import { Blake2b } from "./blake2b.js";
import { TABLE } from "../engine.js";
import { decoder, encoder, pythonString } from "./corpus.js";

// ---- JSON as Python writes it ----

// json.dumps(value, sort_keys=True); with `indent` as it is written for people. Numbers lie between 1e-4 and 1e16, where both
// languages write them alike.
export function pythonJson(value, { sorts = false, indent = null } = {}) {
  const write = (one, depth) => {
    if (typeof one === "string") return pythonString(one);
    if (one === null || typeof one !== "object") return JSON.stringify(one);
    const isList = Array.isArray(one), keys = isList ? one.keys() : sorts ? Object.keys(one).sort() : Object.keys(one);
    const parts = Array.from(keys, (key) => (isList ? "" : `${pythonString(key)}: `) + write(one[key], depth + 1));
    const [open, close] = isList ? "[]" : "{}";
    if (indent === null || !parts.length) return open + parts.join(", ") + close;
    const gap = `\n${" ".repeat(indent * (depth + 1))}`;
    return open + gap + parts.join(`,${gap}`) + `\n${" ".repeat(indent * depth)}` + close;
  };
  return write(value, 0);
}

// A number that both languages write alike.
export const tidy = (number) => (Math.abs(number) < 1e-4 ? 0 : Number(number.toPrecision(9)));

// ---- safetensors ----

const tuple = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);
const bytesOf = (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

function digestOf(tensors, about) {
  const content = new Blake2b(16).update(encoder.encode(pythonJson(about, { sorts: true })));
  for (const name of Object.keys(tensors).sort()) {
    const { shape, values } = tensors[name];
    const type = values instanceof Int8Array ? "int8" : "float32";
    content.update(encoder.encode(`${name}${tuple(shape)}torch.${type}`)).update(bytesOf(values));
  }
  return content.hex();
}

// {name: {shape, values}}, of float32 or int8, and a JSON object about them -> the bytes of a file.
export function packTensors(tensors, about) {
  const header = { __metadata__: { format: "pt", about: pythonJson({ ...about, digest: digestOf(tensors, about) }) } };
  let at = 0;
  for (const name of Object.keys(tensors).sort()) {
    const { shape, values } = tensors[name];
    header[name] = { dtype: values instanceof Int8Array ? "I8" : "F32", shape, data_offsets: [at, at + values.byteLength] };
    at += values.byteLength;
  }
  let text = encoder.encode(JSON.stringify(header));
  const size = Math.ceil(text.length / 8) * 8, out = new Uint8Array(8 + size + at);
  new DataView(out.buffer).setBigUint64(0, BigInt(size), true);
  out.fill(32, 8, 8 + size);
  out.set(text, 8);
  for (const [name, place] of Object.entries(header))
    if (name !== "__metadata__") out.set(bytesOf(tensors[name].values), 8 + size + place.data_offsets[0]);
  return out;
}

// The bytes of a file -> {tensors, about}; float16 is widened. Pages of before there were matches called the table otherwise.
export function readTensors(bytes) {
  const size = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const { __metadata__: metadata, ...entries } = JSON.parse(decoder.decode(bytes.subarray(8, 8 + size)));
  const tensors = {};
  for (const [stored, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
    const name = stored.replace("ngram_table.", "context_table.");
    const data = bytes.slice(8 + size + start, 8 + size + end).buffer;
    if (dtype === "F32") tensors[name] = { shape, values: new Float32Array(data) };
    else if (dtype === "I8") tensors[name] = { shape, values: new Int8Array(data) };
    else if (dtype === "F16") tensors[name] = { shape, values: Float32Array.from(new Uint16Array(data), half) };
    else throw new Error(`${name} is of the type ${dtype}, which the page does not read`);
  }
  return { tensors, about: JSON.parse(metadata.about) };
}

// model.safetensors stores the context's table in bytes, with a scale for each row, and of some runs all
// matrices (quantized.py of storycell).
const scaleOf = (name) => name.replace("weight", "scale");

export function inBytes(tensors) {
  if (!tensors[TABLE]) return tensors;
  const { shape: [R, D], values } = tensors[TABLE], scales = new Float32Array(R), bytes = new Int8Array(R * D);
  for (let row = 0; row < R; row++) {
    let most = 0;
    for (let at = row * D; at < (row + 1) * D; at++) most = Math.max(most, Math.abs(values[at]));
    scales[row] = most / 127 || 1;
    for (let at = row * D; at < (row + 1) * D; at++) bytes[at] = Math.round(values[at] / scales[row]);
  }
  return { ...tensors, [TABLE]: { shape: [R, D], values: bytes }, [scaleOf(TABLE)]: { shape: [R], values: scales } };
}

// The weights of a file, Float32Arrays by name.
export function weightsOf(tensors) {
  const weights = Object.fromEntries(Object.entries(tensors).map(([name, { values }]) => [name, values]));
  for (const [name, { shape: [R, D], values }] of Object.entries(tensors)) {
    const scales = tensors[scaleOf(name)]?.values;
    if (!(values instanceof Int8Array) || !scales) continue;
    const matrix = (weights[name] = Float32Array.from(values));
    for (let row = 0; row < R; row++) for (let at = row * D; at < (row + 1) * D; at++) matrix[at] *= scales[row];
    delete weights[scaleOf(name)];
  }
  return weights;
}

function half(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
}

// ---- zip ----

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// {path: bytes} -> a zip in which nothing is packed.
export function zip(files) {
  const parts = [], places = [];
  let at = 0;
  for (const [path, bytes] of Object.entries(files)) {
    const name = encoder.encode(path), head = new DataView(new ArrayBuffer(30));
    const fields = (view, from) => {
      view.setUint16(from, 0x0800, true); // UTF-8
      view.setUint16(from + 6, 0x21, true); // the first of January 1980
      view.setUint32(from + 8, crc32(bytes), true);
      view.setUint32(from + 12, bytes.length, true);
      view.setUint32(from + 16, bytes.length, true);
      view.setUint16(from + 20, name.length, true);
    };
    head.setUint32(0, 0x04034b50, true);
    head.setUint16(4, 20, true);
    fields(head, 6);
    const entry = new DataView(new ArrayBuffer(46));
    entry.setUint32(0, 0x02014b50, true);
    entry.setUint16(4, 20, true);
    entry.setUint16(6, 20, true);
    fields(entry, 8);
    entry.setUint32(42, at, true);
    parts.push(new Uint8Array(head.buffer), name, bytes);
    places.push(new Uint8Array(entry.buffer), name);
    at += 30 + name.length + bytes.length;
  }
  const listed = places.reduce((sum, part) => sum + part.length, 0), end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, places.length / 2, true);
  end.setUint16(10, places.length / 2, true);
  end.setUint32(12, listed, true);
  end.setUint32(16, at, true);
  const out = new Uint8Array(at + listed + 22);
  let to = 0;
  for (const part of [...parts, ...places, new Uint8Array(end.buffer)]) {
    out.set(part, to);
    to += part.length;
  }
  return out;
}

// The files of a zip by their names without folders; those that are packed are unpacked.
export async function unzip(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), files = {};
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("This is no zip.");
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const packed = view.getUint16(at + 10, true), size = view.getUint32(at + 20, true), length = view.getUint16(at + 28, true);
    const from = view.getUint32(at + 42, true), name = decoder.decode(bytes.subarray(at + 46, at + 46 + length));
    const start = from + 30 + view.getUint16(from + 26, true) + view.getUint16(from + 28, true);
    const data = bytes.slice(start, start + size);
    if (!name.endsWith("/")) files[name.split("/").at(-1)] = packed ? await inflated(data) : data;
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}

async function inflated(data) {
  return new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer());
}
