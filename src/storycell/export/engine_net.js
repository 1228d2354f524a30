// The network of a page, computed by the engine: what `storycell.network` of runtime.js gives, and many times faster.
//
// The engine gives states and logits. The gates of a trace, which it does not hand out, are computed by the plain network
// from the states, and only where somebody looks at them (`fill`).

// `plain` is the network of runtime.js, `precision` "fp32" or "int8" (whole numbers, for speed). In int8 the text that is
// given (`read`) is read in float32, as `storycell sample` does.
export function engineNet(engine, plain, precision) {
  const { values, H, L, P, shape, pastAt } = plain;
  const exact = engine.createNetwork(shape, plain.weights(), "fp32");
  const network = precision === "fp32" ? exact : engine.createNetwork(shape, plain.weights(), precision);
  const states = values.filter((name) => name === "h" || name === "c");
  const next = new WeakMap(), whole = new WeakSet(); // the logits of what follows a trace; traces with their gates
  const spare = plain.newTrace();
  let latest = {}; // the trace that was made last, and its state, from which most steps go on

  function stateOf(trace) {
    if (trace === latest.trace) return latest.state;
    const state = Object.fromEntries(states.map((name) => [name, new Float32Array(L * H)]));
    for (const name of states)
      for (let l = 0; l < L; l++) state[name].set(trace.subarray(plain.placeOf(l, name, 0), plain.placeOf(l, name, H)), l * H);
    if (P) state.past = trace.subarray(pastAt);
    return state;
  }

  function stepOf(by, id, before, after) {
    const { state, logits } = by.step(id, before && stateOf(before));
    for (const name of states)
      for (let l = 0; l < L; l++) after.set(state[name].subarray(l * H, (l + 1) * H), plain.placeOf(l, name, 0));
    if (P) after.set(state.past, pastAt);
    latest = { trace: after, state };
    next.set(after, logits);
    whole.delete(after);
  }

  function logits(trace, out) {
    const known = next.get(trace);
    if (known) out.set(known);
    else plain.logits(trace, out); // one that the plain network has made
  }

  function fill(id, before, trace) {
    if (whole.has(trace) || !next.has(trace)) return;
    whole.add(trace);
    plain.step(id, before, spare);
    for (const name of values.filter((one) => !states.includes(one)))
      for (let l = 0; l < L; l++) trace.set(spare.subarray(plain.placeOf(l, name, 0), plain.placeOf(l, name, H)), plain.placeOf(l, name, 0));
  }

  return {
    ...plain, logits, fill,
    step: (id, before, after) => stepOf(network, id, before, after),
    read: (id, before, after) => stepOf(exact, id, before, after),
  };
}
