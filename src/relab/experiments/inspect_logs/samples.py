"""Convert one trial of a run to one sample of a log: its messages, scores, error and events in Inspect's terms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.core.clock import format_time, parse_time
from relab.experiments.inspect_logs.logs import object_of
from relab.experiments.models import TrialOutcome

SUCCESS: Final = "success"
"""The name of the scorer of a run that was not imported: C for a success, I for a failure."""
_ERROR_KINDS: Final = frozenset(
    (
        "parsing",
        "timeout",
        "unicode_decode",
        "permission",
        "file_not_found",
        "is_a_directory",
        "limit",
        "approval",
        "cancelled",
    )
)
_PROMPTS: Final = ("prompt", "input", "question")
_TARGETS: Final = ("target", "answer", "expected")
_OWN: Final = frozenset(("task_id", "choices", "metadata", "inspect", *_PROMPTS, *_TARGETS))


@dataclass(frozen=True)
class ExportedTrial:
    """A trial to be written as a sample.

    Attributes:
        row: the trial's row in the results, as JSON.
        task: the task from the data set.
        output: the trial's output (`trial_output_v1`); empty if the trial has no output.
        events: the valid events of the trial.
        model: the name of the model in the log.
    """

    row: Mapping[str, Any]
    task: Mapping[str, Any]
    output: Mapping[str, Any]
    events: Sequence[Mapping[str, Any]]
    model: str

    @property
    def origin(self) -> Mapping[str, Any]:
        """Fields of the Inspect sample that the trial was imported from; empty for a trial that was not imported.

        The import stored them in the trial's output.
        """
        return object_of(object_of(self.output.get("ext")).get("inspect"))

    @property
    def sample_id(self) -> str | int:
        """If the task was imported from an Inspect log, the sample's id in this log; otherwise the id of the task."""
        found = object_of(self.task.get("inspect")).get("id")
        return found if isinstance(found, (str, int)) else str(self.row["task_id"])

    def scores(self) -> dict[str, dict[str, Any]]:
        """Return `{scorer: score}` in Inspect's form.

        An imported trial has the scores of its sample. Another trial that ended in success or failure has the score
        `success` (C or I), and a score for each number in the harness's metrics. All other trials have no scores.
        """
        if self.origin:
            single = {"score": self.origin["score"]} if "score" in self.origin else {}
            return dict(object_of(self.origin.get("scores"))) or single
        if self.row["outcome"] not in (TrialOutcome.SUCCESS, TrialOutcome.FAILURE):
            return {}
        answer = self._answer()
        found: dict[str, dict[str, Any]] = {SUCCESS: {"value": "C" if self.row["success"] else "I"}}
        if answer:
            found[SUCCESS]["answer"] = answer
        for name, value in object_of(self.output.get("metrics")).items():
            if isinstance(value, (int, float)):
                found[name] = {"value": value}
        return found

    def usage(self) -> dict[str, dict[str, int]]:
        """Return `{model: {kind of tokens: number}}`.

        The numbers are those of the imported sample, else those of the trial's metrics; empty if neither has any.
        """
        kept = object_of(self.origin.get("model_usage"))
        if kept:
            return dict(kept)
        tokens = {name: self.row["metrics"].get(name) for name in ("tokens_in", "tokens_out")}
        spent = [int(value) if isinstance(value, (int, float)) else 0 for value in tokens.values()]
        return {self.model: _usage(*spent)} if any(spent) else {}

    def document(self) -> dict[str, Any]:
        """Return the trial as a sample of an Inspect log, as JSON in the form of Inspect's `EvalSample`."""
        row, scores, messages = self.row, self.scores(), list(self._messages())
        document: dict[str, Any] = {
            "id": self.sample_id,
            "epoch": row["repl_idx"] + 1,
            "input": self._input(),
            "target": self._target(),
            "messages": messages,
            "output": self._model_output(self._answer()),
            "scores": scores,
            "metadata": self._metadata(),
            "store": {},
            "events": list(self._events(scores)),
            "model_usage": self.usage(),
            "started_at": row["started_at"],
            "completed_at": row["ended_at"],
            "total_time": self.origin.get("total_time", (row["duration_ms"] or 0.0) / 1_000),
            "working_time": self.origin.get("working_time", (row["duration_ms"] or 0.0) / 1_000),
            "uuid": self.origin.get("uuid") or f"{row['run_id']}.{row['trial_id']}",
            "attachments": {},
        }
        optional = {"choices": self.task.get("choices"), "error": self.error(), "limit": self.origin.get("limit")}
        return document | {name: value for name, value in optional.items() if value}

    def error(self) -> dict[str, str] | None:
        """Return the error of a trial with the outcome ERROR, in Inspect's form of an exception; else None.

        Also return None if the trial was imported and a limit of Inspect ended its sample. In Inspect, this is not an
        error.
        """
        if self.row["outcome"] != TrialOutcome.ERROR or self.origin.get("limit"):
            return None
        kind, message = self.row["error_type"] or "error", self.row["error_message"] or ""
        shown = message if message.startswith(f"{kind}(") or kind == "sample_error" else f"{kind}({message!r})"
        stack = object_of(self.output.get("error")).get("stack")
        trace = stack if isinstance(stack, str) else ""
        return {"message": shown, "traceback": trace, "traceback_ansi": trace}

    def summary(self) -> dict[str, Any]:
        """Return the summary of the sample for the log's list of samples (`EvalSampleSummary`)."""
        document = self.document()
        names = (
            "id",
            "epoch",
            "input",
            "target",
            "scores",
            "model_usage",
            "started_at",
            "completed_at",
            "total_time",
            "uuid",
        )
        error, limit = document.get("error"), object_of(document.get("limit")).get("type")
        found = {name: document[name] for name in names} | {
            "completed": True,
            "message_count": len(document["messages"]),
        }
        return found | ({"error": error["message"]} if error else {}) | ({"limit": limit} if limit else {})

    def _input(self) -> Any:
        kept = object_of(self.task.get("inspect")).get("input")
        found = kept or next((self.task[name] for name in _PROMPTS if isinstance(self.task.get(name), str)), None)
        return found if found is not None else json.dumps(dict(self.task), ensure_ascii=False)

    def _target(self) -> Any:
        found = next((self.task[name] for name in _TARGETS if name in self.task), "")
        is_kept = isinstance(found, str) or (isinstance(found, list) and all(isinstance(item, str) for item in found))
        return found if is_kept else json.dumps(found, ensure_ascii=False)

    def _metadata(self) -> dict[str, Any]:
        own = {name: value for name, value in self.task.items() if name not in _OWN}
        return {**own, **object_of(self.task.get("metadata"))}

    def _answer(self) -> str:
        found = self.output.get("answer")
        if found is None:
            return ""
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    def _model_output(self, text: str, calls: Sequence[Mapping[str, Any]] = (), usage: Any = None) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "source": "generate", "model": self.model}
        if calls:
            message["tool_calls"] = [
                {"id": call["call_id"], "type": "function", "function": _tool(call), "arguments": _arguments(call)}
                for call in calls
            ]
        choice = {"message": message, "stop_reason": "tool_calls" if calls else "stop"}
        found = {"model": self.model, "choices": [choice], "completion": text}
        return found | ({"usage": usage} if usage else {})

    def _turns(self) -> Iterator[tuple[Mapping[str, Any] | None, list[Mapping[str, Any]]]]:
        """Yield `(model call, tool calls after it)`; the model call is None for tool calls before the first one."""
        model: Mapping[str, Any] | None = None
        calls: list[Mapping[str, Any]] = []
        for event in self.events:
            if event["event_type"] == "tool_call_end":
                calls.append(event)
            elif event["event_type"] == "model_call_end":
                if model is not None or calls:
                    yield model, calls
                model, calls = event, []
        if model is not None or calls:
            yield model, calls

    def _messages(self) -> Iterator[dict[str, Any]]:
        question = self._input()
        if isinstance(question, list):
            yield from question
        else:
            yield {"role": "user", "content": question, "source": "input"}
        for model, calls in self._turns():
            said = _ext(model).get("output") if model is not None else ""
            yield self._model_output(said if isinstance(said, str) else "", calls)["choices"][0]["message"]
            for call in calls:
                message = {
                    "role": "tool",
                    "content": _result(call),
                    "tool_call_id": call["call_id"],
                    "function": _tool(call),
                }
                error = _tool_error(call)
                yield message | ({"error": error} if error else {})

    def _events(self, scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        started = parse_time(self.row["started_at"])

        def base(kind: str, at: str) -> dict[str, Any]:
            working = max((parse_time(at) - started) / 1_000_000, 0.0)
            return {"event": kind, "timestamp": at, "working_start": working}

        owed = {id(model): calls for model, calls in self._turns() if model is not None}
        for event in self.events:
            begun, ended = _times(event)
            if event["event_type"] == "model_call_end":
                yield base("model", begun) | self._model_event(event, owed[id(event)], ended)
            elif event["event_type"] == "tool_call_end":
                error = _tool_error(event)
                yield {
                    **base("tool", begun),
                    "id": event["call_id"],
                    "function": _tool(event),
                    "arguments": _arguments(event),
                    "result": _result(event),
                    "completed": ended,
                    **({"error": error} if error else {}),
                }
            elif event["event_type"] == "error" and not object_of(self.origin.get("limit")):
                stack = str(event.get("stack") or "")
                error = {"message": str(event.get("message")), "traceback": stack, "traceback_ansi": stack}
                yield base("error", ended) | {"error": error}
        for name, score in scores.items():
            yield base("score", self.row["ended_at"]) | {"scorer": name, "score": score, "target": self._target()}

    def _model_event(self, event: Mapping[str, Any], calls: Sequence[Mapping[str, Any]], ended: str) -> dict[str, Any]:
        usage, said = object_of(event.get("usage")), _ext(event).get("output")
        spent = _usage(usage.get("tokens_in") or 0, usage.get("tokens_out") or 0) if usage else None
        outcome = object_of(event.get("outcome"))
        identity = object_of(event.get("model")).get("identity")
        found = {
            "model": str(identity or self.model),
            "input": [],
            "tools": [],
            "tool_choice": "auto",
            "config": {},
            "output": self._model_output(said if isinstance(said, str) else "", calls, spent),
            "completed": ended,
        }
        is_failed = outcome.get("status", "ok") == "error"
        return found | ({"error": str(outcome.get("message") or outcome.get("error_type"))} if is_failed else {})


def _usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}


