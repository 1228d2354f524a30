// Calls of the server: JSON in, JSON or a stream of parts out. Three errors tell what to do: Gone (wait), NeedsKey (ask), Refused (say it).

export class Gone extends Error {}
export class NeedsKey extends Error {}
export class Refused extends Error {}

export function keepKey(key) { sessionStorage.setItem("storycell-key", key); }

async function request(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem("storycell-key");
  if (key) headers.Authorization = `Bearer ${key}`;
  const options = body === undefined ? { headers, signal } : { method: "POST", headers, signal, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("the server does not answer");
  }
  if (response.ok) return response;
  if (response.status === 401) throw new NeedsKey("the server asks for its key");
  const said = await response.json().catch(() => null);
  throw new Refused(said?.error?.message ?? `the server answered ${response.status}`);
}

export async function call(path, body, signal) {
  const response = await request(path, body, signal);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone("the answer broke off");
  }
}

export const isThere = () => fetch("/health").then((response) => response.ok, () => false);

// The parts of a completion as they come: {text, nats: [of each character], finish}.
export async function* parts(body, signal) {
  const response = await request("/v1/completions", { ...body, stream: true, score: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Gone("the story broke off");
    }
    if (piece.done) throw new Gone("the story broke off");
    waiting += piece.value;
    const events = waiting.split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const choice = JSON.parse(data).choices[0];
      yield { text: choice.text, nats: choice.nats, finish: choice.finish_reason };
    }
  }
}
