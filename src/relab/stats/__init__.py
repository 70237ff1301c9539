"""Statistics as pure functions. Import from the modules; they import scipy only inside the functions that use it."""
