"""What the responder remembers: incidents and their timelines, acts, approvals, and what every process of it must agree on."""
