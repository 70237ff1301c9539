"""Progress events of long work, kept as rows and followed by readers."""
