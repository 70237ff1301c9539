"""Read logs with Inspect, and print one JSON object for each: `read_logs.py LOG...`."""

import json
import sys

from inspect_ai.log import read_eval_log


def facts_of(sample):
    return {
        "id": sample.id,
        "epoch": sample.epoch,
        "input": sample.input,
        "target": sample.target,
        "metadata": sample.metadata,
        "scores": {name: score.value for name, score in (sample.scores or {}).items()},
        "error": sample.error.message if sample.error else None,
        "calls": [
            [event.function, event.arguments, event.error.message if event.error else None]
            for event in sample.events
            if event.event == "tool"
        ],
        "models": [event.model for event in sample.events if event.event == "model"],
        "tokens": {model: [usage.input_tokens, usage.output_tokens] for model, usage in sample.model_usage.items()},
        "answer": sample.output.completion,
    }


for path in sys.argv[1:]:
    log = read_eval_log(path)
    found = {
        "status": log.status,
        "task": log.eval.task,
        "model": log.eval.model,
        "eval_id": log.eval.eval_id,
        "scores": {
            score.name: {name: metric.value for name, metric in score.metrics.items()} for score in log.results.scores
        },
        "samples": sorted(map(facts_of, log.samples), key=lambda sample: (sample["epoch"], str(sample["id"]))),
    }
    print(json.dumps(found))
