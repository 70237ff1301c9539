"""Failures of tools, lock files and images are known, as the tools print them; what a tool survived is not suggested."""

from __future__ import annotations

import pytest

from relab.builds.suggestions.models import FixSuggestion, SuggestionRequest
from relab.builds.suggestions.reading import shipped_failures
from relab.builds.suggestions.service import answer, examine

KNOWN = {
    "go_unused": ['./flag.go:115:2: imported and not used: "net/url"', "./mux.go:677:14: x declared but not used"],
    "lock_file_outdated": [
        "error: cannot create the lock file /w/Cargo.lock because --locked was passed to prevent this",
        "error: the lock file /w/Cargo.lock needs to be updated but --locked was passed to prevent this",
        "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.",
    ],
    "cargo_dependency": ["error: no matching package named `serde` found"],
    "npm_package_not_found": ["npm error code E404", "npm ERR! code ETARGET"],
    "node_module_missing": ["Error: Cannot find package 'ts-node' imported from /w/node_modules/jest-config/index.js"],
    "generated_files_outdated": ["Diff in /w/src/lib.rs:567:", "diff dce.go.orig dce.go"],
    "lint_finding": [
        './mux.go:608:15: fmt.Printf format %d has arg "x" of wrong type string',
        "src/index.ts:245:46 lint/suspicious/noDoubleEquals  FIXABLE  ━━━━━━━━━━━━━━━",
        "> Lint found fatal errors while assembling a release target.",
    ],
    "linker_library_missing": [
        "Package 'zlib', required by 'virtual:world', not found",
        "  The following required packages were not found:",
        'meson.build:10:0: ERROR: Dependency "zlib" not found (tried pkg-config and cmake)',
        # Cabal breaks its lines at 80 characters.
        "cabal: Could not resolve dependencies:\n[__1] rejecting: depot-1.2 (conflict: pkg-config package\nshop-any, not found in the pkg-config database)",
        '  Could not find a package configuration file provided by "Qt6" with any of',
    ],
    "maven_dependency": [
        "Plugin [id: 'org.acme.shadow', version: '8.1.1'] was not found in any of the following sources:",
        "> Could not resolve all files for configuration ':compileClasspath'.",
        "> Could not resolve all dependencies for configuration ':compileClasspath'.",
        "> Could not resolve all artifacts for configuration ':classpath'.",
    ],
    "library_missing": [
        "Can't locate Depot/Order.pm in @INC (you may need to install the Depot::Order module) (@INC entries checked: /w/lib)",
        "! Installing the dependencies failed: Module 'Depot::Order' is not installed",
        " DLL 'depot' not found: maybe not installed for this architecture?",
        "Error in library(depot) : there is no package called 'depot'",
        "ERROR: dependencies 'depot', 'ledger' are not available for package 'shop'",
        "/w/Sources/Shop/Order.swift:1:8: error: no such module 'Depot'",
        "    - acme/shop 2.1 requires ext-intl * -> it is missing from your system. Install or enable PHP's intl extension.",
    ],
    "dependency_conflict": [
        "cabal: Could not resolve dependencies:",
        "Your requirements could not be resolved to an installable set of packages.",
        '[!] CocoaPods could not find compatible versions for pod "Depot":',
    ],
    "c_header_missing": [
        # Clang, in a module.
        "Sources/Depot/include/Depot.h:10:9: error: 'Foundation/Foundation.h' file not found",
        "Can't find the 'libdepot.h' header",
    ],
    "git_fetch": ["fatal: Not a valid object name 25a2243e0862ee35f53dc48f471ae61f048ef00e:bin"],
    "script_permission": ["           sh src/depot.pp.ml (exit 126)", "Error: the command ended with exit code 126"],
    "nuget_package": [
        "/w/a.csproj : error NU1101: Unable to find package Depot. No packages exist with this id in source(s): acme"
    ],
    "checksum_mismatch": [
        "error: hash mismatch in fixed-output derivation '/nix/store/0a1-depot.tar.gz.drv':",
        "npm error code EINTEGRITY",
    ],
    "certificate_rejected": [
        "curl: (60) SSL certificate problem: unable to get local issuer certificate",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "javax.net.ssl.SSLHandshakeException: PKIX path building failed: unable to find valid certification path to requested target",
    ],
    "android_sdk": [
        "> SDK location not found. Define a valid SDK location with an ANDROID_HOME environment variable",
        "> Failed to find Build Tools revision 34.0.0",
        # Gradle lists the causes of an error below it, each with more indentation.
        "> Could not resolve all dependencies for configuration ':app:debugRuntimeClasspath'.\n   > SDK location not found. Define location with an ANDROID_SDK_ROOT environment variable",
    ],
    "terraform_state_lock": ["\u2502 Error: Error acquiring the state lock"],
    "apt_package": [
        "E: The repository 'http://deb.example/debian old Release' does not have a Release file.",
        "E: Package 'libdepot-dev' has no installation candidate",
    ],
    "network_failed": [
        'error An unexpected error occurred: "https://registry.example/depot.tgz: ESOCKETTIMEDOUT".',
        "wget: failed: No route to host.",
        "> Could not GET 'https://repo.example/depot.pom'. Received status code 502 from server: Bad Gateway",
    ],
    "command_missing": ["error: linker `cc` not found"],
    "time_limit": ["Error: UPGRADE FAILED: timed out waiting for the condition"],
    "test_assertion": [
        "   Assert.Equal() Failure: Values differ",
        # Playwright.
        "    Error: expect(locator).toBeVisible() failed",
        "    Error: expect(page).toHaveTitle() failed",
    ],
    "python_module_missing": ["ERROR Unmet dependencies (checked against /w/bin/python):"],
    "autoconf_macro": ["configure.ac:200: error: possibly undefined macro: AX_CXX_COMPILE_STDCXX_11"],
    "tool_version": [
        "  CMake 9.9 or higher is required.  You are running version 3.25.1",
        "npm error code EBADENGINE",
        "error: cannot install package `depot 0.1.4`, it requires rustc 1.85 or newer, while the currently active rustc version is 1.82.0",
        "error NETSDK1045: The current .NET SDK does not support targeting .NET 9.0.",
    ],
    "docker_context": [
        "COPY failed: file not found in build context or excluded by .dockerignore: stat missing.txt: file does not exist"
    ],
    "docker_daemon": [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    ],
    "program_crash": [
        "make: *** [Makefile:11: test] Segmentation fault (core dumped)",
        "panic: assignment to entry in nil map",
        "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000f10 at pc 0x55d1e7b2c0a1",
    ],
    "type_mismatch": [
        'mux.go:677:24: cannot use "a" (untyped string constant) as int value in return statement\nnote: module requires Go 1.20'
    ],
    "name_not_declared": ['Error: Class "Foo\\Bar" not found'],
    "syntax_error": [
        "SyntaxError: from __future__ imports must occur at the beginning of the file",
        "meson.build:1:18: ERROR: Expecting rparen got comma.",
        "../lib/bidi.c:61:1: error: version control conflict marker in file",
        "Makefile:97: *** missing separator.  Stop.",
    ],
    "rust_ownership": [
        "error[E0382]: borrow of moved value: `parts`",
        "error[E0499]: cannot borrow `*v` as mutable more than once at a time",
        "error[E0502]: cannot borrow `*v` as mutable because it is also borrowed as immutable",
        "error[E0106]: missing lifetime specifier",
    ],
    "ruby_load": [
        "<internal:/w/rubygems/core_ext/kernel_require.rb>:85:in `require': cannot load such file -- nokogiri (LoadError)",
        "Could not find gem 'rake (~> 13.0)' in locally installed gems.",
    ],
    "configure_check": ["configure: error: libevent is required"],
    "text_encoding": [
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe9 in position 31: invalid continuation byte",
        "src/Main.java:19: error: unmappable character (0xC3) for encoding US-ASCII",
    ],
    "config_syntax": [
        "tomllib.TOMLDecodeError: Illegal character '\\n' (at line 6, column 17)",
        "error: failed to parse manifest at `/w/Cargo.toml`",
    ],
}


