"""Errors in the source: syntax, types, warnings as errors and findings of linters are known, and their passing logs are not."""

from __future__ import annotations

import pytest

from relab.builds.suggestions.models import FixSuggestion, SuggestionRequest
from relab.builds.suggestions.reading import shipped_failures
from relab.builds.suggestions.service import answer, examine
from support.builds.logs import as_github_step


def suggested(text: str) -> FixSuggestion:
    return answer(examine(SuggestionRequest(log=text), shipped_failures()))


SYNTAX = [
    "E   SyntaxError: '(' was never closed",
    "IndentationError: unexpected indent",
    "SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?",
    "./shop/queue.py:41:9: E999 IndentationError: unexpected indent",
    "error: cannot format /w/shop/queue.py: Cannot parse: 41:8:     return total",
    "SyntaxError: /w/src/cart.js: Unexpected token (18:12)",
    "SyntaxError: Cannot use import statement outside a module",
    "src/cart.ts(18,12): error TS1005: ';' expected.",
    "[ERROR] /w/src/main/java/org/acme/Invoice.java:[31,17] ';' expected",
    "src/lexer.c:41:22: error: expected ';' before '}' token",
    "store/put.go:57:9: syntax error: unexpected newline in composite literal; possibly missing comma or }",
    "./ci/build.sh: line 41: syntax error near unexpected token `fi'",
    '/w/src/cart.ts:18:12: ERROR: Expected ";" but found "const"',
]
JSON = ["npm ERR! code EJSONPARSE", "SyntaxError: Unexpected token < in JSON at position 0"]
TYPES = [
    "src/cart.ts(18,12): error TS2345: Argument of type 'string' is not assignable to parameter of type 'number'.",
    'src/shop/cart.py:18: error: Argument 1 to "total" has incompatible type "str"; expected "int"  [arg-type]',
    "/w/src/Invoice.java:31: error: incompatible types: String cannot be converted to int",
    "error[E0308]: mismatched types",
]
WARNINGS = [
    "router.cpp:88:9: error: unused variable 'hops' [-Werror=unused-variable]",
    "router.cpp:88:9: error: unused variable 'hops' [-Werror,-Wunused-variable]",
    "cc1plus: all warnings being treated as errors",
    "error: warnings found and -Werror specified",
    "[ERROR] warnings found and -Werror specified",
    "C:\\w\\router.cpp(88): error C2220: the following warning is treated as an error",
    "Treating warnings as errors because process.env.CI = true.",
    "Warning, treated as error:",
]
FINDINGS = [
    "src/shop/cart.py:1:8: F401 [*] `os` imported but unused",
    "F401 [*] `os` imported but unused",
    "./shop/cart.py:12:80: E501 line too long (93 > 79 characters)",
    "shop/cart.py:40:4: W0612: Unused variable 'total' (unused-variable)",
    "  3:7  error  'total' is assigned a value but never used  no-unused-vars",
    "✖ 2 problems (1 error, 1 warning)",
    "ESLint found too many warnings (maximum: 0).",
    "store/put.go:57:15: Error return value of `f.Close` is not checked (errcheck)",
    "app/cart.rb:3:10: C: [Correctable] Style/StringLiterals: Prefer single-quoted strings",
    "[ant:checkstyle] [ERROR] /w/Invoice.java:12:5: Missing a Javadoc comment. [MissingJavadocMethod]",
    "[ERROR] Failed to execute goal org.apache.maven.plugins:maven-checkstyle-plugin:3.3.0:check (validate) on project billing: You have 2 Checkstyle violations.",
]
WHEELS = ["  ERROR: Failed building wheel for pkga", "error: failed-wheel-build-for-install"]
CASES = {
    "syntax_error": SYNTAX,
    "json_invalid": JSON,
    "type_mismatch": TYPES,
    "warning_as_error": WARNINGS,
    "lint_finding": FINDINGS,
    "python_wheel_failed": WHEELS,
}


@pytest.mark.parametrize(("failure", "line"), [(name, line) for name, lines in CASES.items() for line in lines])
def test_error_in_the_source_is_known_and_quoted(failure: str, line: str) -> None:
    suggestion = suggested(as_github_step("make ci", line))

    assert suggestion.incident == failure
    assert [quote.text.strip() for quote in suggestion.quotes] == [line.strip()]


def test_finding_of_clippy_is_no_mere_warning() -> None:
    log = (
        "error: this `if` statement can be collapsed\n  --> src/main.rs:12:5\n   |\n"
        "   = note: `-D clippy::collapsible-if` implied by `-D warnings`\n"
        'error: could not compile `depot` (bin "depot") due to 1 previous error\n'
    )

    assert suggested(log).incident == "lint_finding"


def test_missing_compiler_explains_more_than_the_wheel() -> None:
    log = "      error: command 'gcc' failed: No such file or directory\n  ERROR: Failed building wheel for pkga\n"

    assert suggested(log).incident == "command_missing"


def test_undeclared_name_explains_more_than_the_type_error_after_it() -> None:
    log = "/w/A.java:31: error: cannot find symbol\n/w/A.java:40: error: incompatible types: int cannot be converted to String\n"

    assert suggested(log).incident == "name_not_declared"


def test_failed_test_explains_more_than_a_wheel_that_pip_then_installed_without_building_it() -> None:
    log = (
        "  ERROR: Failed building wheel for bcrypt\n    Running setup.py install for bcrypt: finished with status 'done'\n"
        "Successfully installed bcrypt-3.1.7\nFAILED tests/test_cart.py::test_total - assert 3 == 4\n"
    )

    assert suggested(log).incident == "test_assertion"


@pytest.mark.parametrize("line", ["✖ 3 problems (0 errors, 3 warnings)", "SHA256 Checksum of the archive matches"])
def test_harmless_line_of_a_tool_does_not_explain_an_unknown_failure(line: str) -> None:
    suggestion = suggested(as_github_step("make ci", f"{line}\nError: the policy refused the release"))

    assert suggestion.incident is None
    assert [quote.text for quote in suggestion.quotes] == ["Error: the policy refused the release"]


@pytest.mark.parametrize(
    "log",
    [
        "12 files inspected, no offenses detected\n",
        "Your code has been rated at 10.00/10\n",
        "All checks passed!\n42 files already formatted\n",
        "[INFO] You have 0 Checkstyle violations.\n[INFO] BUILD SUCCESS\n",
        "gcc -Wall -Werror -Wunused-variable -Wno-error=shadow -c src/error.c -o error.o\n",
        "  = help: for further information visit https://rust-lang.github.io/rust-clippy/master/index.html#needless_return\n",
        "PASS src/parse.test.js\n  ✓ throws SyntaxError on unexpected token (3 ms)\n",
        "tests/test_parser.py::test_unexpected_token_error PASSED\n",
        "  Building wheel for x (pyproject.toml): finished with status 'done'\nSuccessfully built x\n",
    ],
)
def test_passing_output_is_no_failure(log: str) -> None:
    assert suggested(log).incident is None


@pytest.mark.parametrize(
    "line",
    [
        "[ERROR]   PriceTest.roundsHalfUp:52 expected:<10.00> but was:<9.99>",
        'ERROR:  invalid input syntax for type integer: "x"',
        "error: unbalanced quotes in shop.cfg",
        'error @acme/core@10.3.3: The engine "node" is incompatible with this module. Expected version ">=18".',
        "error: patch cannot be applied",
    ],
)
def test_other_errors_with_the_words_of_a_parser_are_not_taken_for_syntax_or_types(line: str) -> None:
    found = suggested(as_github_step("make ci", line)).incident

    assert found not in CASES
