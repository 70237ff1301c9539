"""What tests share: real servers, real processes, sample runs, and waiting for conditions."""
