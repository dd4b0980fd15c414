"""What softgrad does otherwise than a peer: patterns of the names of the peer's tests, each with its reason."""

import re

import pytest


class Differences:
    """Expect a peer's tests to fail where softgrad differs on purpose.

    A test that passes all the same fails the run, and so does a pattern that fits no test.

    Parameters
    ----------
    peer : str
    reasons : dict of str to str
        Why the tests fail whose ids hold a match of the regular expression.
    """

    def __init__(self, peer: str, reasons: dict[str, str]) -> None:
        self.peer = peer
        self.reasons = reasons
        self.tests: dict[str, int] = dict.fromkeys(reasons, 0)

    def expect(self, items: list[pytest.Item]) -> None:
        """Mark ``items``, all that were collected."""
        for item in items:
            for pattern, reason in self.reasons.items():
                if re.search(pattern, item.nodeid):
                    self.tests[pattern] += 1
                    item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
        unused = [pattern for pattern, count in self.tests.items() if not count]
        if unused:
            raise pytest.UsageError(f"differences from {self.peer} that fit no test: {unused}")

    def report(self, reporter: pytest.TerminalReporter) -> None:
        """Write each difference, with the number of its tests and its reason."""
        reporter.section(f"deliberate differences from {self.peer}")
        for pattern, reason in self.reasons.items():
            reporter.write_line(f"{self.tests[pattern]:4d}  {reason}")
