"""The output layers of classifiers: what they compute, how they are trained, and their registry."""
