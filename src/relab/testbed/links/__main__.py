"""`python -m relab.testbed.links CONFIG`: run the links of one testbed."""

from __future__ import annotations

import sys

from relab.testbed.links.server import main

if __name__ == "__main__":
    main(sys.argv[1])
