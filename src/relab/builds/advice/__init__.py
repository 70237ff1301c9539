"""Suggestions as they are stored: made with what verdicts and past builds taught, listed, accepted and rejected."""
