// The text as notes, and as sound: under the story of a page whose model writes ABC tunes.
//
// It listens for the event `story`, whose detail is the text, once that has stopped to grow. abcjs draws, and says what is
// to be heard when; its own synthesiser would load instruments from the network, so here oscillators sound.

/* global ABCJS */

const LOUDNESS = 0.15;
const RELEASE_S = 0.06;

function makePart(tag, about = {}, ...inside) {
  const made = Object.assign(document.createElement(tag), about);
  made.append(...inside);
  return made;
}

const play = makePart("button", { type: "button", textContent: "Play", id: "play" });
const heard = makePart("output", { className: "note" });
const notes = makePart("div", { className: "card", id: "notes" });
const tuneSection = makePart("section", { hidden: true, id: "tune" }, makePart("div", { className: "row" }, play, heard), notes);
tuneSection.setAttribute("aria-label", "The tune");
notes.setAttribute("role", "img");

let drawn = null; // what abcjs makes of the text
let sounding = null; // {audio, until, marks} while it plays

// The notes to be heard: [{pitch, begin, end (seconds), from (place in the text)}].
function listen(tune) {
  const { tracks } = tune.setUpAudio({});
  const { num, den } = tune.getMeterFraction();
  const wholeNote_s = tune.millisecondsPerMeasure() / 1000 / (num / den);
  return tracks.flat().filter((event) => event.cmd === "note").map((event) => ({
    pitch: event.pitch,
    begin: event.start * wholeNote_s,
    end: (event.start + event.duration) * wholeNote_s,
    from: event.startChar,
  }));
}

let shownText = null;

function show(text) {
  if (text === shownText) return; // what else has changed does not silence it
  shownText = text;
  stopSound();
  const at = text.search(/^X:/m);
  tuneSection.hidden = at < 0;
  if (at < 0) return;
  try {
    [drawn] = ABCJS.renderAbc(notes, text.slice(at), { responsive: "resize", add_classes: true, staffwidth: 700 });
    const until = Math.max(0, ...listen(drawn).map((note) => note.end));
    heard.textContent = `${until.toFixed(0)} seconds`;
    notes.setAttribute("aria-label", `The tune as notes: ${drawn.metaText.title ?? "without a title"}`);
    play.disabled = until === 0;
  } catch {
    drawn = null; // a model may write what cannot be drawn
    notes.replaceChildren("This is no tune yet.");
    notes.setAttribute("aria-label", "This is no tune yet.");
    heard.textContent = "";
    play.disabled = true;
  }
}

function sound(tune) {
  const audio = new AudioContext(), all = listen(tune), begin_s = audio.currentTime + 0.1;
  const volume = new GainNode(audio, { gain: LOUDNESS });
  volume.connect(audio.destination);
  for (const note of all) {
    const tone = new OscillatorNode(audio, { type: "triangle", frequency: 440 * 2 ** ((note.pitch - 69) / 12) });
    const envelope = new GainNode(audio, { gain: 0 });
    const [from, to] = [begin_s + note.begin, begin_s + Math.max(note.end, note.begin + RELEASE_S)];
    envelope.gain.setValueAtTime(0, from);
    envelope.gain.linearRampToValueAtTime(1, from + 0.01);
    envelope.gain.setValueAtTime(0.8, to - RELEASE_S / 2);
    envelope.gain.linearRampToValueAtTime(0, to);
    tone.connect(envelope).connect(volume);
    tone.start(from);
    tone.stop(to);
  }
  sounding = { audio, begin_s, notes: all, until: Math.max(...all.map((note) => note.end)) };
  play.textContent = "Stop";
  requestAnimationFrame(follow);
}

// Marks the notes that are heard.
function follow() {
  if (!sounding) return;
  const now = sounding.audio.currentTime - sounding.begin_s;
  mark(sounding.notes.filter((note) => note.begin <= now && now < note.end));
  if (now > sounding.until) stopSound();
  else requestAnimationFrame(follow);
}

function mark(now) {
  for (const element of notes.querySelectorAll(".sounding")) element.classList.remove("sounding");
  for (const { from } of now) {
    for (const element of drawn.getElementFromChar(from)?.abselem?.elemset ?? []) element.classList.add("sounding");
  }
}

function stopSound() {
  if (!sounding) return;
  sounding.audio.close();
  sounding = null;
  mark([]);
  play.textContent = "Play";
}

document.getElementById("story-section").append(tuneSection);
document.addEventListener("story", (event) => show(event.detail));
play.addEventListener("click", () => (sounding ? stopSound() : sound(drawn)));
