"""The word lists of the anti-hallucination policy in `grounding`."""

from __future__ import annotations

import re

from relab.rca.models import Category

CATEGORY_PATTERNS = {
    category: re.compile(pattern)
    for category, pattern in {
        Category.TOOL_SCHEMA_MISMATCH: r"\bschemas?\b|tool[-_ ]*schema",
        Category.RATE_LIMITED: r"\brate[-_ ]*limit|\bthrottl|\btoo many requests\b|\bquotas?\b",
        Category.TOOL_PERMISSION: r"tool[-_ ]*permission|\bpermissions?\b|\bunauthori[sz]ed\b|\bforbidden\b"
        r"|\baccess (?:was |is )?denied\b",
        Category.TIMEOUT: r"\btime[- ]?outs?\b|\btim(?:ed|es|ing)[- ]out\b|\bdeadline (?:was )?exceeded\b",
        Category.PLANNER_LOOP: r"planner[-_ ]*loop|\bloop(?:s|ed|ing)?\b|\bendless|\binfinite",
        Category.RETRIEVAL_EMPTY: r"retrieval[-_ ]*empty|\bempty[-_ ]*(?:retrieval|search|result)"
        r"|\b(?:retrieval|search)\w*(?: \w+)? (?:returned|found|gave|yielded) (?:nothing|no\b|zero|an empty)",
        Category.PROMPT_REGRESSION: r"prompt[-_ ]*regression|\bregress",
        Category.UNKNOWN: r"\bunknown (?:root )?(?:category|cause|failure|reason)\b"
        r"|\b(?:category|cause|reason)\b[^.]*\bunknown\b",
    }.items()
}
"""Patterns of English names of each category, in lower case.

They are broad: a false match drops one sentence, a missed match lets a false sentence into the report."""

NUMBER_WORDS: dict[str, str | None] = {
    "zero": "0",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "twice": "2",
    "thrice": "3",
    "twenty": "20",
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "ninety": "90",
    "dozen": "12",
    "dozens": None,
    "hundred": "100",
    "hundreds": None,
    "thousand": "1000",
    "thousands": None,
    "million": "1000000",
    "millions": None,
    "billion": None,
}
"""Number words, with the digits that also ground them. `one` is left out because it is mostly a pronoun."""

ACRONYMS = frozenset({"AI", "API", "HTTP", "HTTPS", "ID", "IDS", "JSON", "LLM", "OK", "RCA", "URL"})
"""Acronyms that name no particular thing, so a claim may use them without grounds."""

ABBREVIATIONS = frozenset({"e.g", "i.e", "etc", "vs", "and/or"})

# fmt: off
FUNCTION_WORDS = frozenset(
    {
        "a", "about", "after", "again", "against", "all", "also", "although", "always", "an", "and",
        "another", "any", "are", "as", "at", "be", "because", "been", "before", "being", "below", "between",
        "both", "but", "by", "came", "could", "did", "do", "does", "down", "due", "during", "each", "either",
        "even", "every", "first", "for", "from", "further", "had", "has", "have", "having", "he", "hence",
        "her", "here", "how", "however", "i", "if", "in", "into", "is", "it", "its", "itself", "just", "last",
        "later", "least", "less", "made", "make", "many", "might", "more", "most", "much", "must", "neither",
        "never", "next", "no", "none", "nor", "not", "now", "of", "off", "on", "once", "one", "only", "onto",
        "or", "other", "others", "over", "own", "same", "second", "several", "she", "should", "since", "so",
        "some", "still", "such", "than", "that", "the", "their", "them", "then", "there", "therefore",
        "these", "they", "third", "this", "those", "though", "through", "thus", "to", "too", "under", "until",
        "up", "upon", "very", "was", "we", "were", "what", "whatever", "when", "where", "whereas", "whether",
        "which", "while", "who", "whose", "why", "will", "with", "within", "without", "would", "yet", "you",
        "your",
    }
)
# fmt: on
"""Words without a factual content: they need no support in the grounds, and may open a sentence."""
