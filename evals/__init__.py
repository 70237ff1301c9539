"""Accuracy on real data. Run apart from the tests; every figure is printed with its n."""
