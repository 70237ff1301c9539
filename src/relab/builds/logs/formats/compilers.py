"""The log format of GCC, Clang and linkers."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

_ERROR = (
    r"(?:(?:fatal )?error\b|(?:\w{1,20} ?)?(?:fejl|Fehler|σφάλμα|virhe|erreur|greška|エラー|fout|ошибка|грешка|fel|hata|помилка|lỗi|错误|錯誤)"
    r"(?: fatale| nghiêm trọng)?\s?[:\uff1a])"
)
"""What GCC writes before the message of an error or a fatal error, in all languages of its translations."""
_FILE = r"(?:[A-Z]:)?[^\s:(]{1,400}+(?<!\.java)(?<!\.kt)(?<!\.scala)(?<!\.groovy)"
"""A file of another language than those of the Java virtual machine, whose compilers write errors in the same form."""

FORMAT = LogFormat(
    "C and C++ compilers",
    rules=(
        BlockRule(
            "compiler error",
            re.compile(
                rf"{_FILE}:\d+:(?:\d+:)? {_ERROR}|(?:cc1|cc1plus|gcc|g\+\+|clang(?:\+\+)?|collect2|ld)(?:\.\w+)?: (?:fatal )?error\b"
            ),
            re.compile(rf"\s+\S|\s*\d* \| |{_FILE}:\d+:(?:\d+:)? note: |compilation terminated"),
            weight=0.95,
            max_lines=40,
        ),
        BlockRule(
            "failure of the compiler itself",
            re.compile(r"internal compiler error|please submit a bug report"),
            re.compile(r"\s+\S|0x[0-9a-f]+"),
            weight=0.95,
            max_lines=60,
            words=("internal compiler error", "submit a bug report"),
        ),
        BlockRule(
            "error of the linker",
            re.compile(r"(?:\S{0,200}/)?(?:ld|lld|mold)(?:\.\w{1,20})?\s?: (?!.{0,400}\b(?:warning|NOTE): )"),
            weight=0.95,
        ),
        # A place is a section and an address in all languages.
        BlockRule(
            "error of the linker",
            re.compile(r"^[^\s:(]{1,300}:\(\.\w[\w.]{0,100}\+0x[0-9a-f]+\)\s?: "),
            weight=0.95,
            words=("+0x",),
        ),
        BlockRule(
            "error of the linker",
            re.compile(
                r"undefined reference to|undefined symbol|multiple definition of|cannot find -l|undefined symbols for architecture"
            ),
            re.compile(r"\s+\S"),
            weight=0.95,
            max_lines=40,
            words=("undefined", "multiple definition", "cannot find -l"),
        ),
        BlockRule(
            "place of a compiler error",
            re.compile(rf"In file included from {_FILE}:\d+|{_FILE}: In (?:member )?function "),
            re.compile(r"\s+from "),
            weight=0.4,
        ),
    ),
)
