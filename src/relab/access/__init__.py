"""Access control: tokens, their scopes, and the authorization of requests."""
