"""`mixdown profiles export` and `import`: profiles to and from files, pipes and Mixpanel projects."""
