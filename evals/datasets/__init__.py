"""Converters: one real record in, the body of one `POST /agent-runs` out.

They are pure functions over parsed JSON, they read what the run itself recorded, and
they never read a label: what an annotator wrote about a run must not reach its body.
"""
