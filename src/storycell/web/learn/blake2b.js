// BLAKE2b (RFC 7693), which storycell names texts, vocabularies and tensors by. 64-bit words are two halves of 32 bits.

const IV = Uint32Array.of(0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19);
const ORDER = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4], [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5], [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const QUARTERS = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]]
  .map((quarter) => quarter.map((k) => 2 * k));
const BLOCK = 128;

function add(v, a, low, high) {
  const sum = v[a] + low;
  v[a] = sum;
  v[a + 1] += high + (sum > 4294967295 ? 1 : 0);
}

// The function G of the standard on four words of v, with two of m.
function mix(v, m, quarter, x, y) {
  const a = quarter[0], b = quarter[1], c = quarter[2], d = quarter[3];
  add(v, a, v[b], v[b + 1]);
  add(v, a, m[x], m[x + 1]);
  let low = v[d] ^ v[a], high = v[d + 1] ^ v[a + 1];
  v[d] = high;
  v[d + 1] = low;
  add(v, c, v[d], v[d + 1]);
  low = v[b] ^ v[c];
  high = v[b + 1] ^ v[c + 1];
  v[b] = (low >>> 24) | (high << 8);
  v[b + 1] = (high >>> 24) | (low << 8);
  add(v, a, v[b], v[b + 1]);
  add(v, a, m[y], m[y + 1]);
  low = v[d] ^ v[a];
  high = v[d + 1] ^ v[a + 1];
  v[d] = (low >>> 16) | (high << 16);
  v[d + 1] = (high >>> 16) | (low << 16);
  add(v, c, v[d], v[d + 1]);
  low = v[b] ^ v[c];
  high = v[b + 1] ^ v[c + 1];
  v[b] = (low << 1) | (high >>> 31);
  v[b + 1] = (high << 1) | (low >>> 31);
}

export class Blake2b {
  #h = IV.slice();
  #v = new Uint32Array(32);
  #m = new Uint32Array(32);
  #block = new Uint8Array(BLOCK);
  #view = new DataView(this.#block.buffer);
  #used = 0;
  #total = 0;

  constructor(size = 16) {
    this.size = size; // bytes of the digest
    this.#h[0] ^= 0x01010000 ^ size;
  }

  update(bytes) {
    for (let at = 0; at < bytes.length;) {
      if (this.#used === BLOCK) this.#compress(false);
      const count = Math.min(BLOCK - this.#used, bytes.length - at);
      this.#block.set(bytes.subarray(at, at + count), this.#used);
      this.#used += count;
      at += count;
    }
    return this;
  }

  digest() {
    this.#block.fill(0, this.#used);
    this.#compress(true);
    return new Uint8Array(this.#h.buffer.slice(0, this.size));
  }

  hex() { return Array.from(this.digest(), (byte) => byte.toString(16).padStart(2, "0")).join(""); }

  #compress(isLast) {
    const v = this.#v, m = this.#m, h = this.#h;
    this.#total += this.#used;
    this.#used = 0;
    v.set(h);
    v.set(IV, 16);
    v[24] ^= this.#total;
    v[25] ^= Math.floor(this.#total / 4294967296);
    if (isLast) {
      v[28] = ~v[28];
      v[29] = ~v[29];
    }
    for (let k = 0; k < 32; k++) m[k] = this.#view.getUint32(4 * k, true);
    for (let round = 0; round < 12; round++) {
      const order = ORDER[round % 10];
      for (let q = 0; q < 8; q++) mix(v, m, QUARTERS[q], 2 * order[2 * q], 2 * order[2 * q + 1]);
    }
    for (let k = 0; k < 16; k++) h[k] ^= v[k] ^ v[k + 16];
  }
}
