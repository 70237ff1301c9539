"""Accuracy on real data. Run separately from the tests; every figure is printed with its n."""
