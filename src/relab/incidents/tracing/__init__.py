"""Each incident as an agent run, projected from what is written down of it, so that it is explained as any other run is."""
