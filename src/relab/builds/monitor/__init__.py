"""Real builds: the file that describes a project, its copy, the build in a sandbox, its log, and its record.

A project and a configuration come in; a stored `Build` goes out.
"""
