"""From a cause to an act and its proof: what is planned, what is allowed, how it is asked for, and whether it helped."""
