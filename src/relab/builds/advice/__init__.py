"""Stored suggestions of fixes: made with the help of verdicts and past builds, listed, accepted and rejected."""
