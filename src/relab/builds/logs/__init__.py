"""Read logs of builds, and find the lines that explain a failure.

In: the bytes of the log of a failed build. The log of a build that passed can be given for comparison. Out:
`RelevantLine`s. All modules except `reading.py` and `shortened.py` are pure.
"""

from relab.builds.logs.models import BuildLine, BuildLog, LineRole, RelevantLine
from relab.builds.logs.reading import read_log
from relab.builds.logs.relevance import closing_lines, relevant_lines

__all__ = ["BuildLine", "BuildLog", "LineRole", "RelevantLine", "closing_lines", "read_log", "relevant_lines"]