CMAKE_OPTIONAL = """\
-- Checking for module 'xputty'
--   Package 'xputty', required by 'virtual:world', not found
CMake Error at CMakeLists.txt:20 (include):
  include could not find requested file:

    Utils.cmake

-- Configuring incomplete, errors occurred!
"""


def suggested(text: str) -> FixSuggestion:
    return answer(examine(SuggestionRequest(log=text), shipped_failures()))


@pytest.mark.parametrize(("line", "failure"), [(line, failure) for failure, lines in KNOWN.items() for line in lines])
def test_line_of_a_tool_shows_its_failure(line: str, failure: str) -> None:
    assert suggested(line).incident == failure


@pytest.mark.parametrize(
    "line",
    [
        "main.go:5:6: func total is unused (U1000)",
        "shop/state.go:12:2: missing cases in switch of type shop.State: shop.Closed (exhaustive)",
    ],
)
def test_findings_of_staticcheck_and_golangci_are_known(line: str) -> None:
    assert suggested(line).incident == "lint_finding"


def test_error_of_an_example_of_rspec_is_known_although_its_message_has_a_line_of_its_own() -> None:
    log = """\
Failures:

  1) Cart adds a line
     Failure/Error: Cart.new(Prce.new)

     NameError:
       uninitialized constant Cart::Prce
     # ./lib/cart.rb:10:in `add'

Finished in 0.03 seconds (files took 0.08 seconds to load)
"""
    suggestion = suggested(log)

    assert suggestion.incident == "name_not_declared"
    assert suggestion.confidence > 0.9


