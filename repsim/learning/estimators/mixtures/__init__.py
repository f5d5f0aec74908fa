"""Rules that mix a synthetic gradient with the gradient from above: without bias, or with the least error."""
