"use strict";
// The sheet: clicks and keys become votes. A vote is shown at once, dotted until the service has it on its disk.

const sheet = document.getElementById("sheet");
const stamps = [...sheet.querySelectorAll(".stamp")];
const token = document.querySelector('meta[name="csrf"]').content;
const said = document.getElementById("said");
const trouble = document.getElementById("trouble");
const next = document.getElementById("next");
const closer = document.getElementById("closer");
const closerContent = document.getElementById("closer-content");
const closerAnswers = document.getElementById("closer-answers");
const closerSaid = document.getElementById("closer-said");
const stretch = document.getElementById("stretch");

const CYCLE = ["yes", "no", "unsure", "skip"];
const KEYS = { y: "yes", n: "no", u: "unsure", s: "skip" };

let queue = Promise.resolve(); // requests go out one after the other, so that undo finds the vote before it
let waiting = 0;
let current = 0;
let opened = null; // the stamp that the dialog was opened for
let atLarge = null; // the stamp whose galaxy is to be seen there: not while it loads, nor for a neighbour
let asked = 0;
let leaving = false;

function requestKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(action, content) {
  const body = JSON.stringify(content);
  const headers = { "content-type": "application/json", "x-csrf-token": token };
  for (let attempt = 0; ; attempt += 1) {
    let answer;
    try {
      answer = await fetch(`/rounds/${sheet.dataset.round}/${action}`, { method: "POST", headers, body });
    } catch {
      if (attempt < 3) { // the same key again: what arrived the first time does not count twice
        await new Promise((resume) => setTimeout(resume, 400 * 2 ** attempt));
        continue;
      }
      throw new Error("the service does not answer");
    }
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(told.error || `the service answered ${answer.status}`);
    return told;
  }
}

function later(work) {
  waiting += 1;
  queue = queue.then(work).catch((error) => {
    trouble.textContent = `Not kept: ${error.message}. Load the page again to see what is.`;
    trouble.hidden = false;
    closerSaid.textContent = trouble.textContent;
  }).finally(() => { waiting -= 1; });
  return queue;
}

function show(stamp, answer) {
  stamp.dataset.answer = answer || "";
  const picture = stamp.querySelector(".picture");
  picture.setAttribute("aria-label", picture.dataset.name + (answer ? `, ${answer}` : ""));
}

function vote(stamp, answer) {
  const before = stamp.dataset.answer;
  show(stamp, answer);
  stamp.classList.add("waiting");
  said.textContent = `${stamp.querySelector(".picture").dataset.name}: ${answer}`;
  later(async () => {
    try {
      await send("votes", { place: Number(stamp.dataset.place), answer, key: requestKey() });
    } catch (error) {
      show(stamp, before);
      throw error;
    } finally {
      stamp.classList.remove("waiting");
    }
  });
}

function undo() {
  later(async () => {
    const told = await send("undo", { key: requestKey() });
    if (told.place === null) {
      said.textContent = "Nothing left to undo on this sheet.";
      return;
    }
    show(stamps[told.place], told.answer);
    focusOn(told.place);
    const before = sheet.dataset.check ? "as it was before" : "without an answer";
    said.textContent = `Taken back; now ${told.answer || before}.`;
  });
}

function goOn() {
  if (leaving) return;
  leaving = true;
  later(async () => {}).then(() => {
    if (!trouble.hidden) { leaving = false; return; }
    document.getElementById("next-button").disabled = true;
    next.submit();
  });
}

function answerTheRest(answer) {
  later(async () => {
    const told = await send("rest", { answer, key: requestKey() });
    for (const place of told.places) show(stamps[place], told.answer);
  });
  goOn();
}

function focusOn(place) {
  current = Math.max(0, Math.min(stamps.length - 1, place));
  stamps[current].querySelector(".picture").focus();
}

function columns() {
  const top = stamps[0].offsetTop;
  const below = stamps.findIndex((stamp) => stamp.offsetTop > top);
  return below < 0 ? stamps.length : below;
}

async function fill(address, stamp) {
  const ticket = ++asked; // an answer that comes after a newer question is not shown
  const url = new URL(address, location.href);
  url.searchParams.set("part", "true");
  atLarge = null;
  closerAnswers.hidden = true;
  let content;
  try {
    const answer = await fetch(url, { headers: { accept: "application/json" } });
    if (answer.ok) {
      content = [...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes];
    } else {
      const told = await answer.json().catch(() => ({}));
      content = [told.error || `the service answered ${answer.status}`];
      stamp = null;
    }
  } catch {
    content = ["the service does not answer"];
    stamp = null;
  }
  if (ticket !== asked) return;
  closerContent.replaceChildren(...content);
  atLarge = stamp;
  closerAnswers.hidden = !stamp;
  if (stamp) press(stamp.dataset.answer);
}