def test_error_that_werror_made_of_a_warning_is_quoted_and_not_its_summary() -> None:
    error = "cJSON.c:3192:12: error: 'z' defined but not used [-Werror=unused-function]"
    first = suggested(f"{error}\ncc1: all warnings being treated as errors\n")

    assert first.incident == "warning_as_error"
    assert [quote.text for quote in first.quotes] == [error]


def test_wheel_that_an_old_pip_does_without_does_not_explain_the_failure_after_it() -> None:
    log = """\
  Building wheel for z (setup.py): finished with status 'error'
  ERROR: Command errored out with exit status 1:
   command: /usr/bin/python3 -u -c 'import setuptools'
  Complete output (1 lines):
  no wheel today
  ----------------------------------------
  ERROR: Failed building wheel for z
Failed to build z
    Running setup.py install for z: finished with status 'done'
Successfully installed z-1
"""
    survived = suggested(f"{log}E   KeyError: 'colour'\nFAILED tests/test_z.py::test_z - KeyError: 'colour'\n")
    fatal = suggested(log.replace("Successfully installed z-1\n", ""))

    assert survived.incident is None
    assert "KeyError: 'colour'" in survived.quotes[0].text
    assert fatal.incident == "python_wheel_failed"


def test_progress_of_test_runners_is_no_failed_assertion() -> None:
    pytest_log = "E                                                      [100%]\nERROR tests/test_z.py::test_z\n"
    phpunit_log = 'E                       1 / 1 (100%)\n\nError: Class "Foo" not found\n'

    assert [quote.text for quote in suggested(pytest_log).quotes] == ["ERROR tests/test_z.py::test_z"]
    assert [quote.text for quote in suggested(phpunit_log).quotes] == ['Error: Class "Foo" not found']


def test_wheel_that_failed_is_not_explained_away_by_a_later_installation_of_another_package() -> None:
    log = """\
  ERROR: Command errored out with exit status 1:
  z.c:1:10: fatal error: zlib.h: No such file or directory
  ----------------------------------------
  ERROR: Failed building wheel for My.Pkg
ERROR: Could not build wheels for My.Pkg, which is required to install pyproject.toml-based projects
"""
    alone = suggested(log)
    other = suggested(f"{log}Successfully installed coverage-7.0 my-pkg-extras-1.0\n")
    same = suggested(f"{log}Successfully installed coverage-7.0 my_pkg-1.0\n")

    assert alone.incident == "c_header_missing"
    assert other.incident == "c_header_missing"
    assert same.incident == "python_wheel_failed"


@pytest.mark.parametrize(
    "line",
    [
        "    - acme/shop 1.0 requires acme/depot dev-main -> no matching package found.",
        "   > Could not resolve org.acme:depot:2.1.",
        "AssertionError: Timed out retrying: Expected to find element: `#total`, but never found it.",
        'ERROR: failed to solve: process "/bin/sh -c depot install 1" did not complete successfully: exit code: 9',
    ],
)
def test_line_without_the_first_or_last_word_of_a_short_sign_does_not_match_it(line: str) -> None:
    assert suggested(line).incident not in {
        "cargo_dependency",
        "node_module_missing",
        "syntax_error",
        "command_missing",
    }


def test_package_that_apt_cannot_locate_after_a_failed_update_is_a_failure_of_the_network() -> None:
    failed_update = "Err:1 http://deb.example stable InRelease\n  Temporary failure resolving 'deb.example'\n"
    missing = "E: Unable to locate package depot\n"

    assert suggested(failed_update + missing).incident == "network_failed"
    assert suggested(missing).incident == "apt_package"


def test_status_of_an_optional_library_does_not_explain_an_error_of_cmake() -> None:
    suggestion = suggested(CMAKE_OPTIONAL)

    assert suggestion.incident is None
    assert "CMake Error at CMakeLists.txt:20 (include):" in [quote.text for quote in suggestion.quotes]
