"""Explain which arguments a tool rejected: compare the error with the sent arguments and with the tool's schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relab.rca.detectors.argument_faults import MAX_FAULTS, ArgumentFault, FaultKind, argument_faults
from relab.rca.detectors.explanation import Explanation, Facts, listed, ticked
from relab.rca.detectors.problems import DetectedProblem
from relab.rca.evidence import Quotation, RunView, field_text
from relab.rca.models import EvidenceKind
from relab.telemetry.models import ToolCall

_RETURN_IT = "Return the error to the model, so that it can repeat the call with corrected arguments."


def explain(problem: DetectedProblem, view: RunView) -> Explanation | None:
    """Explain what was wrong with the arguments of a rejected call.

    Return None if the error names no argument, and the arguments of the call are not known.
    """
    facts = Facts(problem, view)
    faults = argument_faults(facts.text)
    if not faults and facts.call is not None and (gaps := schema_gaps(facts.call)):
        return _against_schema(facts, gaps)
    if not faults:
        arguments = facts.arguments()
        if arguments is None:
            return None
        what = f"{facts.subject} was called with {arguments}, and the error names no argument"
        fix = f"Compare these arguments with the schema of {facts.subject}, and let the tool name the argument that it rejects."
        return facts.explanation(what, fix)
    first = faults[0].kind
    same = [fault for fault in faults if fault.kind is first]
    explained = _BY_KIND[first](facts, same)
    return facts.explanation(*explained)


def schema_gaps(call: ToolCall) -> list[str]:
    """Return the names of the arguments that the tool's schema requires and the call lacks, at most `MAX_FAULTS`.

    The list is empty if the call has no schema, or if its arguments are not a JSON object.
    """
    schema = (call.model_extra or {}).get("tool_schema")
    required = schema.get("required") if isinstance(schema, Mapping) else None
    if not isinstance(required, list) or not isinstance(call.args_json, Mapping):
        return []
    return [name for name in required if isinstance(name, str) and name not in call.args_json][:MAX_FAULTS]


def _against_schema(facts: Facts, gaps: Sequence[str]) -> Explanation:
    """Explain that a call was rejected because it lacks the arguments `gaps`, which the tool's schema requires."""
    names, it = listed([ticked(name) for name in gaps]), "it" if len(gaps) == 1 else "them"
    _cite_schema(facts, gaps[0])
    what = f"{facts.subject} was called without {names}; the schema requires {it}; the model's own arguments were {facts.arguments()}"
    error = facts.error()
    if error is not None:
        what += f"; the error itself only says {error}"
    return facts.explanation(
        what, f"{_left_out(names, it)} Let {facts.subject} name the missing argument in its error."
    )


def _cite_schema(facts: Facts, name: str) -> None:
    """Add a quotation of the tool's schema to `facts`: the last place in the schema that names the argument `name`.

    If the schema does not contain the name, the beginning of the schema is quoted. If the problem has no tool call, or
    the call has no schema, nothing is added.
    """
    call = facts.call
    text = field_text(call, "tool_schema") if call is not None else None
    if call is not None and text is not None:
        place = max(text.rfind(f'"{name}"'), 0)
        facts.quotes.append(Quotation(EvidenceKind.TOOL_CALL, call, "tool_schema", place, place + len(name) + 2))


def _left_out(names: str, it: str) -> str:
    return (
        f"The schema that the model was given requires {names}, and the model left {it} out: say in the description "
        f"of {names} where the value comes from, or ask the user for {it}."
    )


def _missing(facts: Facts, faults: Sequence[ArgumentFault]) -> tuple[str, str]:
    names = listed([facts.part(fault.start, fault.end) for fault in faults])
    one = len(faults) == 1
    it = "it" if one else "them"
    arguments, sent = facts.arguments(), _sent(facts)
    is_nested = any(fault.is_nested for fault in faults)
    if sent is not None and not is_nested and all(fault.name in sent for fault in faults):
        what = (
            f"{facts.subject} reports that {names} {'is' if one else 'are'} missing, but the arguments were {arguments}"
        )
        return what, (
            f"{names} {'was' if one else 'were'} lost between the model and the tool: compare the parameters of "
            f"{facts.subject} with the schema that the model is given, and with the code that passes the arguments on."
        )
    own = f"; the model's own arguments were {arguments}" if arguments is not None else ""
    # The error shows what the tool requires; the schema that the model was given may say otherwise.
    demander = "the schema" if _requires_all(_schema(facts), faults) else "the tool"
    what = f"{facts.subject} was called without {names}; {demander} requires {it}{own}"
    return what, _fix_of_missing(facts, faults, names, it)


