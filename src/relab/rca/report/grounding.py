"""The anti-hallucination policy: which sentences of a language model a report may contain.

A sentence is accepted only if everything in it that can be checked is grounded, that is, occurs in a known text. The
sentence must cite evidence of the report, be plain text, and name no failure category except those of the hypotheses.
Every number, name, identifier and quotation in it must occur in the cited evidence, or in the deterministic summary and
hypotheses; a URL must occur in the cited evidence. At least half of its other words must occur there too.

The check compares words only, and drops a sentence in case of doubt. If no sentence about the cause is left, the
deterministic summary is kept. The check cannot detect a false sentence whose words all occur in the evidence, such as a
negation. Therefore, an accepted sentence changes only the summary, not the rest of the report.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from relab.rca.detectors import DESCRIPTORS
from relab.rca.models import Category, Evidence, Report
from relab.rca.report.lexicon import ABBREVIATIONS, ACRONYMS, FUNCTION_WORDS, NUMBER_WORDS

MAX_CLAIM_CHARS = 400
MAX_CITATIONS = 8
"""The maximum number of distinct pieces of evidence per claim; a claim that cites everything has no specific grounds."""

MIN_SUPPORT = 0.5
"""Share of a claim's plain words that must occur in its grounds."""


class DropReason(StrEnum):
    """The rule that a sentence of a language model breaks; the sentence is dropped.

    - `no_citation`, `unknown_evidence`, `too_many_citations`: its citations are wrong.
    - `too_many_claims`: the answer has too many sentences, and this is one of the last.
    - `empty`, `too_long`, `not_plain_text`: its form is wrong.
    - `foreign_category`: it names a failure category that no hypothesis of the report has.
    - `ungrounded_url`, `ungrounded_quotation`, `ungrounded_token`: its URL, quotation, name or number is not in the
      evidence.
    - `unsupported`: too few of its words are in the evidence.
    """

    NO_CITATION = "no_citation"
    UNKNOWN_EVIDENCE = "unknown_evidence"
    TOO_MANY_CITATIONS = "too_many_citations"
    TOO_MANY_CLAIMS = "too_many_claims"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    NOT_PLAIN_TEXT = "not_plain_text"
    FOREIGN_CATEGORY = "foreign_category"
    UNGROUNDED_URL = "ungrounded_url"
    UNGROUNDED_QUOTATION = "ungrounded_quotation"
    UNGROUNDED_TOKEN = "ungrounded_token"  # noqa: S105 a word, not a credential
    UNSUPPORTED = "unsupported"


_NOT_PLAIN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_MARKUP = re.compile(
    r"<[A-Za-z/!?]"  # HTML
    r"|&(?:#\w+|[A-Za-z]+);"  # character references
    r"|\]\(|!\[|\*\*|```|^\s*#{1,6}\s|^\s*>"  # Markdown
    r"|\[/?[A-Za-z#@][^\[\]]*\]"  # console markup
    r"|\{\{|\}\}|\{%|%\}"  # templates
)
_URL = re.compile(
    r"(?:\b[a-z][a-z0-9+.-]{1,20}://|\bwww\.|\b(?:mailto|javascript|data):)[^\s\"'<>`\\{}|^]*", re.IGNORECASE
)
_QUOTED = re.compile(r"\"([^\"]*)\"|`([^`]*)`|(?<!\w)'([^']*)'(?!\w)")
_HYPHENATED = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)+")
_CONTRACTION = re.compile(r"[A-Za-z][a-z]*'[a-z]{1,2}")
_MIXED_CASE = re.compile(r"[a-z][A-Z]|[A-Z]{2,}[a-z]")
_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[a-z]{3,}")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_QUANTITY = re.compile(r"(\d+(?:[.,]\d+)*)(?:ms|s|sec|min|m|h|d|%|x|k|kb|mb|gb|kib|mib|gib)", re.IGNORECASE)
_SEPARATORS = str.maketrans(";()[]{}", " " * 7)
_LOOSE_COMMA = re.compile(r"(?<!\d),|,(?!\d)")
_POSSESSIVE = re.compile(r"'s?$")
_ASCII_PUNCTUATION = {
    **dict.fromkeys(range(0x2018, 0x201C), "'"),
    **dict.fromkeys((*range(0x201C, 0x2020), 0xAB, 0xBB), '"'),
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013), "-"),
    0x2014: " - ",
}
"""ASCII replacements for typographic quotation marks and dashes, which models often write and programs do not."""

