"""The word lists of the anti-hallucination policy in `grounding`."""

from __future__ import annotations

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
"""Number words with their digits; the digits in the grounds support the word too. `one` is left out because it is mostly a pronoun."""

ACRONYMS = frozenset({"AI", "API", "HTTP", "HTTPS", "ID", "IDS", "JSON", "LLM", "OK", "RCA", "URL"})
"""Acronyms of general meaning, which a claim may use even if they do not occur in the evidence."""

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