def _requires_all(schema: Mapping[str, Any] | None, faults: Sequence[ArgumentFault]) -> bool:
    required = schema.get("required") if schema is not None else None
    return isinstance(required, list) and all(not fault.is_nested and fault.name in required for fault in faults)


def _fix_of_missing(facts: Facts, faults: Sequence[ArgumentFault], names: str, it: str) -> str:
    schema = _schema(facts)
    known = schema.get("properties") if schema is not None else None
    # The schema's properties are those of the call, not those of an argument that is an object.
    if schema is not None and isinstance(known, Mapping) and not any(fault.is_nested for fault in faults):
        _cite_schema(facts, faults[0].name)
        if not any(fault.name in known for fault in faults):
            return f"The schema that the model was given has no {names}: add {it} there. {_RETURN_IT}"
        if _requires_all(schema, faults):
            return f"{_left_out(names, it)} {_RETURN_IT}"
        return f"Mark {names} as required in the schema that the model is given. {_RETURN_IT}"
    return (
        f"Make {names} required in the schema that the model is given, and say in the description where the value comes "
        f"from; or make {it} optional in {facts.subject}. {_RETURN_IT}"
    )


def _unexpected(facts: Facts, faults: Sequence[ArgumentFault]) -> tuple[str, str]:
    names = listed([facts.part(fault.start, fault.end) for fault in faults])
    arguments = facts.arguments()
    own = f"; the model's own arguments were {arguments}" if arguments is not None else ""
    it = "it" if len(faults) == 1 else "them"
    return (
        f"{facts.subject} was called with {names}, which the tool does not take{own}",
        f"Remove {names} from the schema and the examples that the model is given, or accept {it} in {facts.subject}. {_RETURN_IT}",
    )


def _invalid(facts: Facts, faults: Sequence[ArgumentFault]) -> tuple[str, str]:
    names = listed([facts.part(fault.start, fault.end) for fault in faults])
    rejected = listed([f"{facts.part(fault.start, fault.end)}{_demand(facts, fault)}" for fault in faults])
    arguments, sent = facts.arguments(), _sent(facts)
    own = f"; the model's own arguments were {arguments}" if arguments is not None else ""
    what = f"{facts.subject} rejected {rejected}{own}"
    absent = [fault for fault in faults if sent is not None and not fault.is_nested and fault.name not in sent]
    if absent:
        what += f", without {listed([facts.part(fault.start, fault.end) for fault in absent])}"
    return (
        what,
        (
            f"Say in the schema that the model is given which type and which values {names} {'takes' if len(faults) == 1 else 'take'}, with an example; or convert "
            f"the value in {facts.subject}. {_RETURN_IT}"
        ),
    )


def _demand(facts: Facts, fault: ArgumentFault) -> str:
    """Return a colon and the error's words about the expected value of an argument; "" if it has no such words.

    The words are also added to the quotations of `facts`.
    """
    place = facts.text.find(fault.demand) if fault.demand else -1
    return f": {facts.part(place, place + len(fault.demand))}" if fault.demand and place >= 0 else ""


def _unknown_tool(facts: Facts, faults: Sequence[ArgumentFault]) -> tuple[str, str]:
    fault = faults[0]
    name = facts.part(fault.start, fault.end)
    arguments = facts.arguments()
    own = f", with the arguments {arguments}" if arguments is not None else ""
    others = {placed.call.tool_name: placed.call for placed in facts.view.calls if placed.call.tool_name != fault.name}
    named = sorted(others)[:MAX_FAULTS]
    facts.quotes.extend(Quotation(EvidenceKind.TOOL_CALL, others[other], "status") for other in named)
    beside = f". The run also calls {listed([ticked(other) for other in named])}" if named else ""
    return (
        f"the model called {name}{own}, and the agent has no tool of this name{beside}",
        (
            f"Register a tool named {name}, or name the tools that exist in the prompt and give the model only their definitions. "
            "Return the list of tools to the model when it names another one."
        ),
    )


_BY_KIND = {
    FaultKind.MISSING: _missing,
    FaultKind.UNEXPECTED: _unexpected,
    FaultKind.INVALID: _invalid,
    FaultKind.UNKNOWN_TOOL: _unknown_tool,
}


def _sent(facts: Facts) -> Mapping[str, Any] | None:
    arguments = facts.call.args_json if facts.call is not None else None
    return arguments if isinstance(arguments, Mapping) else None


def _schema(facts: Facts) -> Mapping[str, Any] | None:
    """Return the schema of the tool's arguments; None if the trace does not have it."""
    found = (facts.call.model_extra or {}).get("tool_schema") if facts.call is not None else None
    return found if isinstance(found, Mapping) else None
