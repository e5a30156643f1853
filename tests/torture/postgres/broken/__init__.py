"""On PYTHONPATH of nodes that are broken on purpose: `sitecustomize` is what Python imports by itself."""
