"""What is told of an incident afterwards: from what was written down to a page for people."""