function press(answer) {
  for (const button of closerAnswers.querySelectorAll("[data-closer]")) {
    button.setAttribute("aria-pressed", String(button.dataset.closer === answer));
  }
}

function lookCloser(stamp) {
  opened = stamp;
  closerContent.textContent = "…";
  if (!closer.open) {
    closerSaid.textContent = "";
    closer.showModal();
  }
  const blind = sheet.dataset.blind ? "&blind=true" : "";
  fill(`/galaxies/${sheet.dataset.catalogue}/${stamp.dataset.row}?stretch=${stretch.value}${blind}`, stamp);
}

function answerAtLarge(answer) {
  if (!atLarge) return;
  vote(atLarge, answer);
  closerSaid.textContent = said.textContent;
  const following = stamps[stamps.indexOf(atLarge) + 1];
  if (following) lookCloser(following); else backToSheet();
}

stamps.forEach((stamp, place) => {
  stamp.addEventListener("focusin", () => { current = place; });
  stamp.querySelector(".picture").addEventListener("click", (event) => {
    if (event.detail === 0) return; // Enter and space have meanings of their own
    vote(stamp, CYCLE[(CYCLE.indexOf(stamp.dataset.answer) + 1) % CYCLE.length]);
  });
  stamp.querySelector(".zoom").addEventListener("click", () => lookCloser(stamp));
  stamp.querySelectorAll("[data-say]").forEach((button) => {
    button.addEventListener("click", () => vote(stamp, button.dataset.say));
  });
});

// Links to neighbours and other stretches stay in the dialog.
closerContent.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="/galaxies/"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const same = new URL(link.href).pathname.endsWith(`/${opened.dataset.row}`);
  fill(link.href, same ? opened : null);
});
function backToSheet() {
  closer.close();
  atLarge = null;
  focusOn(stamps.indexOf(opened)); // the browser puts it where the dialog was opened, some answers ago
}
closer.addEventListener("close", () => { if (!closer.open) backToSheet(); }); // it may be open again by then
closerAnswers.querySelectorAll("[data-closer]").forEach((button) => {
  button.addEventListener("click", () => answerAtLarge(button.dataset.closer));
});

stretch.value = sessionStorage.getItem("stretch") || "viewer";
function restretch() {
  sessionStorage.setItem("stretch", stretch.value);
  for (const stamp of stamps) {
    stamp.querySelector("img").src = `/stamps/${sheet.dataset.catalogue}/${stamp.dataset.row}/${stretch.value}.jpg`;
  }
}
stretch.addEventListener("change", restretch);
if (stretch.value !== "viewer") restretch();

next.addEventListener("submit", (event) => { event.preventDefault(); goOn(); });
document.getElementById("undo").addEventListener("click", undo);
document.querySelectorAll("[data-rest]").forEach((button) => {
  button.addEventListener("click", () => answerTheRest(button.dataset.rest));
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (closer.open) {
    if (event.key in KEYS && !event.repeat) {
      answerAtLarge(KEYS[event.key]);
    } else if (event.key === " " && !target.closest("button, a")) {
      backToSheet();
    } else {
      return;
    }
    event.preventDefault();
    return;
  }
  if (target.closest("select, input, textarea, a")) return;
  const onButton = target.closest("button:not(.picture):not([data-say])"); // after a click on an answer, keys go on
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
  if (event.key in steps) {
    const place = current + steps[event.key];
    if (place >= 0 && place < stamps.length) focusOn(place);
  } else if (event.key in KEYS) {
    vote(stamps[current], KEYS[event.key]);
    if (current + 1 < stamps.length) focusOn(current + 1);
  } else if (event.key === "z") {
    undo();
  } else if (event.key === "Enter" && !onButton) {
    if (event.shiftKey && document.querySelector("[data-rest]")) answerTheRest("no"); else goOn();
  } else if (event.key === " " && !onButton) {
    lookCloser(stamps[current]);
  } else {
    return;
  }
  event.preventDefault();
});

window.addEventListener("beforeunload", (event) => { if (waiting && !leaving) event.preventDefault(); });
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
focusOn(0);
