"""A local page that tags the clips which are dropped on it."""
