# none | memory | dependency | timeout | pull | flaky
FAULT = none
