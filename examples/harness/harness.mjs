// The reference harness in JavaScript for Node.js, without any package: what harness.py does, step by step.

import { createHash } from "node:crypto";
import { appendFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 20;
const WAIT_FOR_STOP_MS = 2000;

const options = Object.fromEntries(
  process.argv.slice(2).flatMap((word, index, words) => (index % 2 ? [] : [[word, words[index + 1]]])),
);
const given = JSON.parse(readFileSync(options["--input"], "utf8"));
const { state, out } = given.runtime.paths;
const { task, bindings } = given;
const control = process.env.AGENTLAB_CONTROL_PATH;
const checkpoints = [];

// (1) A resumed or forked trial has a checkpoint, and continues the numbers of its events.
const begun = given.ext?.resume ?? given.ext?.fork ?? {};
let seq = given.ext?.resume?.events_seq ?? 0;
let memory = { step: 0, tried: 0, best: 0, number: null };
if (begun.checkpoint) memory = JSON.parse(readFileSync(begun.checkpoint.path, "utf8"));

function event(kind, fields) {
  seq += 1;
  const row = { event_type: kind, ts: new Date().toISOString(), seq, ids: given.ids, ...fields };
  appendFileSync(`${out}/harness_events.jsonl`, JSON.stringify(row) + "\n");
}

function search(text, count) {
  for (let number = memory.tried; number < memory.tried + count; number += 1) {
    const digest = createHash("sha256").update(`${text} ${number}`).digest("hex");
    const zeros = digest.length - digest.replace(/^0+/, "").length;
    if (zeros > memory.best) memory = { ...memory, best: zeros, number };
  }
  memory.tried += count;
}

// (5) A checkpoint is a file in the state folder; the output names it.
function checkpoint(label) {
  const path = `${state}/checkpoint-${memory.step}${label ? "-asked" : ""}.json`;
  writeFileSync(`${path}.new`, JSON.stringify(memory));
  renameSync(`${path}.new`, path);
  checkpoints.push({ path, logical_name: label ?? `step-${memory.step}`, step: memory.step });
}

function readControl() {
  const raw = readFileSync(control);
  const { action, label, seq: control_seq } = JSON.parse(raw);
  const control_version = "sha256:" + createHash("sha256").update(raw).digest("hex");
  return { action, label, version: { control_version, control_seq } };
}

function acknowledge(step, { action, version }) {
  event("control_ack", { step_index: step, action_observed: action, action_taken: action, ...version });
}

// (3) After each step, obey the control file and acknowledge it; true if it says to stop.
async function askedToStop(step) {
  let read = readControl();
  if (read.action === "checkpoint") {
    checkpoint(read.label);
    acknowledge(step, read);
    // (4) The stop follows at once: wait for it here rather than begin another step.
    const asked = read.version.control_version;
    const endBy = Date.now() + WAIT_FOR_STOP_MS;
    while (read.version.control_version === asked && Date.now() < endBy) {
      await sleep(POLL_MS);
      read = readControl();
    }
  }
  acknowledge(step, read);
  return read.action === "stop";
}

// (6) The output, also after a stop: it names the checkpoints.
function answer(outcome, fields) {
  const document = { schema_version: "trial_output_v1", ids: given.ids, outcome, checkpoints, ...fields };
  writeFileSync(options["--output"], JSON.stringify(document));
}

let stopped = false;
while (!stopped && memory.step < (task.steps ?? 5)) {
  const step = memory.step + 1;
  // (2) Events surround each step.
  event("agent_step_start", { step_index: step });
  await sleep(1000 * (bindings.step_seconds ?? 0));
  search(task.text ?? "relab", bindings.numbers_per_step ?? 200);
  memory.step = step;
  if (bindings.checkpoint_each_step ?? true) checkpoint(null);
  event("agent_step_end", { step_index: step, budgets: { steps: step } });
  stopped = await askedToStop(step);
}
if (stopped) {
  answer("missing");
} else {
  const outcome = memory.best >= (task.zeros ?? 1) ? "success" : "failure";
  answer(outcome, { answer: memory.number, metrics: { zeros: memory.best } });
}
