"""Experiments: each a configuration, the trials it needs, and the result made from them."""

FIRST_TO_LAST = (
    "figure1",
    "learning_rate",
    "initialisation",
    "gradient_flow",
    "robustness",
    "regularisation",
    "placement",
    "output_layer",
    "bias",
    "norms",
    "activations",
    "perils",
    "statistics",
    "drift",
    "inception_steps",
    "residual",
    "speech",
    "raw_features",
    "covariate_shift",
)
"""Modules in the order in which a reader meets them; others follow by name."""