def _ext(event: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return object_of((event or {}).get("ext"))


def _tool(event: Mapping[str, Any]) -> str:
    return str(object_of(event.get("tool")).get("name") or "tool")


def _arguments(event: Mapping[str, Any]) -> dict[str, Any]:
    found = _ext(event).get("arguments")
    return found if isinstance(found, dict) else {} if found is None else {"arguments": found}


def _result(event: Mapping[str, Any]) -> str:
    found = _ext(event).get("result")
    return found if isinstance(found, str) else "" if found is None else json.dumps(found, ensure_ascii=False)


def _tool_error(event: Mapping[str, Any]) -> dict[str, str] | None:
    outcome = object_of(event.get("outcome"))
    if outcome.get("status", "ok") != "error":
        return None
    kind = str(outcome.get("error_type"))
    return {"type": kind if kind in _ERROR_KINDS else "unknown", "message": str(outcome.get("message") or kind)}


def _times(event: Mapping[str, Any]) -> tuple[str, str]:
    """Return the start and the end of the call that an event reports, in ISO 8601."""
    ended = event["ts"]
    took = object_of(event.get("timing")).get("duration_ms")
    took_us = int(took * 1_000) if isinstance(took, (int, float)) and took >= 0 else 0
    return format_time(max(parse_time(ended) - took_us, 0)), ended