_STEM = 5
"""Length of a stem: words of one family mostly share their first five letters (reject, rejected, rejection)."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """The texts that must support a language model's sentence: its names, numbers and words must occur in them.

    Attributes:
        text: the texts, one per line.
        words: the words of `text`, in lower case.
        stems: the stems of `words`.
        urls: the only URLs that the sentence may contain.
    """

    text: str
    words: frozenset[str]
    stems: frozenset[str]
    urls: frozenset[str]

    @classmethod
    def of(cls, report: Report, cited: Iterable[Evidence]) -> Grounds:
        """Return the texts that support a claim: the evidence it cites, and the report's summary and hypotheses."""
        pieces = [piece for evidence in cited for piece in _pieces(evidence)]
        urls = frozenset(_trim_url(found.group()) for piece in pieces for found in _URL.finditer(_normal(piece)))
        pieces.append(report.summary)
        pieces += [text for hypothesis in report.hypotheses for text in (hypothesis.title, hypothesis.description)]
        return cls.of_pieces(pieces, urls)

    @classmethod
    def of_pieces(cls, pieces: Iterable[str], urls: frozenset[str] = frozenset()) -> Grounds:
        """Return the texts `pieces`, prepared for checking a sentence.

        `urls` are the only URLs that the sentence may contain.
        """
        # One line per piece, so that no quotation can match across two pieces.
        text = "\n".join(" ".join(_normal(piece).split()) for piece in pieces)
        words = frozenset(_words(text))
        return cls(text, words, frozenset(map(_stem, words)), urls)

    def has_whole(self, token: str) -> bool:
        """Return whether `token` occurs in the field `text` as a whole, not only as a part of a longer word or number."""
        left = r"(?<!\w)(?<!\w-)(?<!\d[.,:])" if token[:1].isalnum() else ""
        right = r"(?!\w)(?!-\w)(?![.,:]\d)" if token[-1:].isalnum() else ""
        return re.search(left + re.escape(token) + right, self.text) is not None

    def has_number(self, number: str) -> bool:
        """Return whether `number` occurs in the field `text`, alone or followed by a unit of at most three letters.

        Commas in `number` may be missing in the text.
        """
        left, right = r"(?<![\w.])(?<!\w-)(?<!\d[,:])", r"(?![.,:]?\d)(?![-_]\w)(?![A-Za-z]*\d)(?![A-Za-z]{4})"
        return any(re.search(left + re.escape(form) + right, self.text) for form in {number, number.replace(",", "")})

    def has_phrase(self, phrase: str) -> bool:
        """Return whether these texts contain the words of a hyphenated phrase one after the other; case is ignored.

        In the texts, two of these words may be separated by `-`, `_`, a space or nothing.
        """
        joined = r"[-_ ]?".join(map(re.escape, phrase.casefold().split("-")))
        return re.search(rf"(?<![^\W_]){joined}(?![^\W_])", self.text.casefold()) is not None

    def has_word(self, word: str) -> bool:
        """Return whether `word`, or a word with the same stem, occurs in these texts."""
        return _stem(word) in self.stems


def normal_text(text: str) -> str:
    """Return `text` in the normal form in which it is checked and displayed.

    This is Unicode NFKC with ASCII quotation marks and dashes, without white space at the beginning and the end.
    """
    return _normal(text).strip()


def check_claim(
    text: str, evidence_ids: Sequence[str], report: Report, evidence: Mapping[str, Evidence]
) -> tuple[DropReason, str] | None:
    """Check whether a language model's sentence about a run may be shown.

    The sentence must cite evidence, be plain text, and name no failure category except those of the hypotheses. Its
    names, numbers and quotations must occur in the cited evidence, the summary or the hypotheses. `DropReason` has all
    rules.

    Args:
        text: the sentence, as `normal_text` returns it.
        evidence_ids: the ids of the cited evidence.
        report: the report to which the sentence is to be added.
        evidence: `{id: evidence}` of the report.

    Returns:
        `(broken rule, faulty part of the sentence)`; None if the sentence may be shown.
    """
    problem = _check_citations(evidence_ids, evidence) or _check_form(text)
    if problem is not None:
        return problem
    foreign = _foreign_category(text, {hypothesis.category for hypothesis in report.hypotheses})
    if foreign is not None:
        return DropReason.FOREIGN_CATEGORY, foreign
    return _check_grounds(text, Grounds.of(report, [evidence[cited] for cited in dict.fromkeys(evidence_ids)]))


def check_text(text: str, pieces: Iterable[str]) -> tuple[DropReason, str] | None:
    """Check whether a language model's sentence without citations may be shown.

    It must be plain text without URLs, of at most `MAX_CLAIM_CHARS` characters. Its names, numbers and quotations, and at
    least half of its other words, must occur in `pieces`. `text` is the sentence, as `normal_text` returns it. Return
    `(broken rule, faulty part)`; None if it may be shown.
    """
    return _check_form(text) or _check_grounds(text, Grounds.of_pieces(pieces))


def _check_citations(evidence_ids: Sequence[str], evidence: Mapping[str, Evidence]) -> tuple[DropReason, str] | None:
    if not evidence_ids:
        return DropReason.NO_CITATION, ""
    unknown = [cited for cited in evidence_ids if cited not in evidence]
    if unknown:
        return DropReason.UNKNOWN_EVIDENCE, unknown[0]
    if len(set(evidence_ids)) > MAX_CITATIONS:
        return DropReason.TOO_MANY_CITATIONS, str(len(set(evidence_ids)))
    return None


def _check_form(text: str) -> tuple[DropReason, str] | None:
    if not text:
        return DropReason.EMPTY, ""
    if len(text) > MAX_CLAIM_CHARS:
        return DropReason.TOO_LONG, str(len(text))
    for char in text:
        if unicodedata.category(char) in _NOT_PLAIN_CATEGORIES:
            return DropReason.NOT_PLAIN_TEXT, f"U+{ord(char):04X}"
    markup = _MARKUP.search(text)
    return (DropReason.NOT_PLAIN_TEXT, markup.group()) if markup else None


