"""HTTP for the responder: a client for each request, a size limit on bodies, and the offset of a server's clock.

In: settings of clients, and responses with their headers. Out: clients for one request, the bytes of bodies, and the
difference between the clock of a server and the local one.
"""
