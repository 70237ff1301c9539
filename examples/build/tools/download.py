"""Get the fonts of the manual; with FAULT=pull they are at an address that nothing serves."""

import os
import socket
import sys

if os.environ["FAULT"] == "pull":
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=2)
    except OSError as error:
        sys.exit(f"error: failed to pull http://127.0.0.1:9/fonts/report-1.4.tar.gz: {error.strerror}")