def _foreign_category(text: str, allowed: set[Category]) -> str | None:
    # Checked even if the evidence names the category: text of the run may be written to be repeated (prompt injection).
    plain = _CAMEL_HUMP.sub(" ", text).casefold()
    for category, descriptor in DESCRIPTORS.items():
        found = descriptor.names.search(plain) if category not in allowed else None
        if found:
            return found.group()
    return None


def _check_grounds(text: str, grounds: Grounds) -> tuple[DropReason, str] | None:
    for found in _URL.finditer(text):
        if _trim_url(found.group()) not in grounds.urls:
            return DropReason.UNGROUNDED_URL, found.group()
    rest = _URL.sub(" ", text)
    for found in _QUOTED.finditer(rest):
        quotation = next(group for group in found.groups() if group is not None).strip(" .,;:!?")
        if quotation and not grounds.has_whole(quotation):
            return DropReason.UNGROUNDED_QUOTATION, quotation
    rest = _QUOTED.sub(" ", rest)
    if re.search(r"[\"`]", rest):
        return DropReason.UNGROUNDED_QUOTATION, "unclosed"
    tokens = _tokens(rest)
    for token, opens_sentence in tokens:
        if not _is_grounded(token, grounds, opens_sentence=opens_sentence):
            return DropReason.UNGROUNDED_TOKEN, token
    return _check_support(tokens, grounds, named=rest != text)


def _check_support(tokens: list[tuple[str, bool]], grounds: Grounds, *, named: bool) -> tuple[DropReason, str] | None:
    words = [token.casefold() for token, _ in tokens if token.isascii() and token.isalpha()]
    content = [word for word in words if len(word) > 3 and word not in FUNCTION_WORDS]
    supported = sum(grounds.has_word(word) for word in content)
    if content and supported >= MIN_SUPPORT * len(content):
        return None
    if not content and (named or len(words) < len(tokens)):
        return None
    return DropReason.UNSUPPORTED, f"{supported} of {len(content)} words"


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Split `text` into pairs `(token without punctuation around it, whether the token begins a sentence)`."""
    found: list[tuple[str, bool]] = []
    opens = True
    for raw in _LOOSE_COMMA.sub(" ", text.translate(_SEPARATORS)).split():
        token = _POSSESSIVE.sub("", raw.strip(".,:!?'*~-"))
        if token:
            found.append((token, opens))
            opens = False
        opens = opens or raw[-1] in ".!?:"
    return found


def _is_grounded(token: str, grounds: Grounds, *, opens_sentence: bool) -> bool:
    """Return whether a token of a model's sentence occurs in the grounds, the texts that must support the sentence.

    Only numbers, names, acronyms (except `ACRONYMS`), identifiers and hyphenated words must occur there. For other words,
    return True.
    A name is a word with a capital letter. If the word begins a sentence (`opens_sentence`), a word with the same stem
    is sufficient.
    """
    lower = token.casefold()
    if lower in ABBREVIATIONS or _CONTRACTION.fullmatch(token):
        grounded = True
    elif token.isascii() and any(char.isdigit() for char in token):
        grounded = _is_grounded_number(token, grounds)
    elif _HYPHENATED.fullmatch(token):
        grounded = grounds.has_phrase(token)
    elif not (token.isascii() and token.isalpha()) or _MIXED_CASE.search(token):
        grounded = grounds.has_whole(token)
    elif lower in NUMBER_WORDS:
        digits = NUMBER_WORDS[lower]
        grounded = lower in grounds.words or (digits is not None and grounds.has_number(digits))
    elif token.isupper() and len(token) > 1:
        grounded = token in ACRONYMS or lower in grounds.words
    elif token[0].isupper() and lower not in FUNCTION_WORDS:
        grounded = grounds.has_word(lower) if opens_sentence else lower in grounds.words
    else:
        grounded = True
    return grounded


def _is_grounded_number(token: str, grounds: Grounds) -> bool:
    bare = token.lstrip("$€£#+~<>=")
    if _NUMBER.fullmatch(bare):
        return grounds.has_number(bare)
    quantity = _QUANTITY.fullmatch(bare)
    return grounds.has_whole(token) or (quantity is not None and grounds.has_number(quantity.group(1)))


def _pieces(evidence: Evidence) -> list[str]:
    pieces = [evidence.evidence_id, evidence.ref_id, evidence.title, evidence.field, evidence.snippet]
    for name, value in evidence.attributes.items():
        if value is not None:
            pieces += [name, value if isinstance(value, str) else json.dumps(value)]
    return pieces


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_ASCII_PUNCTUATION)


def _words(text: str) -> list[str]:
    return _WORD.findall(_CAMEL_HUMP.sub(" ", text).casefold())


def _stem(word: str) -> str:
    return word.removesuffix("s")[:_STEM]


def _trim_url(url: str) -> str:
    return url.rstrip(".,;:!?)]*")
