"""From facts to a cause: which runbooks fit, how sure that is, and which look would tell more."""
