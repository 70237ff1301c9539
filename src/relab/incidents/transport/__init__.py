"""HTTP as the responder uses it: a new connection for each request, bounded bodies, and the offset between two clocks.

In: addresses and headers. Out: clients for one request, and the difference between the clock of a server and the local
one.
"""
