"""Recording from the loops of other libraries; import the module of the one that you use."""
